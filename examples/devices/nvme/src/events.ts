import { LIMIT, STATUS } from './registers.js';
import type { Outcome } from './wire.js';

/** What happened, and which log page tells more. */
export interface Event {
  readonly type: number;
  readonly info: number;
  readonly page: number;
}

/**
 * Asynchronous events: requests that wait for one, events that wait for a request. An event of a type is reported once; the next of
 * that type after its log page was read. Source: NVMe 1.4 section 5.2.
 */
export class Events {
  readonly #complete: (id: number, outcome: Outcome) => void;
  #requests: number[] = [];
  #events: Event[] = [];
  readonly #masked = new Set<number>();

  constructor(complete: (id: number, outcome: Outcome) => void) {
    this.#complete = complete;
  }

  get requests(): number {
    return this.#requests.length;
  }

  /** A host's request. @returns its outcome if it is over at once. */
  request(id: number): Outcome | undefined {
    if (this.#requests.length >= LIMIT.EVENTS) return { status: STATUS.EVENT_LIMIT };
    this.#requests.push(id);
    this.#match();
    return undefined;
  }

  /** Gives a request back unanswered. @returns false if there is none with this id. */
  abort(id: number): boolean {
    const index = this.#requests.indexOf(id);
    if (index < 0) return false;
    this.#requests.splice(index, 1);
    this.#complete(id, { status: STATUS.ABORT_REQUESTED });
    return true;
  }

  happened(event: Event): void {
    const known = this.#events.some(({ type, info }) => type === event.type && info === event.info);
    if (known || this.#masked.has(event.type)) return;
    this.#events.push(event);
    this.#match();
  }

  /** The host read the log page: events of its kind may come again. */
  acknowledge(page: number): void {
    if (page === 1) this.#masked.delete(0);
    this.#match();
  }

  reset(): void {
    this.#requests = [];
    this.#events = [];
    this.#masked.clear();
  }

  #match(): void {
    const index = this.#events.findIndex(({ type }) => !this.#masked.has(type));
    const event = this.#events[index];
    const id = this.#requests[0];
    if (event === undefined || id === undefined) return;
    this.#requests.shift();
    this.#events.splice(index, 1);
    this.#masked.add(event.type);
    this.#complete(id, { status: STATUS.SUCCESS, result: event.type | (event.info << 8) | (event.page << 16) });
  }
}
