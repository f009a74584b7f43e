import {
  type FrameRange,
  type IovaFrame,
  iovaFrame,
  type Log,
  type PinApi,
  PinionError,
  type PinnedPages,
  PROT_RW,
  pageOffset,
  rangeHolds,
} from '@pinion/core';
import type { ApGuest } from './guest.js';
import { type Apqn, formatApqn } from './matrix.js';
import { type ApStatus, RESPONSE, type ResponseCode } from './pqap.js';
import type { ApQueue } from './queue.js';
import type { ApQuirk } from './quirks.js';

/** Who uses a notification page, for printouts. */
export interface ApInterrupt {
  readonly apqn: Apqn;
  readonly isc: number;
  readonly page: IovaFrame;
}

/** What a guest asks AQIC for. `nib`: its address of the notification byte. */
export interface InterruptRequest {
  readonly guest: ApGuest;
  readonly isc: number;
  readonly nib: bigint;
}

/** What a queue with interrupts holds: exactly one pinned page and one registered subclass. */
interface Held {
  readonly guest: ApGuest;
  readonly isc: number;
  readonly page: PinnedPages;
}

/** What the card puts into the notification byte. */
const INDICATED = Uint8Array.of(1);

/**
 * What the interrupts of a device's queues hold, and so everything it pins: one page for each queue that has them on.
 *
 * Two orders are kept. A new page is pinned before the old one is given back, so a queue that cannot get the new one keeps what
 * it had. And the queue stops signalling before its page is given back (`QueueSilencer`), or it would write into memory that is the
 * guest's again. Source: vfio_ap_irq_enable(); reference C.3.
 */
export class QueueInterrupts {
  readonly #pins: PinApi;
  readonly #log: Log;
  readonly #quirks: ReadonlySet<ApQuirk>;
  readonly #held = new Map<ApQueue, Held>();

  constructor(parts: { readonly pins: PinApi; readonly log: Log; readonly quirks: ReadonlySet<ApQuirk> }) {
    this.#pins = parts.pins;
    this.#log = parts.log;
    this.#quirks = parts.quirks;
  }

  /**
   * AQIC with the interrupt bit on. Any code but NORMAL has changed nothing: INVALID_ADDRESS for a page that is not the guest's,
   * cannot be pinned or is not shared, and for a subclass that cannot be delivered; otherwise the hardware's.
   */
  enable(queue: ApQueue, request: InterruptRequest): ApStatus {
    const held = this.#acquire(queue, request);
    if (typeof held === 'number') return queue.status(held);
    const { nib, isc } = request;
    const status = queue.aqic({ nib, isc, raise: () => this.#raise(queue, held, pageOffset(nib)) });
    if (status.code === RESPONSE.NORMAL) {
      const old = this.#held.get(queue);
      this.#held.set(queue, held);
      if (old !== undefined) release(old);
    } else if (this.#quirks.has('failed-enable-frees-old') && status.code !== RESPONSE.OTHERWISE_CHANGED) {
      queue.aqic(null);
      this.forget(queue);
    } else release(held);
    return status;
  }

  /** Gives back what a queue holds whose signals are off already. */
  forget(queue: ApQueue): void {
    const held = this.#held.get(queue);
    this.#held.delete(queue);
    if (held !== undefined) release(held);
  }

  holds(queue: ApQueue): boolean {
    return this.#held.has(queue);
  }

  /** Every queue whose notification page lies in `range`. */
  queuesIn(range: FrameRange): ApQueue[] {
    return [...this.#held].filter(([, held]) => rangeHolds(range, held.page.range.first)).map(([queue]) => queue);
  }

  list(): ApInterrupt[] {
    return [...this.#held].map(([queue, { isc, page }]) => ({ apqn: queue.apqn, isc, page: page.range.first }));
  }

  /** Pins the page and registers the subclass; the code, with nothing held, if any of it fails. */
  #acquire(queue: ApQueue, { guest, isc, nib }: InterruptRequest): Held | ResponseCode {
    const frame = iovaFrame(nib);
    if (nib === 0n || guest.hasPage?.(frame) === false) return RESPONSE.INVALID_ADDRESS;
    const page = this.#pin(queue, frame);
    if (page === undefined) return RESPONSE.INVALID_ADDRESS;
    if (guest.sharesPage?.(frame) === false) {
      page.unpin();
      return RESPONSE.INVALID_ADDRESS;
    }
    if (guest.registerIsc?.(isc) !== false) return { guest, isc, page };
    if (this.#quirks.has('isc-failure-leaks')) return RESPONSE.INVALID_GISA;
    page.unpin();
    return RESPONSE.INVALID_ADDRESS;
  }

  #pin(queue: ApQueue, frame: IovaFrame): PinnedPages | undefined {
    try {
      return this.#pins.pin(frame, 1, PROT_RW);
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      this.#log.warn(`queue ${formatApqn(queue.apqn)}: its notification page cannot be pinned`, cause);
      return undefined;
    }
  }

  #raise(queue: ApQueue, { guest, isc, page }: Held, offset: number): void {
    try {
      page.write(offset, INDICATED);
      guest.interrupt(isc);
    } catch (cause) {
      this.#log.warn(`queue ${formatApqn(queue.apqn)}: the guest could not be told of a reply`, cause);
    }
  }
}

function release({ guest, isc, page }: Held): void {
  guest.unregisterIsc?.(isc);
  page.unpin();
}
