import { resolve } from 'node:path';
import { deviceKinds } from '@pinion/example-devices';
import { v86 } from '@pinion/v86';
import { type Accounting, createRegistry, loadDescription, qemu, type Registry, type VmDescription } from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { oneOf, parseWhole } from '../option-values.js';
import { Progress } from '../progress.js';
import { stopSignal } from '../stop-signal.js';
import { accountOf, accountText, isEmpty } from './account-text.js';
import { EmbeddedRun } from './embedded-run.js';
import { QemuRun } from './qemu-run.js';
import { V86Run } from './v86-run.js';

export interface RunFlags {
  readonly check?: true;
  readonly program?: string;
  readonly stay?: true;
  readonly hypervisor?: string;
  readonly without: readonly string[];
  readonly module: readonly string[];
  readonly memory: string;
}

/** What a run is about. */
export interface RunPlan {
  readonly description: VmDescription;
  readonly registry: Registry;
  /** Devices that are plugged in, in this order. */
  readonly devices: readonly string[];
  /** A file. */
  readonly program: string | undefined;
  /** Kernel modules and MiB, for a real QEMU. */
  readonly modules: readonly string[];
  readonly memory: number;
}

/** A VM that was started. */
export interface StartedVm {
  readonly accounting: Accounting;
  /** Runs the program. @returns what it has to say, if it says anything at the end. */
  run(program: string, print: (text: string) => void): Promise<void>;
  /** Ends everything. @returns what is left. */
  end(): Promise<Accounting>;
}

/** How a hypervisor starts a VM; it says on the way what it does. */
export type StartVm = (plan: RunPlan, context: Context, progress: Progress) => Promise<StartedVm>;

const HYPERVISORS: Readonly<Record<'embedded' | 'v86' | 'qemu', StartVm>> = {
  embedded: EmbeddedRun.start,
  v86: V86Run.start,
  qemu: QemuRun.start,
};
/** MiB. */
const MEMORY = [64, 65_536] as const;

/** Runs a VM from its description to its end. @returns the exit code. */
export async function runVm(flags: RunFlags, context: Context, args: readonly string[]): Promise<number> {
  const { output, around } = context;
  const plan = planOf(flags, resolve(around.folder, args[0] ?? ''), around.folder);
  const name = oneOf('--hypervisor', flags.hypervisor ?? plan.description.hypervisor, ['embedded', 'v86', 'qemu']);
  if (flags.check === true) {
    const { containers, memory } = plan.description;
    const devices = containers.flatMap((container) => container.devices).length;
    output.event(
      { event: 'checked', vm: plan.description.name, devices },
      `${plan.description.name}: ${devices} devices, ${memory.length} memory regions: nothing to complain about`,
    );
    return EXIT.OK;
  }
  const progress = new Progress(around, output);
  const vm = await HYPERVISORS[name](plan, context, progress).finally(() => progress.clear());
  try {
    report(context, 'started', vm.accounting);
    await work(vm, plan, { flags, context });
  } catch (cause) {
    await vm.end();
    throw cause;
  }
  const left = await vm.end();
  output.event({ event: 'ended', left: accountOf(left), ok: isEmpty(left) }, `ended: ${accountText(left)}`);
  return isEmpty(left) ? EXIT.OK : EXIT.LEFTOVERS;
}

/** The program, then (if it is to stay) the wait for a signal. */
async function work(
  vm: StartedVm,
  { program }: RunPlan,
  { flags, context }: { flags: RunFlags; context: Context },
): Promise<void> {
  const { output, around } = context;
  const signal = stopSignal(around);
  try {
    const print = (text: string): void => output.event({ event: 'printed', text }, text);
    if (program !== undefined) {
      const stopped = signal.heard.then((reason) =>
        Promise.reject(cliErrors.INTERRUPTED({ what: program, signal: reason })),
      );
      await Promise.race([vm.run(program, print), stopped]);
      report(context, 'program ended', vm.accounting);
    }
    if (flags.stay === true) {
      const reason = await signal.heard;
      output.event({ event: 'stopping', reason }, `stopping: ${reason}`);
    }
  } finally {
    signal.ignore();
  }
}

function report({ output }: Context, event: string, accounting: Accounting): void {
  output.event({ event: event.replace(' ', '-'), ...accountOf(accounting) }, `${event}: ${accountText(accounting)}`);
}

/** @throws VM_BAD_DESCRIPTION (EINVAL), VM_NO_FILE (ENOENT), CLI_BAD_VALUE (EINVAL). */
function planOf(flags: RunFlags, file: string, folder: string): RunPlan {
  const registry = createRegistry({ kinds: deviceKinds(), hypervisors: [v86, qemu] });
  const description = loadDescription(file, registry);
  const all = description.containers.flatMap(({ devices }) => devices.map(({ name }) => name));
  const without = flags.without.map((name) => oneOf('--without', name, all));
  return {
    description,
    registry,
    devices: all.filter((name) => !without.includes(name)),
    program: flags.program === undefined ? undefined : resolve(folder, flags.program),
    modules: flags.module,
    memory: parseWhole('--memory', flags.memory, MEMORY),
  };
}
