import { AsyncLocalStorage } from 'node:async_hooks';
import type { Clock } from './clock.js';
import { PinionError } from './errno.js';
import { coreErrors } from './errors.js';

/** The duties of a driver that core awaits. */
export type Duty = 'create' | 'open' | 'close' | 'reset' | 'remove' | 'dmaUnmap';

/** Who runs which duty. */
export interface DutyOf {
  readonly device: string;
  readonly driver: string;
  readonly duty: Duty;
}

interface Running {
  readonly who: DutyOf;
  /** Whose duty it is: that of one mediator says nothing to another. */
  readonly guard: DutyGuard;
  /** The duty inside which this one runs. */
  readonly outer: Running | undefined;
  settled: boolean;
}

// why (one for all guards): on Node below 24 every storage that was ever used is asked at every promise, for ever, so one per
// mediator would make each further mediator slow down the whole process.
const running = new AsyncLocalStorage<Running>();

/** The innermost duty that is not over, of this one and those around it. */
function unsettled(from: Running | undefined, of?: DutyGuard): Running | undefined {
  let found = from;
  while (found !== undefined && (found.settled || (of !== undefined && found.guard !== of))) found = found.outer;
  return found;
}

const reasonOf = (cause: unknown): string =>
  cause instanceof PinionError ? cause.toString() : cause instanceof Error ? cause.message : String(cause);

/**
 * Runs drivers' duties: knows (also across awaits) when an operation is called from inside one, gives a duty that never
 * settles an end, and names whoever failed.
 */
export class DutyGuard {
  readonly #clock: Clock;
  readonly #limit: number;

  /** `limit`: milliseconds a duty may take; 0 for no limit. */
  constructor(clock: Clock, limit: number) {
    this.#clock = clock;
    this.#limit = limit;
  }

  /**
   * Refuses an operation inside a duty that must not do it.
   * @throws PinionError CORE_REENTRY (EBUSY) naming the device whose duty is running.
   */
  refuseInside(operation: string, duties: readonly Duty[]): void {
    const inside = unsettled(running.getStore(), this);
    if (inside === undefined || !duties.includes(inside.who.duty)) return;
    throw coreErrors.REENTRY({ operation, ...inside.who });
  }

  /**
   * Runs one duty and waits for it.
   * @throws PinionError CORE_CALLBACK_TIMEOUT (ETIMEDOUT) when it did not settle in time - what it does later is ignored -
   * and whatever it threw itself.
   */
  async run<T>(who: DutyOf, action: () => T | Promise<T>): Promise<T> {
    const own: Running = { who, guard: this, outer: unsettled(running.getStore()), settled: false };
    const timer = this.#startTimer(who);
    try {
      return await Promise.race([running.run(own, async () => action()), timer.expired]);
    } finally {
      own.settled = true;
      timer.cancel();
    }
  }

  /** The same, with every failure turned into CORE_CALLBACK_FAILED (EIO) so that it names its driver. */
  async runNamed(who: DutyOf, action: () => void | Promise<void>): Promise<void> {
    try {
      await this.run(who, action);
    } catch (cause) {
      if (cause instanceof PinionError && cause.name === 'CORE_CALLBACK_TIMEOUT') throw cause;
      throw coreErrors.CALLBACK_FAILED({ ...who, reason: reasonOf(cause) }, cause);
    }
  }

  #startTimer(who: DutyOf): { expired: Promise<never>; cancel: () => void } {
    let cancel = (): void => {};
    const expired = new Promise<never>((_resolve, reject) => {
      if (this.#limit === 0) return;
      cancel = this.#clock.after(this.#limit, () =>
        reject(coreErrors.CALLBACK_TIMEOUT({ ...who, milliseconds: this.#limit })),
      );
    });
    return { expired, cancel: () => cancel() };
  }
}
