import type { TestContext } from 'node:test';
import type { Clock, Log } from '@pinion/core';
import { deviceKinds, type KindOptions } from '@pinion/example-devices';
import { readGuest, type V86Options, V86Vm, v86 } from '@pinion/v86';
import { createRegistry, type EmbeddedVm, Host, readDescription, type VmDescription } from '@pinion/vm';

/** What is due at once happens in the next turn of the event loop; what is due later never comes. */
export class TurnClock implements Clock {
  now(): number {
    return 0;
  }

  after(delay: number, action: () => void): () => void {
    if (delay > 0) return () => {};
    const turn = setImmediate(action);
    return () => clearImmediate(turn);
  }
}

export const guestFile = (name: string): URL => new URL(`../../guest/${name}`, import.meta.url);
export const DEVICES_IMAGE = await readGuest('devices');

export const DESCRIPTION = `
name: pc
hypervisor: v86
memory:
  - { name: ram, at: 0, size: 4M }
parents:
  - { name: card, driver: edu }
  - { name: board, driver: gpio-idio-16 }
  - { name: ssd, driver: nvme, size: 1M }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: edu, driver: edu, type: card, parent: card, uuid: 00000000-0000-0000-0000-000000000001 }
      - { name: gpio, driver: gpio-idio-16, type: board, parent: board, uuid: 00000000-0000-0000-0000-000000000002 }
      - { name: nvme, driver: nvme, type: disk, parent: ssd, uuid: 00000000-0000-0000-0000-000000000003 }
`;

export interface PcOptions extends Partial<V86Options> {
  readonly kinds?: KindOptions;
  readonly description?: (text: string) => string;
  readonly clock?: Clock;
}

export interface Pc {
  readonly vm: V86Vm;
  readonly host: Host;
  /** What was printed, in lines. */
  readonly lines: readonly string[];
  readonly warnings: readonly string[];
}

export function pcDescription(registry: ReturnType<typeof createRegistry>, text: string): VmDescription {
  const result = readDescription({ text, folder: '.' }, registry);
  if (result.ok) return result.description;
  throw new TypeError(JSON.stringify(result.problems));
}

/** A PC with the example devices and a kernel that drives them; it is gone after the test. `commandLine` says what the kernel does. */
export async function startPc(t: TestContext, options: PcOptions = {}): Promise<Pc> {
  const { kinds = {}, description = (text) => text, clock = new TurnClock(), ...more } = options;
  const registry = createRegistry({
    kinds: deviceKinds({ ...kinds, edu: { dmaDelay: 0, ...kinds.edu } }),
    hypervisors: [v86],
  });
  const warnings: string[] = [];
  const log: Log = { info: () => {}, warn: (message) => void warnings.push(message) };
  const described = pcDescription(registry, description(DESCRIPTION));
  const host = await Host.create(described, { registry, clock, log });
  t.after(() => host.close());
  const vm = await V86Vm.start(host, described, { image: DEVICES_IMAGE, ...more });
  const lines: string[] = [];
  vm.serial.onLine((line) => void lines.push(line));
  return { vm, host, lines, warnings };
}

/** What a VM holds, as plain values. */
export function held(vm: EmbeddedVm): { mappings: number; pins: number; locked: number; held: number } {
  const { mappings, pinnedPages, lockedPages, heldPages } = vm.accounting;
  const pins = [...pinnedPages.values()].reduce((sum, pages) => sum + pages, 0);
  return { mappings, pins, locked: lockedPages, held: heldPages };
}

export const NOTHING = { mappings: 0, pins: 0, locked: 0, held: 0 };

/** Until the guest has printed a line that begins so. The event loop turns meanwhile, as it does for devices. */
export async function printed({ vm }: Pc, beginning: string): Promise<void> {
  if (vm.serial.output.split('\n').some((line) => line.startsWith(beginning))) return;
  await new Promise<void>((resolve) => {
    const undo = vm.serial.onLine((line) => {
      if (!line.startsWith(beginning)) return;
      undo();
      resolve();
    });
  });
}

/** How work ends that is cut short: its error, or `done`. */
export const outcome = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (cause: unknown) => cause,
  );
export const nameOf = (cause: unknown): string => (cause instanceof Error ? cause.name : String(cause));
/** One turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
