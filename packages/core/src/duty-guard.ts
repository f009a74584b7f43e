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

interface Running extends DutyOf {
  settled: boolean;
}

const reasonOf = (cause: unknown): string =>
  cause instanceof PinionError ? cause.toString() : cause instanceof Error ? cause.message : String(cause);

/**
 * Runs drivers' duties: knows (also across awaits) when an operation is called from inside one, gives a duty that never
 * settles an end, and names whoever failed.
 */
export class DutyGuard {
  readonly #running = new AsyncLocalStorage<Running>();
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
    const running = this.#running.getStore();
    if (running === undefined || running.settled || !duties.includes(running.duty)) return;
    throw coreErrors.REENTRY({ operation, ...running });
  }

  /**
   * Runs one duty and waits for it.
   * @throws PinionError CORE_CALLBACK_TIMEOUT (ETIMEDOUT) when it did not settle in time - what it does later is ignored -
   * and whatever it threw itself.
   */
  async run<T>(who: DutyOf, action: () => T | Promise<T>): Promise<T> {
    const running: Running = { ...who, settled: false };
    const timer = this.#startTimer(who);
    try {
      return await Promise.race([this.#running.run(running, async () => action()), timer.expired]);
    } finally {
      running.settled = true;
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
