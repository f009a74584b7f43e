import { ENTRY } from './registers.js';
import type { Ring } from './ring.js';
import { type Command, type Completion, decodeCommand, encodeCompletion } from './wire.js';

/** A submission queue: the host moves `tail`, the controller `head`. Source: NVMe 1.4 section 4.1. */
export class SubmissionQueue {
  readonly id: number;
  readonly ring: Ring;
  readonly completions: CompletionQueue;
  head = 0;
  tail = 0;
  /** Commands that were copied and not taken yet. */
  readonly #fetched: Command[] = [];
  /** Commands are being copied. */
  fetching = false;

  constructor(id: number, ring: Ring, completions: CompletionQueue) {
    this.id = id;
    this.ring = ring;
    this.completions = completions;
  }

  get empty(): boolean {
    return this.head === this.tail;
  }

  /**
   * Reads the next command: what the host does to the entry afterwards changes nothing. @returns undefined if it must be fetched first.
   * @throws what pinning throws.
   */
  take(): Command | undefined {
    if (this.empty) return undefined;
    const command =
      this.#fetched.shift() ??
      (this.ring.reach() === 'far' ? undefined : decodeCommand(this.ring.page(this.head), this.ring.offset(this.head)));
    if (command !== undefined) this.head = (this.head + 1) % this.ring.entries;
    return command;
  }

  /** Copies what the host has submitted, up to the end of the ring. @throws what copying throws. */
  async fetch(): Promise<void> {
    this.fetching = true;
    try {
      const count = this.head <= this.tail ? this.tail - this.head : this.ring.entries - this.head;
      const bytes = await this.ring.copy(this.head, count);
      const view = new DataView(bytes.buffer);
      for (let at = 0; at < bytes.length; at += ENTRY.SUBMISSION) this.#fetched.push(decodeCommand(view, at));
    } finally {
      this.fetching = false;
    }
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
  /** Settles when all entries so far were written. */
  #written: Promise<void> = Promise.resolve();

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

  /**
   * Writes an entry; there must be room. @returns undefined if it is there, else when it will be: entries are written one after the other.
   * @throws what pinning throws.
   */
  put(completion: Completion): Promise<void> | undefined {
    const index = this.tail;
    const phase = this.#phase;
    const far = this.ring.reach() === 'far';
    const view = far ? new DataView(new ArrayBuffer(ENTRY.COMPLETION)) : this.ring.page(index);
    encodeCompletion({ view, at: far ? 0 : this.ring.offset(index) }, completion, phase);
    this.tail = (index + 1) % this.ring.entries;
    if (this.tail === 0) this.#phase ^= 1;
    if (!far) return undefined;
    const written = this.#written.then(() => this.ring.store(index, new Uint8Array(view.buffer)));
    this.#written = written.catch(() => {}); // why: whoever put that entry hears of it
    return written;
  }
}
