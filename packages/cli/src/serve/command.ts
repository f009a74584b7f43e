import { dirname, resolve } from 'node:path';
import { EXTENSION, PAGE_SHIFT } from '@pinion/core';
import { linuxSys } from '@pinion/sys';
import { PROFILES, type Profile, QUIRKS, type Quirk, type Type1Options } from '@pinion/type1';
import { activatedSockets } from '@pinion/vfio-user';
import { type Command, Option } from 'commander';
import type { Context, Runner } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { oneOf, parseBytes, parseWhole } from '../option-values.js';
import type { Output } from '../output.js';
import { stopSignal } from '../stop-signal.js';
import type { Surroundings } from '../surroundings.js';
import { printCapabilities } from './capabilities.js';
import { loadConfig, type ServeConfig } from './config-file.js';
import type { DeviceRequest } from './device-request.js';
import { parseDeviceSpec } from './device-spec.js';
import { ONLY_DRIVER, planDevices } from './plan.js';
import { loadPlugin, type ModuleName } from './plugin-module.js';
import { nothingLeft, sayStopped } from './serve-event.js';
import { Serving, type ServingOptions } from './serving.js';

const IOMMU_TYPES = { type1v2: EXTENSION.TYPE1v2_IOMMU, type1: EXTENSION.TYPE1_IOMMU } as const;

/** Each look takes about a microsecond. */
const SPIN = [0, 1_000_000] as const;

interface ServeFlags {
  readonly device: readonly string[];
  readonly config?: string;
  readonly plugin: readonly string[];
  readonly socketPath?: string;
  readonly fd?: string;
  readonly image?: string;
  readonly size?: string;
  readonly readOnly?: true;
  readonly type?: string;
  readonly vm?: string;
  readonly memlock?: string;
  readonly profile?: Profile;
  readonly quirk: readonly string[];
  readonly iommu: keyof typeof IOMMU_TYPES;
  readonly dialect: 'qemu' | 'cloud-hypervisor';
  readonly once?: true;
  readonly spin: string;
  readonly printCapabilities?: true;
}

// why: Object.keys forgets that the keys of QUIRKS are the names of quirks
const quirkNames = Object.keys(QUIRKS) as Quirk[];

const more = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

const EXAMPLES = `
KIND is a device of the table (--print-capabilities lists them), or a vendor driver of a plugin.
KEY: name, socket, fd, type, vm, uuid, image, size, readOnly, interrupts, option.NAME (for a plugin's function).

  pinion serve --device nvme --image disk.img --socket-path /run/disk.sock
  pinion serve --device nvme,image=a.img,socket=a.sock --device gpio-idio-16,socket=b.sock
  pinion serve --plugin ./my-device.js --device my-driver --type small --socket-path my.sock
  pinion serve --config devices.yaml`;

/** Adds `pinion serve`. */
export function addServe(program: Command, run: Runner): void {
  const command = program
    .command('serve')
    .description('serve devices to VMMs over vfio-user sockets, until SIGTERM')
    .option('--device <KIND[,KEY=VALUE]...>', 'a device; again for more, which share one container', more, [])
    .option('--config <FILE>', 'devices from a YAML or JSON file')
    .option('--plugin <MODULE>', 'a path or package that exports a plugin; again for more', more, [])
    .option('--socket-path <PATH>', 'where the only device listens')
    .option('--fd <N>', 'the only device is served on this inherited descriptor, connected or listening')
    .option('--image <FILE>', "the only device's image")
    .option('--size <BYTES>', "the only device's size, instead of an image: 64M")
    .option('--read-only', 'the only device refuses writes')
    .option('--type <TYPE>', 'which type of its driver the only device is')
    .option('--vm <NAME>', 'name of the VM, for messages and UUIDs; auto: VMs are recognised by the memory they map')
    .option('--memlock <BYTES>', 'RLIMIT_MEMLOCK of the VM; default: unlimited')
    .addOption(new Option('--iommu <TYPE>', 'the container').choices(Object.keys(IOMMU_TYPES)).default('type1v2'))
    .addOption(new Option('--profile <PROFILE>', 'whose answers type1 gives').choices(PROFILES))
    .option('--quirk <NAME>', 'a mistake of kernels to make; again for more', more, [])
    .addOption(
      new Option('--dialect <VMM>', 'whose habits to respect').choices(['qemu', 'cloud-hypervisor']).default('qemu'),
    )
    .option(
      '--spin <N>',
      'look for the next message N times before going to sleep: faster, for a CPU that is busy',
      '0',
    )
    .option('--once', 'one client per device, then the end')
    .option('--print-capabilities', 'print as JSON what can be served, and end')
    .addHelpText('after', EXAMPLES);
  run(command, serve);
}

/** Serves until a signal comes or no client can come any more. @returns the exit code. */
async function serve(flags: ServeFlags, { output, around }: Context): Promise<number> {
  if (flags.printCapabilities === true) return printCapabilities(around);
  const options = await optionsOf(flags, around);
  const sys = linuxSys();
  const signal = stopSignal(around);
  try {
    const serving = await Serving.start(options, { sys, output, around });
    output.event({ event: 'ready', devices: options.devices.length }, undefined);
    const reason = await Promise.race([signal.heard, serving.done.then(() => 'no client can come any more')]);
    output.event({ event: 'stopping', reason }, `stopping: ${reason}`);
    return await stop(serving, output);
  } finally {
    signal.ignore();
  }
}

/** Says what is left, also when something failed on the way. */
async function stop(serving: Serving, output: Output): Promise<number> {
  let code: number = EXIT.OK;
  try {
    await serving.stop();
  } catch (cause) {
    output.failed(cause);
    code = EXIT.FAILED;
  }
  const left = serving.leftovers;
  sayStopped(output, left);
  return nothingLeft(left) ? code : EXIT.LEFTOVERS;
}

/** Everything is checked here, before anything starts. @throws CLI_BAD_VALUE, CLI_BAD_DEVICE, CLI_BAD_CONFIG, CLI_BAD_PLAN (EINVAL), CLI_NO_FILE, CLI_NO_PLUGIN (ENOENT). */
async function optionsOf(flags: ServeFlags, around: Surroundings): Promise<ServingOptions> {
  const { folder } = around;
  const config = flags.config === undefined ? undefined : loadConfig(resolve(folder, flags.config));
  const requests = [...(config?.devices ?? []), ...requestsOf(flags, folder, config !== undefined)];
  const vm = flags.vm ?? config?.vm;
  const activated = activatedSockets(around.environment, around.pid);
  const devices = planDevices(requests, { activated, ...(vm === undefined ? {} : { vm }) });
  const memlock = flags.memlock === undefined ? config?.memlock : parseBytes('--memlock', flags.memlock);
  return {
    devices,
    plugins: await Promise.all(modulesOf(flags, config, folder).map((module) => loadPlugin(module))),
    type1: type1Of(flags, config),
    vm: {
      iommuType: IOMMU_TYPES[flags.iommu],
      ...(memlock === undefined ? {} : { lockLimit: Number(memlock >> BigInt(PAGE_SHIFT)) }),
    },
    readsNeverFail: flags.dialect === 'cloud-hypervisor',
    once: flags.once ?? false,
    transport: { spin: parseWhole('--spin', flags.spin, SPIN) },
  };
}

/** The devices of the command line; options beside the only one are its. */
function requestsOf(flags: ServeFlags, folder: string, hasConfig: boolean): readonly DeviceRequest[] {
  const { socketPath: socket, fd, image, size, readOnly, type } = flags;
  const given = Object.entries({ socket, fd, image, size, readOnly, type }).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, String(value)] as const],
  );
  const onlyPlugin = flags.device.length === 0 && flags.plugin.length === 1 && !hasConfig;
  const specs = onlyPlugin ? [ONLY_DRIVER] : flags.device;
  if (specs.length === 0 && !hasConfig) {
    throw cliErrors.BAD_PLAN({ problem: 'there is nothing to serve; name a --device or a --config' });
  }
  if (given.length > 0 && (specs.length !== 1 || hasConfig)) {
    const keys = given.map(([key]) => key).join(', ');
    throw cliErrors.BAD_PLAN({
      problem: `${keys}: an option of its own is for the only device; of several, each says it after its KIND`,
    });
  }
  return specs.map((spec) => parseDeviceSpec(spec, { folder, more: given }));
}

/** Paths in a file begin at its folder. */
function modulesOf(flags: ServeFlags, config: ServeConfig | undefined, folder: string): readonly ModuleName[] {
  const ofFile = flags.config === undefined ? folder : dirname(resolve(folder, flags.config));
  return [
    ...(config?.plugins ?? []).map((name) => ({ name, folder: ofFile })),
    ...flags.plugin.map((name) => ({ name, folder })),
  ];
}

function type1Of(flags: ServeFlags, config: ServeConfig | undefined): Type1Options {
  const profile = flags.profile ?? config?.profile;
  const quirks = flags.quirk.map((name) => oneOf('--quirk', name, quirkNames));
  return { quirks, ...(profile === undefined ? {} : { profile }) };
}
