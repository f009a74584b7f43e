import type { Clock, Log } from '@pinion/core';
import type { QueueInterrupts } from './interrupts.js';
import { formatApqn } from './matrix.js';
import { RESPONSE, type ResponseCode } from './pqap.js';
import type { ApQueue } from './queue.js';
import type { ApQuirk } from './quirks.js';
import { isBusy, pause, RESET_LOOKS } from './retries.js';
import type { QueueSilencer } from './silencer.js';

/** A queue that is bound to this driver. Source: struct vfio_ap_queue. */
export interface BoundQueue {
  readonly queue: ApQueue;
  /** How its last reset ended, or that it runs. A guest gets no adapter with a queue whose reset did not end well. */
  lastReset: ResponseCode;
}

/** A queue whose reset ended like this may be given to a guest. Source: vfio_ap_mdev_filter_matrix(). */
const USABLE: ReadonlySet<number> = new Set([RESPONSE.NORMAL, RESPONSE.DECONFIGURED, RESPONSE.CHECKSTOPPED]);
export const isUsable = ({ lastReset }: BoundQueue): boolean => USABLE.has(lastReset);

/** Answers to ZAPQ after which it must be looked whether the queue is ready. */
const STARTED: ReadonlySet<number> = new Set([
  RESPONSE.NORMAL,
  RESPONSE.RESET_IN_PROGRESS,
  RESPONSE.BUSY,
  RESPONSE.STATE_CHANGE_IN_PROGRESS,
]);
/** Of these, those after which ZAPQ must be repeated once the queue is ready: somebody else's work was in the way. */
const REPEAT: ReadonlySet<number> = new Set([
  RESPONSE.RESET_IN_PROGRESS,
  RESPONSE.BUSY,
  RESPONSE.STATE_CHANGE_IN_PROGRESS,
  RESPONSE.BIND_ERROR_RETRY,
  RESPONSE.BIND_ERROR_LAST,
]);
/** The card does not work, so the queue cannot signal. */
const DEAD: ReadonlySet<number> = new Set([RESPONSE.DECONFIGURED, RESPONSE.CHECKSTOPPED]);

interface Parts {
  readonly interrupts: QueueInterrupts;
  readonly silencer: QueueSilencer;
  readonly clock: Clock;
  readonly log: Log;
  readonly quirks: ReadonlySet<ApQuirk>;
  /** A reset that took time has ended; `lastReset` says how. */
  readonly ended: (bound: BoundQueue) => void;
}

/**
 * Resets queues: ZAPQ, then a look every 20 ms until the queue is ready, then its interrupt page is given back - hardware has turned
 * the signals off by then. A queue that cannot be reset is silenced instead, so that its page is given back in any case.
 * Source: vfio_ap_mdev_reset_queue(), apq_reset_check(); reference C.4.
 */
export class QueueResets {
  readonly #parts: Parts;
  readonly #running = new Map<BoundQueue, Promise<void>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Starts the reset of a queue, or joins the one that runs. Often it is over at once, and undefined comes back; otherwise a promise that
   * never rejects. `lastReset` says how it ended.
   */
  start(bound: BoundQueue): Promise<void> | undefined {
    const running = this.#running.get(bound);
    if (running !== undefined) return running;
    const code = this.#zapq(bound);
    if (DEAD.has(code) || (code === RESPONSE.NORMAL && bound.queue.tapq().code === RESPONSE.NORMAL)) {
      this.#parts.interrupts.forget(bound.queue);
      return undefined;
    }
    const reset = this.#carryOn(bound, code);
    this.#running.set(bound, reset);
    return reset;
  }

  /** Settles when no reset runs any more. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values());
  }

  #zapq(bound: BoundQueue): ResponseCode {
    bound.lastReset = bound.queue.reset().code;
    return bound.lastReset;
  }

  async #carryOn(bound: BoundQueue, code: ResponseCode): Promise<void> {
    await this.#finish(bound, code);
    this.#running.delete(bound);
    this.#parts.ended(bound);
  }

  async #finish(bound: BoundQueue, code: ResponseCode): Promise<void> {
    const { interrupts, silencer, log } = this.#parts;
    const end = STARTED.has(code) ? await this.#watch(bound, code) : code;
    bound.lastReset = end;
    if (isUsable(bound) || bound.queue.condition === 'gone') interrupts.forget(bound.queue);
    else {
      log.warn(`queue ${formatApqn(bound.queue.apqn)}: its reset failed (code ${end})`);
      await silencer.release(bound.queue);
    }
  }

  /** Looks until the queue is ready. @returns the code that the reset ended with. */
  async #watch(bound: BoundQueue, first: ResponseCode): Promise<ResponseCode> {
    const limit = this.#parts.quirks.has('endless-reset') ? Number.POSITIVE_INFINITY : RESET_LOOKS;
    let code = first;
    for (let looks = 0; looks < limit; looks++) {
      bound.lastReset = RESPONSE.RESET_IN_PROGRESS;
      await pause(this.#parts.clock);
      const seen = bound.queue.tapq().code;
      if (isBusy(seen)) continue;
      if (!REPEAT.has(code)) return seen;
      code = this.#zapq(bound);
      if (!STARTED.has(code) && !REPEAT.has(code)) return code;
    }
    return RESPONSE.BUSY;
  }
}
