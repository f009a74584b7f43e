import {
  type Apqn,
  apqnDomain,
  apqnsOf,
  CONFIG_INFO_SIZE,
  decodeConfigInfo,
  formatApqn,
  PQAP_FUNCTION,
  pqapRegister0,
  RESPONSE,
} from '@pinion/ap';
import { PinionError } from '@pinion/core';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import { CryptoQueue } from './crypto-queue.js';
import type { CardMode, CryptoRequest } from './crypto-requests.js';
import type { GuestHeap } from './heap.js';

/** A line of the list of cards, as lszcrypt prints it. */
export interface CardLine {
  /** `05.0047` */
  readonly queue: string;
  /** `CEX8A`, `CEX8C` */
  readonly type: string;
  readonly mode: CardMode;
  readonly online: boolean;
  /** Requests that were answered, and that wait for their answers. */
  readonly requests: number;
  readonly pending: number;
  readonly depth: number;
}

interface Job {
  readonly request: CryptoRequest<unknown>;
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/** AP type 10 is a CEX4. */
const FIRST_CEX = 6;
const LETTER: Readonly<Record<CardMode, string>> = { accelerator: 'A', cca: 'C', other: '' };
/** Milliseconds until a queue that had no room or was being reset is tried again. */
const RETRY = 20;
/** Milliseconds between two looks at queues that say nothing. */
const WATCH = 1000;
/** The queue may work again: the request waits. */
const LATER: ReadonlySet<number> = new Set([RESPONSE.QUEUE_FULL, RESPONSE.BUSY, RESPONSE.RESET_IN_PROGRESS]);

/**
 * All crypto cards of a guest: finds its queues, follows hot plug and unplug, and spreads requests over them with interrupts. Every request
 * is answered or rejected: one whose queue went away is sent again to another, and rejected when no card is left that can do it.
 */
export class CryptoCards {
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #isc: number;
  readonly #block: bigint;
  readonly #queues = new Map<Apqn, CryptoQueue<Job>>();
  readonly #gone = new Map<string, number>();
  #jobs: Job[] = [];
  #moved = 0;
  #ended: { readonly reason: unknown } | undefined;

  private constructor(machine: GuestMachine, heap: GuestHeap, isc: number) {
    this.#machine = machine;
    this.#heap = heap;
    this.#isc = isc;
    this.#block = heap.allocate(CONFIG_INFO_SIZE);
  }

  /** Finds the queues and turns their interrupts on, all on subclass `isc`. @throws VM_NO_MATRIX (ENODEV). */
  static start(machine: GuestMachine, heap: GuestHeap, { isc }: { readonly isc: number }): CryptoCards {
    const cards = new CryptoCards(machine, heap, isc);
    try {
      cards.#scan();
    } catch (cause) {
      cards.#end(cause);
      throw cause;
    }
    cards.#follow(
      () => machine.crypto.adapterInterrupt(),
      () => cards.#collect(),
    );
    cards.#follow(
      () => machine.crypto.configurationChange(),
      () => cards.#scan(),
    );
    cards.#watch();
    return cards;
  }

  /** The queues that are there, by their numbers. */
  list(): CardLine[] {
    return [...this.#queues.values()].map((queue) => {
      const { type, mode, depth } = queue.description;
      return {
        queue: formatApqn(queue.apqn),
        type: `CEX${type - FIRST_CEX}${LETTER[mode]}`,
        mode,
        online: queue.code === RESPONSE.NORMAL,
        requests: queue.answered,
        pending: queue.waiting,
        depth,
      };
    });
  }

  /** Requests answered per queue, also by queues that are gone. */
  get answered(): ReadonlyMap<string, number> {
    const counts = new Map(this.#gone);
    for (const { apqn, answered } of this.#queues.values()) {
      const name = formatApqn(apqn);
      counts.set(name, (counts.get(name) ?? 0) + answered);
    }
    return counts;
  }

  /** Requests that were sent again because their queue went away. */
  get moved(): number {
    return this.#moved;
  }

  /** Has a card do something. @throws VM_NO_CARD (ENODEV) if none can, VM_CRYPTO_FAILED (EIO) if it refuses, why the cards ended. */
  submit<T>(request: CryptoRequest<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      // why: a job is settled with what its own request decoded, which is a T.
      this.#jobs.push({ request, resolve: (result) => resolve(result as T), reject });
      this.#dispatch();
    });
  }

  /** Turns all interrupts off and gives the memory back. Requests without an answer are rejected. */
  stop(): void {
    this.#end(vmErrors.NO_MATRIX({}));
  }

  /** Repeats: wait for something to happen, act on it; until the wait ends. */
  async #follow(event: () => Promise<unknown>, act: () => void): Promise<void> {
    try {
      for (;;) {
        await event();
        if (this.#ended !== undefined) return;
        act();
      }
    } catch (reason) {
      this.#end(reason);
    }
  }

  /** Queues that stopped without a word: what they had is sent elsewhere, and they are opened anew if they work again. */
  #watch(): void {
    this.#machine.clock.after(WATCH, () => {
      if (this.#ended !== undefined) return;
      this.#attempt(() => {
        for (const queue of [...this.#queues.values()]) if (isDead(queue) || queue.forgot) this.#lose(queue);
        this.#scan();
      });
      this.#watch();
    });
  }

  /** What fails here - the guest was killed, its matrix went - ends the cards. */
  #attempt(act: () => void): void {
    try {
      act();
    } catch (reason) {
      this.#end(reason);
    }
  }

  /** Asks for the guest's masks: opens queues that are new, and gives up those that are gone. */
  #scan(): void {
    const { crypto, memory } = this.#machine;
    const answer = crypto.pqap(pqapRegister0(PQAP_FUNCTION.QCI, 0), 0n, this.#block);
    if (answer?.cc !== 0) throw vmErrors.NO_MATRIX({});
    const there = new Set(apqnsOf(decodeConfigInfo(memory.read(this.#block, CONFIG_INFO_SIZE))));
    for (const [apqn, queue] of this.#queues) if (!there.has(apqn)) this.#lose(queue);
    for (const apqn of there) if (!this.#queues.has(apqn)) this.#open(apqn);
    this.#dispatch();
  }

  #open(apqn: Apqn): void {
    try {
      this.#queues.set(apqn, CryptoQueue.open(this.#machine, this.#heap, { apqn, isc: this.#isc }));
    } catch (cause) {
      if (!(cause instanceof PinionError && cause.name === 'VM_NO_QUEUE')) throw cause;
    }
  }

  /** What a queue had not answered goes to the others, before everything that came later. */
  #lose(queue: CryptoQueue<Job>): void {
    const name = formatApqn(queue.apqn);
    this.#queues.delete(queue.apqn);
    this.#gone.set(name, (this.#gone.get(name) ?? 0) + queue.answered);
    const jobs = queue.lose();
    this.#moved += jobs.length;
    this.#jobs = [...jobs, ...this.#jobs];
  }

  #collect(): void {
    for (const queue of [...this.#queues.values()]) {
      for (const { entry, reply } of queue.collect()) settle(entry, queue.description.mode, reply);
    }
    this.#dispatch();
  }

  /** Sends whatever finds room. */
  #dispatch(): void {
    for (let again = true; again; ) {
      const jobs = this.#jobs;
      this.#jobs = [];
      const waiting = jobs.filter((job) => !this.#send(job));
      again = this.#jobs.length > 0; // a queue was lost meanwhile; there are only so many
      this.#jobs = [...this.#jobs, ...waiting];
    }
  }

  /** @returns whether the job is on its way, or over. */
  #send(job: Job): boolean {
    if (this.#ended !== undefined) {
      job.reject(this.#ended.reason);
      return true;
    }
    const able = [...this.#queues.values()].filter(({ description }) => job.request.modes.includes(description.mode));
    if (able.length === 0) {
      job.reject(vmErrors.NO_CARD({ what: job.request.what }));
      return true;
    }
    const free = able.filter(({ waiting, description }) => waiting < description.depth);
    const queue = free.sort((a, b) => a.waiting - b.waiting)[0];
    return queue !== undefined && this.#put(job, queue);
  }

  #put(job: Job, queue: CryptoQueue<Job>): boolean {
    const code = queue.send(job, job.request.encode(queue.description.mode, apqnDomain(queue.apqn)));
    if (code === RESPONSE.NORMAL) return true;
    if (LATER.has(code)) {
      this.#machine.clock.after(RETRY, () => this.#attempt(() => this.#dispatch()));
      return false;
    }
    this.#lose(queue);
    return this.#send(job);
  }

  #end(reason: unknown): void {
    if (this.#ended !== undefined) return;
    this.#ended = { reason };
    const jobs = [...this.#queues.values()].flatMap((queue) => queue.close());
    this.#queues.clear();
    this.#heap.free(this.#block);
    for (const { reject } of [...jobs, ...this.#jobs.splice(0)]) reject(reason);
  }
}

const isDead = ({ code }: CryptoQueue<Job>): boolean => code !== RESPONSE.NORMAL && !LATER.has(code);

function settle(job: Job, mode: CardMode, reply: Uint8Array): void {
  try {
    job.resolve(job.request.decode(mode, reply));
  } catch (reason) {
    job.reject(reason);
  }
}
