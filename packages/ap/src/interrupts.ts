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
import { type Apqn, formatApqn } from './matrix.js';
import { type ApStatus, RESPONSE } from './pqap.js';
import type { ApQueue } from './queue.js';

/**
 * The guest a device serves. Its real addresses are the container's IOVAs. Source: struct kvm as vfio-ap uses it.
 * Only `interrupt` is needed; an absent question counts as answered with yes.
 */
export interface ApGuest {
  /** An adapter interrupt on an interruption subclass 0..7. */
  interrupt(isc: number): void;
  /** Whether the page is memory of this guest (a memslot). */
  hasPage?(page: IovaFrame): boolean;
  /** Whether a protected guest shares the page with the host. */
  sharesPage?(page: IovaFrame): boolean;
  /** Prepares the delivery of a subclass, counted; false if that is impossible. Source: kvm_s390_gisc_register(). */
  registerIsc?(isc: number): boolean;
  unregisterIsc?(isc: number): void;
}

/** Who uses a notification page, for printouts. */
export interface ApInterrupt {
  readonly apqn: Apqn;
  readonly isc: number;
  readonly page: IovaFrame;
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
 * The interrupts of a device's queues, and so everything it pins: one page for each queue that has them on.
 *
 * Two orders are kept. A new page is pinned before the old one is given back, so a queue that cannot get the new one keeps what
 * it had. And the queue stops signalling before its page is given back, or it would write into memory that is the guest's again.
 * Source: vfio_ap_irq_enable(), vfio_ap_irq_disable(); reference C.3.
 */
export class QueueInterrupts {
  readonly #pins: PinApi;
  readonly #log: Log;
  readonly #held = new Map<ApQueue, Held>();

  constructor(pins: PinApi, log: Log) {
    this.#pins = pins;
    this.#log = log;
  }

  /**
   * AQIC with the interrupt bit on. `nib`: guest address of the byte. Any code but NORMAL has changed nothing:
   * INVALID_ADDRESS for a page that is not the guest's, cannot be pinned or is not shared, and for a subclass that cannot be
   * delivered; OTHERWISE_CHANGED when the queue has just these interrupts already.
   */
  enable(queue: ApQueue, request: { guest: ApGuest; isc: number; nib: bigint }): ApStatus {
    const held = this.#acquire(queue, request);
    if (held === undefined) return queue.status(RESPONSE.INVALID_ADDRESS);
    const { nib, isc } = request;
    const status = queue.aqic({ nib, isc, raise: () => this.#raise(queue, held, pageOffset(nib)) });
    if (status.code !== RESPONSE.NORMAL) {
      release(held);
      return status;
    }
    const old = this.#held.get(queue);
    this.#held.set(queue, held);
    if (old !== undefined) release(old);
    return status;
  }

  /** AQIC with the interrupt bit off. OTHERWISE_CHANGED if they were off. Holds nothing for the queue afterwards. */
  disable(queue: ApQueue): ApStatus {
    const status = queue.aqic(null);
    this.forget(queue);
    return status;
  }

  /** Gives back what a queue holds whose signals are off already, as after a reset. */
  forget(queue: ApQueue): void {
    const held = this.#held.get(queue);
    this.#held.delete(queue);
    if (held !== undefined) release(held);
  }

  /** Every queue whose notification page lies in `range`. */
  queuesIn(range: FrameRange): ApQueue[] {
    return [...this.#held].filter(([, held]) => rangeHolds(range, held.page.range.first)).map(([queue]) => queue);
  }

  list(): ApInterrupt[] {
    return [...this.#held].map(([queue, { isc, page }]) => ({ apqn: queue.apqn, isc, page: page.range.first }));
  }

  /** Pins the page and registers the subclass; undefined, with nothing held, if any of it fails. */
  #acquire(queue: ApQueue, { guest, isc, nib }: { guest: ApGuest; isc: number; nib: bigint }): Held | undefined {
    const frame = iovaFrame(nib);
    if (nib === 0n || guest.hasPage?.(frame) === false) return undefined;
    const page = this.#pin(queue, frame);
    if (page === undefined) return undefined;
    if (guest.sharesPage?.(frame) !== false && guest.registerIsc?.(isc) !== false) return { guest, isc, page };
    page.unpin();
    return undefined;
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
