import { readFileSync } from 'node:fs';
import { pcPart, readGuest, V86Vm } from '@pinion/v86';
import { type Accounting, Host } from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import type { Progress } from '../progress.js';
import type { RunPlan, StartedVm } from './run.js';

/** A VM on an x86 CPU in this process: the guest is a multiboot kernel, and what it prints on its console is printed. */
export class V86Run implements StartedVm {
  readonly #host: Host;
  readonly #vm: V86Vm;

  private constructor(host: Host, vm: V86Vm) {
    this.#host = host;
    this.#vm = vm;
  }

  /** Plugs in the devices that a PC can have, and names the others. */
  static async start(plan: RunPlan, { output, around }: Context, progress: Progress): Promise<V86Run> {
    const { description, absent } = pcPart(plan.description, plan.registry);
    for (const [device, reason] of absent)
      output.event({ event: 'absent', device, reason }, `${device}: absent, ${reason}`);
    const there = description.containers.flatMap(({ devices }) => devices.map(({ name }) => name));
    const plug = plan.devices.filter((name) => there.includes(name));
    progress.show(`plugging in ${plug.join(', ') || 'no devices'}`);
    const image = plan.program === undefined ? await readGuest('devices') : readKernel(plan.program);
    const host = await Host.create(description, { registry: plan.registry, log: output, clock: around.clock });
    try {
      return new V86Run(host, await V86Vm.start(host, description, { image, plug }));
    } catch (cause) {
      await host.close();
      throw cause;
    }
  }

  get accounting(): Accounting {
    return this.#vm.vm.accounting;
  }

  /** @throws CLI_GUEST_FAILED (EIO) unless the kernel ends the machine with code 0. */
  async run(program: string, print: (text: string) => void): Promise<void> {
    const silence = this.#vm.serial.onLine(print);
    try {
      const end = await this.#vm.run();
      const how = end.kind === 'exit' ? `with code ${end.code}` : 'by a halt with interrupts off';
      if (end.kind !== 'exit' || end.code !== 0) throw cliErrors.GUEST_FAILED({ program, how });
    } finally {
      silence();
    }
  }

  async end(): Promise<Accounting> {
    await this.#vm.stop();
    const left = this.#vm.vm.accounting;
    await this.#host.close();
    return left;
  }
}

function readKernel(file: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(file));
  } catch (cause) {
    throw cliErrors.NO_PROGRAM({ file, problem: cause instanceof Error ? cause.message : String(cause) }, cause);
  }
}
