import type { Clock } from '@pinion/core';
import { ApInstructions } from './ap-instructions.js';
import { ChannelSubsystem } from './channel-subsystem.js';
import { vmErrors } from './errors.js';
import type { GuestMemory } from './guest-memory.js';
import type { PciFunction } from './pci-function.js';

/** A bus that functions appear on beside the guest machine: that of an emulated CPU. Called at hot plug. @returns the undo. */
export type PciBus = (slot: string, pci: PciFunction) => () => void;

/**
 * Everything a guest program can reach, and nothing more: its memory, the registers and interrupts of its PCI functions, the
 * channel subsystem and the AP instructions. (A real machine has either PCI graphics or channels; this one has both.)
 */
export class GuestMachine {
  readonly name: string;
  readonly memory: GuestMemory;
  readonly channels: ChannelSubsystem;
  readonly crypto: ApInstructions;
  readonly clock: Clock;
  readonly #functions = new Map<string, PciFunction>();
  readonly #bus: PciBus | undefined;

  constructor(name: string, memory: GuestMemory, { clock, bus }: { readonly clock: Clock; readonly bus?: PciBus }) {
    this.#bus = bus;
    this.name = name;
    this.memory = memory;
    this.clock = clock;
    this.channels = new ChannelSubsystem(memory);
    this.crypto = new ApInstructions(memory);
  }

  /** The PCI function in a slot. @throws VM_NO_FUNCTION (ENODEV). */
  pci(slot: string): PciFunction {
    const found = this.#functions.get(slot);
    if (found === undefined) throw vmErrors.NO_FUNCTION({ slot, there: [...this.#functions.keys()] });
    return found;
  }

  /** Called by the hypervisor at hot plug. @returns the undo, whose argument ends waits for interrupts. @throws what the bus throws. */
  plugFunction(slot: string, pci: PciFunction): (reason: unknown) => void {
    const leaveBus = this.#bus?.(slot, pci);
    this.#functions.set(slot, pci);
    return (reason) => {
      leaveBus?.();
      this.#functions.delete(slot);
      pci.disconnect(reason);
    };
  }
}
