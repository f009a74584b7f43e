import type { Clock } from '@pinion/core';
import type { Card } from './card.js';
import type { CardExecutor, CardOutcome } from './executor.js';
import { type Apqn, apqnDomain, formatApqn } from './matrix.js';
import { type ApStatus, RESPONSE, type ResponseCode } from './pqap.js';
import { encodeError, REPLY_CODE } from './type50.js';

/** The instructions that reach a queue, for whoever makes the hardware answer something else. */
export type QueueInstruction = 'TAPQ' | 'RAPQ' | 'ZAPQ' | 'AQIC' | 'NQAP' | 'DQAP';

/** Whether a card works. Source: AP response codes 03 and 04; `gone` is a card that was taken out. */
export type CardCondition = 'online' | 'deconfigured' | 'checkstopped' | 'gone';

const CONDITION_CODE: Readonly<Record<CardCondition, ResponseCode | undefined>> = {
  online: undefined,
  deconfigured: RESPONSE.DECONFIGURED,
  checkstopped: RESPONSE.CHECKSTOPPED,
  gone: RESPONSE.QUEUE_NOT_AVAILABLE,
};

/** Milliseconds that the hardware takes for what it does behind the back of an instruction. */
export interface Latency {
  /** From RAPQ or ZAPQ until the queue can be used again. */
  readonly reset: number;
  /** From AQIC until signals are on or off. */
  readonly aqic: number;
}

/** What a queue is made of. */
export interface QueueParts {
  readonly clock: Clock;
  readonly card: Card;
  readonly executor: CardExecutor;
  readonly latency: Latency;
  /** The answer of the hardware to an instruction instead of executing it. */
  readonly respond: (instruction: QueueInstruction, apqn: Apqn) => ResponseCode | undefined;
  readonly warn: (message: string, cause: unknown) => void;
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

interface Reply {
  readonly psmid: bigint;
  readonly bytes: Uint8Array;
}

/** A message until its reply is there; replies are given in the order of messages, whichever is ready first. */
interface Request extends Reply {
  /** The undo of its work, once that was begun. */
  cancel?: () => void;
  outcome?: CardOutcome;
}

/** Messages at work at a time: the card has its next one at hand when it ends one. */
const AT_WORK = 2;

/**
 * The hardware side of one queue: knows nothing of guests, pages or pins. Messages are answered in their order, never on
 * the stack of the caller. Every instruction answers the state of the queue with a code; any code but NORMAL has changed nothing.
 * Source: NQAP, DQAP and PQAP as reference C.6 and F.2 describe them.
 */
export class ApQueue {
  readonly apqn: Apqn;
  readonly #parts: QueueParts;
  #condition: CardCondition = 'online';
  #requests: Request[] = [];
  #replies: Reply[] = [];
  #indicator: Indicator | null = null;
  /** The undo of what is to come: the start of the next message, the end of a reset, a change of signals. */
  #start: (() => void) | null = null;
  #reset: (() => void) | null = null;
  #change: (() => void) | null = null;

  constructor(apqn: Apqn, parts: QueueParts) {
    this.apqn = apqn;
    this.#parts = parts;
  }

  get card(): Card {
    return this.#parts.card;
  }

  get condition(): CardCondition {
    return this.#condition;
  }

  /** The card changes: anything but `online` loses every message, reply and signal. */
  set condition(condition: CardCondition) {
    this.#condition = condition;
    if (condition !== 'online') this.#forget();
  }

  /** The state of the queue with the code of the instruction that asked. */
  status(code: ResponseCode = RESPONSE.NORMAL): ApStatus {
    return {
      code,
      empty: this.#held === 0,
      replies: this.#replies.length > 0,
      full: this.#held >= this.card.depth,
      async: this.#reset !== null || this.#change !== null,
      irqEnabled: this.#indicator !== null,
    };
  }

  tapq(): ApStatus {
    return this.status(this.#obstacle('TAPQ') ?? RESPONSE.NORMAL);
  }

  /** MESSAGE_TOO_BIG, then QUEUE_FULL. `message` is copied. */
  nqap(psmid: bigint, message: Uint8Array): ApStatus {
    const obstacle = this.#obstacle('NQAP');
    if (obstacle !== undefined) return this.status(obstacle);
    if (message.length > this.card.maxMessage) return this.status(RESPONSE.MESSAGE_TOO_BIG);
    if (this.#held >= this.card.depth) return this.status(RESPONSE.QUEUE_FULL);
    this.#requests.push({ psmid, bytes: message.slice() });
    this.#schedule();
    return this.status();
  }

  /** Gives the oldest reply, at most `max` bytes of it. NO_PENDING_REPLY. */
  dqap(max: number): DqapResult {
    const none = (code: ResponseCode): DqapResult => ({
      status: this.status(code),
      psmid: 0n,
      message: new Uint8Array(0),
      remaining: 0,
    });
    const obstacle = this.#obstacle('DQAP');
    if (obstacle !== undefined) return none(obstacle);
    const reply = this.#replies.shift();
    if (reply === undefined) return none(RESPONSE.NO_PENDING_REPLY);
    const rest = reply.bytes.subarray(max);
    if (rest.length > 0) this.#replies.unshift({ psmid: reply.psmid, bytes: rest });
    return { status: this.status(), psmid: reply.psmid, message: reply.bytes.slice(0, max), remaining: rest.length };
  }

  /**
   * Turns signals on (or to another place) or off (null), at once or after a while; until then the queue signals as before.
   * BUSY during such a while, OTHERWISE_CHANGED if that is how it is already.
   */
  aqic(indicator: Indicator | null): ApStatus {
    const obstacle = this.#obstacle('AQIC');
    if (obstacle !== undefined) return this.status(obstacle);
    if (this.#change !== null) return this.status(RESPONSE.BUSY);
    const same = this.#indicator?.nib === indicator?.nib && this.#indicator?.isc === indicator?.isc;
    if (same) return this.status(RESPONSE.OTHERWISE_CHANGED);
    this.#change = this.#after(this.#parts.latency.aqic, () => {
      this.#change = null;
      this.#indicator = indicator;
    });
    return this.status();
  }

  /** Forgets every message and reply and turns signals off; RESET_IN_PROGRESS follows until the queue can be used again. */
  reset(instruction: 'RAPQ' | 'ZAPQ' = 'ZAPQ'): ApStatus {
    const obstacle = this.#obstacle(instruction);
    if (obstacle !== undefined) return this.status(obstacle);
    this.#forget();
    this.#reset = this.#after(this.#parts.latency.reset, () => {
      this.#reset = null;
    });
    return this.status();
  }

  get #held(): number {
    return this.#requests.length + this.#replies.length;
  }

  /** Why an instruction is not executed. */
  #obstacle(instruction: QueueInstruction): ResponseCode | undefined {
    const forced = this.#parts.respond(instruction, this.apqn);
    if (forced !== undefined && forced !== RESPONSE.NORMAL) return forced;
    return CONDITION_CODE[this.#condition] ?? (this.#reset === null ? undefined : RESPONSE.RESET_IN_PROGRESS);
  }

  #forget(): void {
    for (const undo of [this.#start, this.#reset, this.#change]) undo?.();
    for (const { cancel } of this.#requests) cancel?.();
    this.#start = null;
    this.#reset = null;
    this.#change = null;
    this.#requests = [];
    this.#replies = [];
    this.#indicator = null;
  }

  /** @returns the undo while `action` is still to come, null when it has run. */
  #after(delay: number, action: () => void): (() => void) | null {
    if (delay > 0) return this.#parts.clock.after(delay, action);
    action();
    return null;
  }

  #schedule(): void {
    if (this.#start !== null) return;
    const next = this.#requests.slice(0, AT_WORK).find(({ cancel, outcome }) => (cancel ?? outcome) === undefined);
    if (next !== undefined) this.#start = this.#parts.clock.after(0, () => this.#begin(next));
  }

  #begin(request: Request): void {
    this.#start = null;
    const { card, executor } = this.#parts;
    const work = { mode: card.mode, domain: apqnDomain(this.apqn), message: request.bytes };
    const cancel = executor.run(work, (outcome) => this.#finish(request, outcome));
    request.cancel = cancel;
    this.#schedule();
  }

  /** Every message at the front that has its outcome becomes a reply, and is told. */
  #finish(request: Request, outcome: CardOutcome): void {
    request.outcome = outcome;
    for (let first = this.#requests[0]; first?.outcome !== undefined; first = this.#requests[0]) {
      this.#requests.shift();
      this.#replies.push({ psmid: first.psmid, bytes: this.#replyOf(first.outcome) });
      this.#schedule();
      this.#indicator?.raise();
    }
  }

  #replyOf(outcome: CardOutcome): Uint8Array {
    if ('reply' in outcome) return outcome.reply;
    this.#parts.warn(`queue ${formatApqn(this.apqn)}: the card failed`, outcome.failure);
    return encodeError(REPLY_CODE.MACHINE_FAILURE);
  }
}
