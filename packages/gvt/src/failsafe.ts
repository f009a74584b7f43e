import type { Log } from '@pinion/core';

/**
 * Whether a vGPU has given up on its guest: one that does not know that it runs on a vGPU, or has broken its rules. All registers
 * and the table are then plain memory, and pages that are trapped are let go; only a reset of the device ends it.
 * Source: i915 gvt handlers.c, enter_failsafe_mode().
 */
export class Failsafe {
  readonly #device: string;
  readonly #log: Log;
  #reason: string | undefined;

  constructor(device: string, log: Log) {
    this.#device = device;
    this.#log = log;
  }

  get active(): boolean {
    return this.#reason !== undefined;
  }

  /** Why; undefined while everything works. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** The first reason counts. */
  enter(reason: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#log.warn(`vGPU ${this.#device} emulates nothing any more until it is reset: ${reason}`);
  }

  clear(): void {
    this.#reason = undefined;
  }
}
