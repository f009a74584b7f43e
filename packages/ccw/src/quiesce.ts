import type { Subchannel } from './subchannel.js';
import { SCSW } from './wire.js';

/** Milliseconds that a driver waits for the interruption of a halt or clear before it tries again. */
export const QUIESCE_WAIT = 3000;
const HALTS = 3;
export const CLEARS = 255;

/**
 * What one attempt came to. `idle`: nothing is in progress; `busy`: wait for an interruption, then try again; `stuck`:
 * every attempt is used up (EIO); `gone`: no such subchannel (ENODEV).
 */
export type Cancelled = 'idle' | 'busy' | 'stuck' | 'gone';

/**
 * Attempts to end whatever a subchannel does: XSCH once, then up to 3 HSCH, then 255 CSCH, one instruction (or two)
 * per call. Source: cio_cancel_halt_clear().
 */
export class CancelHaltClear {
  readonly #subchannel: Subchannel;
  #retries: number;

  constructor(subchannel: Subchannel, retries: number = CLEARS) {
    this.#subchannel = subchannel;
    this.#retries = retries;
  }

  attempt(): Cancelled {
    const status = this.#subchannel.stsch();
    if (status === undefined) return 'gone';
    if (!status.enabled) return 'idle';
    const { activity } = status;
    if ((activity & (SCSW.HALT_PENDING | SCSW.CLEAR_PENDING)) === 0) {
      const cancelled = this.#cancel();
      if (cancelled !== undefined) return cancelled;
      this.#retries = HALTS;
    }
    if ((activity & SCSW.CLEAR_PENDING) === 0) {
      const halted = this.#halt();
      if (halted !== undefined) return halted;
      this.#retries = CLEARS;
    }
    return this.#clear();
  }

  /** @returns undefined when there is nothing that could be cancelled. */
  #cancel(): Cancelled | undefined {
    const cc = this.#subchannel.xsch();
    return cc === 2 ? undefined : (['idle', 'busy', 'busy', 'gone'] as const)[cc];
  }

  /** @returns undefined when halting did not help. */
  #halt(): Cancelled | undefined {
    if (this.#retries === 0) return undefined;
    this.#retries -= 1;
    const cc = this.#subchannel.hsch();
    return cc === 1 || cc === 2 ? undefined : cc === 0 ? 'busy' : 'gone';
  }

  #clear(): Cancelled {
    if (this.#retries === 0) return 'stuck';
    this.#retries -= 1;
    return this.#subchannel.csch() === 0 ? 'busy' : 'gone';
  }
}
