import { createHash, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { PinionError } from '@pinion/core';
import { CryptoCards, type EmbeddedVm, GuestHeap, randomRequest, signRequest } from '@pinion/vm';

/** Requests that a guest has in flight at any time: more than its queues hold. */
const OUTSTANDING = 20;
/** Every so many requests it wants random bytes, which only the coprocessor has. */
const RANDOM_EVERY = 20;
const RANDOM_BYTES = 256;
const HEAP = { at: 0x10_0000n, size: 0x20_0000n } as const;
const ISC = 3;

/** What became of a guest's requests: every one is in exactly one of these, or still under way. */
export interface Tally {
  submitted: number;
  /** Signatures that node:crypto verified. */
  signatures: number;
  random: number;
  /** Requests that were refused, by the name of the error. */
  readonly refused: Map<string, number>;
  /** Answers that were wrong: none, if all is well. */
  wrong: number;
}

/** A guest program that keeps all its queues busy. */
export class Load {
  readonly vm: EmbeddedVm;
  readonly cards: CryptoCards;
  readonly tally: Tally = { submitted: 0, signatures: 0, random: 0, refused: new Map(), wrong: 0 };
  readonly #key: { readonly jwk: JsonWebKey; readonly publicKey: KeyObject };
  readonly #work: Promise<void>[] = [];
  #running = true;

  constructor(vm: EmbeddedVm, key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }) {
    this.vm = vm;
    this.cards = CryptoCards.start(vm.machine, new GuestHeap(HEAP.at, HEAP.size), { isc: ISC });
    this.#key = { jwk: key.privateKey.export({ format: 'jwk' }), publicKey: key.publicKey };
  }

  /** Begins to ask; whatever ends is followed by the next. */
  start(): void {
    for (let index = 0; index < OUTSTANDING; index++) this.#work.push(this.#keepAsking());
  }

  /** Asks no more, waits for what is under way, and gives the queues back. */
  async finish(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#work);
    this.cards.stop();
  }

  /** Requests that have ended, one way or another. */
  get ended(): number {
    const { signatures, random, refused, wrong } = this.tally;
    return signatures + random + wrong + [...refused.values()].reduce((sum, count) => sum + count, 0);
  }

  async #keepAsking(): Promise<void> {
    while (this.#running) {
      this.tally.submitted += 1;
      const number = this.tally.submitted;
      try {
        await (number % RANDOM_EVERY === 0 ? this.#random() : this.#sign(`${this.vm.name}, request ${number}`));
      } catch (cause) {
        if (!(cause instanceof PinionError)) throw cause;
        this.tally.refused.set(cause.name, (this.tally.refused.get(cause.name) ?? 0) + 1);
      }
    }
  }

  async #sign(text: string): Promise<void> {
    const digest = createHash('sha256').update(text).digest();
    const signature = await this.cards.submit(signRequest(digest, this.#key.jwk));
    const good = verify('sha256', Buffer.from(text), this.#key.publicKey, signature);
    this.tally[good ? 'signatures' : 'wrong'] += 1;
  }

  async #random(): Promise<void> {
    const bytes = await this.cards.submit(randomRequest(RANDOM_BYTES));
    this.tally[bytes.length === RANDOM_BYTES ? 'random' : 'wrong'] += 1;
  }
}
