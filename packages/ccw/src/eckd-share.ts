import type { ControlUnit } from './control-unit.js';

/**
 * Who may use a disk that several control units stand before: the one that reserved it, or all. Give the same share to
 * the units of one volume. Source: 3990 commands device reserve, device release and unconditional reserve.
 */
export class DiskShare {
  #owner: ControlUnit | undefined;
  #freed: (() => void) | undefined;
  #whenFreed: Promise<void> | undefined;

  /** The unit that reserved the disk. */
  get owner(): ControlUnit | undefined {
    return this.#owner;
  }

  /** Takes the disk, also away from another unit. */
  reserve(unit: ControlUnit): void {
    this.#owner = unit;
  }

  /** Gives the disk back if the unit has it. Programs of other units that wait go on. */
  release(unit: ControlUnit): void {
    if (this.#owner !== unit) return;
    this.#owner = undefined;
    this.#freed?.();
    this.#freed = undefined;
    this.#whenFreed = undefined;
  }

  /** @returns what settles when the disk is free, undefined if `unit` may use it now. */
  whenFree(unit: ControlUnit): Promise<void> | undefined {
    if (this.#owner === undefined || this.#owner === unit) return undefined;
    this.#whenFreed ??= new Promise((resolve) => {
      this.#freed = resolve;
    });
    return this.#whenFreed;
  }
}
