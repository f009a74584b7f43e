import { resolve } from 'node:path';
import { deviceKinds } from '@pinion/example-devices';
import { v86 } from '@pinion/v86';
import { type Accounting, createRegistry, loadDescription, qemu, type Registry, type VmDescription } from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { oneOf, parseWhole } from '../option-values.js';
import { Progress } from '../progress.js';
import { type StopWish, stopSignal } from '../stop-signal.js';
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
  const signal = stopSignal(around); // before the start: what a VM has on disk and in other processes must not stay behind
  try {
    const left = await startAndEnd(HYPERVISORS[name], plan, { flags, context, signal });
    output.event({ event: 'ended', left: accountOf(left), ok: isEmpty(left) }, `ended: ${accountText(left)}`);
    return isEmpty(left) ? EXIT.OK : EXIT.LEFTOVERS;
  } finally {
    signal.ignore();
  }
}

/** What a run has around it. */
interface Surrounded {
  readonly flags: RunFlags;
  readonly context: Context;
  readonly signal: StopWish;
}

/** @returns what is left of the VM. */
async function startAndEnd(start: StartVm, plan: RunPlan, about: Surrounded): Promise<Accounting> {
  const { output, around } = about.context;
  const progress = new Progress(around, output);
  const vm = await start(plan, about.context, progress).finally(() => progress.clear());
  try {
    report(about.context, 'started', vm.accounting);
    await work(vm, plan, about);
  } catch (cause) {
    await vm.end();
    throw cause;
  }
  return vm.end();
}

/** The program, then (if it is to stay) the wait for a signal. One that came while the VM was started ends it now. */
async function work(vm: StartedVm, { program }: RunPlan, { flags, context, signal }: Surrounded): Promise<void> {
  const { output } = context;
  const print = (text: string): void => output.event({ event: 'printed', text }, text);
  if (program !== undefined) {
    if (signal.reason !== undefined) throw cliErrors.INTERRUPTED({ what: program, signal: signal.reason });
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
