import { readFileSync } from 'node:fs';
import { type Accounting, findQemuKit, kitFolder, QemuVm, refusalOf } from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import type { Progress } from '../progress.js';
import type { RunPlan, StartedVm } from './run.js';

/** Milliseconds that a guest's program may take: an hour, since only a person can know better. */
const PROGRAM_LIMIT = 3_600_000;

/** A VM in a real QEMU: the guest is an unmodified Linux, its program shell code. */
export class QemuRun implements StartedVm {
  readonly #vm: QemuVm;

  private constructor(vm: QemuVm) {
    this.#vm = vm;
  }

  /** Boots with the devices that a real QEMU can have, and names the others. */
  static async start(plan: RunPlan, { output, around }: Context, progress: Progress): Promise<QemuRun> {
    const { description, registry, modules, memory } = plan;
    const kit = findQemuKit(kitFolder(around.environment));
    const wanted = description.containers
      .flatMap(({ devices }) => devices)
      .filter(({ name }) => plan.devices.includes(name));
    for (const device of wanted) {
      const reason = refusalOf(device, registry);
      if (reason !== undefined)
        output.event({ event: 'absent', device: device.name, reason }, `${device.name}: absent, ${reason}`);
    }
    const devices = wanted.filter((device) => refusalOf(device, registry) === undefined).map(({ name }) => name);
    progress.show(`booting Linux ${kit.kernelVersion} with ${devices.join(', ') || 'no devices'}`);
    const contents = { modules, programs: true };
    return new QemuRun(
      await QemuVm.start(description, { registry, devices, kit, contents, memory, log: output, clock: around.clock }),
    );
  }

  get accounting(): Accounting {
    return this.#vm.accounting;
  }

  async run(program: string, print: (text: string) => void): Promise<void> {
    const text = await this.#vm.guest.sh(readProgram(program), PROGRAM_LIMIT);
    if (text !== '') print(text);
  }

  /** Descriptors that are left count as held: nothing of this process may outlive the VM. */
  async end(): Promise<Accounting> {
    const left = await this.#vm.close();
    return {
      ...this.#vm.accounting,
      mappings: left.mappings,
      lockedPages: left.lockedPages,
      heldPages: left.pins + left.open.length,
    };
  }
}

function readProgram(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw cliErrors.NO_PROGRAM({ file, problem: cause instanceof Error ? cause.message : String(cause) }, cause);
  }
}
