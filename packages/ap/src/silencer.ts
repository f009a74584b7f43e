import type { Clock, Log } from '@pinion/core';
import type { QueueInterrupts } from './interrupts.js';
import { formatApqn } from './matrix.js';
import { type ApStatus, RESPONSE } from './pqap.js';
import type { ApQueue } from './queue.js';
import { DISABLE_TRIES, isBusy, pause } from './retries.js';

/**
 * Turns interrupts off, and gives their page back **afterwards**, always: AQIC is tried five times while the queue is busy or resets,
 * and then it is looked five times whether it signals no more. A queue that cannot be silenced is reported, and its page given back all
 * the same. Source: vfio_ap_irq_disable(), vfio_ap_wait_for_irqclear(); reference C.3.
 *
 * Mostly the first try does, and everything has happened when the call returns; otherwise it goes on by itself on the clock.
 */
export class QueueSilencer {
  readonly #interrupts: QueueInterrupts;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #running = new Map<ApQueue, Promise<void>>();

  constructor(interrupts: QueueInterrupts, services: { readonly clock: Clock; readonly log: Log }) {
    this.#interrupts = interrupts;
    this.#clock = services.clock;
    this.#log = services.log;
  }

  /** Whether the queue is being silenced: nobody may turn its interrupts on meanwhile. */
  isRunning(queue: ApQueue): boolean {
    return this.#running.has(queue);
  }

  /** One AQIC, and whatever has to follow. @returns the answer to the first try; BUSY if the queue is being silenced already. */
  begin(queue: ApQueue): ApStatus {
    if (this.isRunning(queue)) return queue.status(RESPONSE.BUSY);
    const status = queue.aqic(null);
    if (took(status) && !queue.tapq().irqEnabled) this.#interrupts.forget(queue);
    else this.#running.set(queue, this.#carryOn(queue, status));
    return status;
  }

  /** Silences the queue. Holds nothing for it when this returns, or its promise settles; that never rejects. */
  release(queue: ApQueue): Promise<void> | undefined {
    if (!this.isRunning(queue)) this.begin(queue);
    return this.#running.get(queue);
  }

  /** Settles when no queue is being silenced any more. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values());
  }

  async #carryOn(queue: ApQueue, first: ApStatus): Promise<void> {
    await this.#finish(queue, first);
    this.#running.delete(queue);
  }

  async #finish(queue: ApQueue, first: ApStatus): Promise<void> {
    const wanted = (): boolean => this.#interrupts.holds(queue);
    let status = first;
    for (let tries = 1; isBusy(status.code) && tries < DISABLE_TRIES && wanted(); tries++) {
      await pause(this.#clock);
      if (wanted()) status = queue.aqic(null);
    }
    const silent = (): boolean => !queue.tapq().irqEnabled;
    for (let looks = 1; took(status) && !silent() && looks < DISABLE_TRIES; looks++) await pause(this.#clock);
    if (wanted() && !(took(status) && silent())) {
      this.#log.warn(`queue ${formatApqn(queue.apqn)}: its interrupts cannot be turned off (code ${status.code})`);
    }
    this.#interrupts.forget(queue);
  }
}

const took = ({ code }: ApStatus): boolean => code === RESPONSE.NORMAL || code === RESPONSE.OTHERWISE_CHANGED;
