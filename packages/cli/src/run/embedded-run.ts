import { pathToFileURL } from 'node:url';
import { type Accounting, EmbeddedVm, type GuestMachine, Host } from '@pinion/vm';
import type { Context } from '../context.js';
import { cliErrors } from '../errors.js';
import type { Progress } from '../progress.js';
import type { RunPlan, StartedVm } from './run.js';

/** What a guest program's module exports. */
type Program = (machine: GuestMachine, print: (text: string) => void) => unknown;

const isProgram = (value: unknown): value is Program => typeof value === 'function';

/** A VM of the embedded hypervisor: the guest is a module's function. */
export class EmbeddedRun implements StartedVm {
  readonly #host: Host;
  readonly #vm: EmbeddedVm;

  private constructor(host: Host, vm: EmbeddedVm) {
    this.#host = host;
    this.#vm = vm;
  }

  /** Plugs the devices in one by one, and says what each of them took. */
  static async start(plan: RunPlan, { output, around }: Context, progress: Progress): Promise<EmbeddedRun> {
    const { description, registry, devices } = plan;
    progress.show('building the host');
    const host = await Host.create(description, { registry, log: output, clock: around.clock });
    try {
      const vm = await EmbeddedVm.start(host, description, { plug: [] });
      for (const [index, name] of devices.entries()) {
        progress.show(`plugging in ${name} (${index + 1} of ${devices.length})`);
        await vm.plug(name);
        const { lockedPages } = vm.accounting;
        progress.clear();
        output.event(
          { event: 'plugged', device: name, lockedPages },
          `${name}: plugged in, ${lockedPages} pages locked`,
        );
      }
      return new EmbeddedRun(host, vm);
    } catch (cause) {
      await host.close();
      throw cause;
    }
  }

  get accounting(): Accounting {
    return this.#vm.accounting;
  }

  async run(program: string, print: (text: string) => void): Promise<void> {
    const main = await loadProgram(program);
    await this.#vm.run(async (machine) => main(machine, print));
  }

  async end(): Promise<Accounting> {
    await this.#vm.stop();
    const left = this.#vm.accounting;
    await this.#host.close();
    return left;
  }
}

/** @throws CLI_NO_PROGRAM (ENOENT). */
async function loadProgram(file: string): Promise<Program> {
  const module: Readonly<Record<string, unknown>> = await import(pathToFileURL(file).href).catch((cause: unknown) => {
    throw cliErrors.NO_PROGRAM({ file, problem: cause instanceof Error ? cause.message : String(cause) }, cause);
  });
  const { default: main } = module;
  if (isProgram(main)) return main;
  throw cliErrors.NO_PROGRAM({ file, problem: 'its default export is no function' });
}
