import type { Clock } from '@pinion/core';
import type { Apqn } from './matrix.js';
import { type ApStatus, RESPONSE, type ResponseCode } from './pqap.js';

/** What a queue is made of. */
export interface QueueParts {
  readonly clock: Clock;
  /** Messages it holds until their replies are taken. */
  readonly depth: number;
  /** Longest message in bytes. */
  readonly maxMessage: number;
  /** The card's work: message in, reply out. Must not throw. */
  readonly answer: (message: Uint8Array) => Uint8Array;
}

/** Where a queue tells of a reply: what AQIC sets in the hardware. */
export interface Indicator {
  /** Address of the notification indicator byte, as the guest gave it. */
  readonly nib: bigint;
  /** Interruption subclass 0..7. */
  readonly isc: number;
  /** Makes the byte non-zero and interrupts the guest. Must not throw. */
  raise(): void;
}

/** What DQAP returns. `remaining`: bytes of the same reply that did not fit and come with the next DQAP. */
export interface DqapResult {
  readonly status: ApStatus;
  /** The identifier that came with the request; 0 when there is no reply. */
  readonly psmid: bigint;
  readonly message: Uint8Array;
  readonly remaining: number;
}

interface Entry {
  readonly psmid: bigint;
  readonly bytes: Uint8Array;
}

/**
 * The hardware side of one queue: knows nothing of guests, pages or pins. Messages are answered one after the other, never on
 * the stack of the caller. Source: NQAP, DQAP and PQAP as reference C.6 and F.2 describe them.
 */
export class ApQueue {
  readonly apqn: Apqn;
  readonly #parts: QueueParts;
  #requests: Entry[] = [];
  #replies: Entry[] = [];
  #indicator: Indicator | null = null;
  #cancel: (() => void) | null = null;

  constructor(apqn: Apqn, parts: QueueParts) {
    this.apqn = apqn;
    this.#parts = parts;
  }

  /** The state of the queue with the code of the instruction that asked. */
  status(code: ResponseCode = RESPONSE.NORMAL): ApStatus {
    return {
      code,
      empty: this.#held === 0,
      replies: this.#replies.length > 0,
      full: this.#held >= this.#parts.depth,
      irqEnabled: this.#indicator !== null,
    };
  }

  /** Takes a copy of `message`. MESSAGE_TOO_BIG, then QUEUE_FULL. */
  nqap(psmid: bigint, message: Uint8Array): ApStatus {
    if (message.length > this.#parts.maxMessage) return this.status(RESPONSE.MESSAGE_TOO_BIG);
    if (this.#held >= this.#parts.depth) return this.status(RESPONSE.QUEUE_FULL);
    this.#requests.push({ psmid, bytes: message.slice() });
    this.#schedule();
    return this.status();
  }

  /** Gives the oldest reply, at most `max` bytes of it. NO_PENDING_REPLY. */
  dqap(max: number): DqapResult {
    const reply = this.#replies.shift();
    if (reply === undefined) {
      return { status: this.status(RESPONSE.NO_PENDING_REPLY), psmid: 0n, message: new Uint8Array(0), remaining: 0 };
    }
    const rest = reply.bytes.subarray(max);
    if (rest.length > 0) this.#replies.unshift({ psmid: reply.psmid, bytes: rest });
    return { status: this.status(), psmid: reply.psmid, message: reply.bytes.slice(0, max), remaining: rest.length };
  }

  /** Turns signals on (or to another place) or off (null). OTHERWISE_CHANGED if that is how it is already. */
  aqic(indicator: Indicator | null): ApStatus {
    const same = this.#indicator?.nib === indicator?.nib && this.#indicator?.isc === indicator?.isc;
    if (same) return this.status(RESPONSE.OTHERWISE_CHANGED);
    this.#indicator = indicator;
    return this.status();
  }

  /** Forgets every message and reply, turns signals off. From here on the queue does nothing until the next NQAP. */
  reset(): ApStatus {
    this.#cancel?.();
    this.#cancel = null;
    this.#requests = [];
    this.#replies = [];
    this.#indicator = null;
    return this.status();
  }

  get #held(): number {
    return this.#requests.length + this.#replies.length;
  }

  #schedule(): void {
    if (this.#cancel !== null || this.#requests.length === 0) return;
    this.#cancel = this.#parts.clock.after(0, () => {
      this.#cancel = null;
      this.#work();
    });
  }

  #work(): void {
    const request = this.#requests.shift();
    if (request === undefined) return;
    this.#replies.push({ psmid: request.psmid, bytes: this.#parts.answer(request.bytes) });
    this.#schedule();
    this.#indicator?.raise();
  }
}
