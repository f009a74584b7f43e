import type { Ring } from './ring.js';
import { type Command, type Completion, decodeCommand, encodeCompletion } from './wire.js';

/** A submission queue: the host moves `tail`, the controller `head`. Source: NVMe 1.4 section 4.1. */
export class SubmissionQueue {
  readonly id: number;
  readonly ring: Ring;
  readonly completions: CompletionQueue;
  head = 0;
  tail = 0;

  constructor(id: number, ring: Ring, completions: CompletionQueue) {
    this.id = id;
    this.ring = ring;
    this.completions = completions;
  }

  get empty(): boolean {
    return this.head === this.tail;
  }

  /** Reads the next command: what the host does to the entry afterwards changes nothing. @throws what pinning throws. */
  take(): Command {
    const command = decodeCommand(this.ring.page(this.head), this.ring.offset(this.head));
    this.head = (this.head + 1) % this.ring.entries;
    return command;
  }
}

/** A completion queue: the controller moves `tail`, the host `head`. */
export class CompletionQueue {
  readonly id: number;
  readonly ring: Ring;
  /** Undefined: this queue does not interrupt. */
  readonly vector: number | undefined;
  /** Completions for which there was no room, oldest first. */
  readonly waiting: Completion[] = [];
  head = 0;
  tail = 0;
  #phase = 1;

  constructor(id: number, ring: Ring, vector: number | undefined) {
    this.id = id;
    this.ring = ring;
    this.vector = vector;
  }

  get empty(): boolean {
    return this.head === this.tail;
  }

  get full(): boolean {
    return (this.tail + 1) % this.ring.entries === this.head;
  }

  /** Whether the host may move its head to `head`: only over entries that were written. */
  accepts(head: number): boolean {
    const { entries } = this.ring;
    if (head >= entries) return false;
    return (head - this.head + entries) % entries <= (this.tail - this.head + entries) % entries;
  }

  /** Writes an entry; there must be room. @throws what pinning throws. */
  put(completion: Completion): void {
    const place = { view: this.ring.page(this.tail), at: this.ring.offset(this.tail) };
    encodeCompletion(place, completion, this.#phase);
    this.tail += 1;
    if (this.tail < this.ring.entries) return;
    this.tail = 0;
    this.#phase ^= 1;
  }
}
