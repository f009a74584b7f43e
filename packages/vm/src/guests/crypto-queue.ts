import {
  type Apqn,
  aqicRegister1,
  decodeQueueInfo,
  formatApqn,
  PQAP_FUNCTION,
  pqapRegister0,
  type QueueDescription,
  RESPONSE,
} from '@pinion/ap';
import { PAGE_SIZE } from '@pinion/core';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';

/** What came back for a request. */
export interface Answer<T> {
  readonly entry: T;
  readonly reply: Uint8Array;
}

/** Bit E of the status word. */
const EMPTY = 0x8000_0000n;
const codeOf = (gr1: bigint): number => Number((gr1 >> 16n) & 0xffn);

/**
 * A guest's end of one queue: buffers, the notification byte, and which request waits under which identifier. `T` is what the owner wants
 * to remember of a request.
 */
export class CryptoQueue<T> {
  readonly apqn: Apqn;
  readonly description: QueueDescription;
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #nib: bigint;
  readonly #buffer: bigint;
  readonly #pending = new Map<bigint, T>();
  #psmid = 0n;
  #answered = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, queue: { apqn: Apqn; description: QueueDescription }) {
    this.#machine = machine;
    this.#heap = heap;
    this.apqn = queue.apqn;
    this.description = queue.description;
    this.#nib = heap.allocate(PAGE_SIZE);
    this.#buffer = heap.allocate(queue.description.maxMessage);
  }

  /** Asks what the queue is, and turns its interrupts on, on subclass `isc`. @throws VM_NO_QUEUE (ENODEV) with the response code. */
  static open<T>(machine: GuestMachine, heap: GuestHeap, { apqn, isc }: { apqn: Apqn; isc: number }): CryptoQueue<T> {
    const info = machine.crypto.pqap(pqapRegister0(PQAP_FUNCTION.TAPQ, apqn), 0n, 0n);
    if (info?.cc !== 0) throw noQueue(apqn, info?.gr1);
    const queue = new CryptoQueue<T>(machine, heap, { apqn, description: decodeQueueInfo(info.gr2) });
    const on = machine.crypto.pqap(pqapRegister0(PQAP_FUNCTION.AQIC, apqn), aqicRegister1(isc), queue.#nib);
    if (on?.cc === 0) return queue;
    queue.#free();
    throw noQueue(apqn, on?.gr1);
  }

  /** Requests that wait for their replies. */
  get waiting(): number {
    return this.#pending.size;
  }

  /** Requests that the card has answered. */
  get answered(): number {
    return this.#answered;
  }

  /** The response code of TAPQ now. */
  get code(): number {
    const answer = this.#tapq();
    return answer === undefined ? RESPONSE.QUEUE_NOT_AVAILABLE : codeOf(answer);
  }

  /** Whether requests wait that the queue knows nothing of: somebody reset it, or its card stopped for a while. */
  get forgot(): boolean {
    const answer = this.#tapq();
    return this.waiting > 0 && answer !== undefined && codeOf(answer) === RESPONSE.NORMAL && (answer & EMPTY) !== 0n;
  }

  /** NQAP. @returns its response code; NORMAL: `entry` will come back with its answer. */
  send(entry: T, message: Uint8Array): number {
    this.#machine.memory.write(this.#buffer, message);
    const [at, length, psmid] = [this.#buffer, message.length, this.#psmid + 1n];
    const sent = this.#machine.crypto.nqap(this.apqn, { psmid, at, length });
    if (sent?.cc !== 0) return sent?.status.code ?? RESPONSE.QUEUE_NOT_AVAILABLE;
    this.#psmid = psmid;
    this.#pending.set(psmid, entry);
    return RESPONSE.NORMAL;
  }

  /** Every reply that is there, if the card has told of any. */
  collect(): Answer<T>[] {
    const { memory } = this.#machine;
    const [notified] = memory.read(this.#nib, 1);
    if (notified === 0) return [];
    memory.write(this.#nib, Uint8Array.of(0)); // before DQAP: a reply that comes now tells again
    const answers: Answer<T>[] = [];
    for (let next = this.#take(); next !== undefined; next = this.#take()) answers.push(next);
    return answers;
  }

  /** The queue is not there any more. @returns the requests that it still had. */
  lose(): T[] {
    const entries = [...this.#pending.values()];
    this.#pending.clear();
    this.#free();
    return entries;
  }

  /** Turns the interrupts off and gives the memory back. @returns the requests that were not answered. */
  close(): T[] {
    this.#machine.crypto.pqap(pqapRegister0(PQAP_FUNCTION.AQIC, this.apqn), 0n, this.#nib);
    return this.lose();
  }

  /** One reply, in as many pieces as the buffer needs. */
  #take(): Answer<T> | undefined {
    const { crypto, memory } = this.#machine;
    const pieces: Uint8Array[] = [];
    for (;;) {
      const taken = crypto.dqap(this.apqn, { at: this.#buffer, length: this.description.maxMessage });
      if (taken?.cc !== 0) return undefined;
      pieces.push(memory.read(this.#buffer, taken.length));
      if (taken.remaining > 0) continue;
      const entry = this.#pending.get(taken.psmid);
      if (entry === undefined) return undefined;
      this.#pending.delete(taken.psmid);
      this.#answered += 1;
      return { entry, reply: Buffer.concat(pieces) };
    }
  }

  /** General register 1 of TAPQ. */
  #tapq(): bigint | undefined {
    return this.#machine.crypto.pqap(pqapRegister0(PQAP_FUNCTION.TAPQ, this.apqn), 0n, 0n)?.gr1;
  }

  #free(): void {
    this.#heap.free(this.#nib);
    this.#heap.free(this.#buffer);
  }
}

const noQueue = (apqn: Apqn, gr1: bigint | undefined): unknown =>
  vmErrors.NO_QUEUE({ queue: formatApqn(apqn), code: gr1 === undefined ? undefined : codeOf(gr1) });
