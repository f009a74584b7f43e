import { gvtErrors } from '../errors.js';
import type { GraphicsAccess } from '../graphics-access.js';
import type { RegisterFile } from '../mmio.js';
import { HEAD_OFFSET, RING_ENABLE, RING_PAGES, TAIL_OFFSET } from '../regs.js';
import { type Engine, RING } from './engines.js';
import type { RingSource } from './streamer-types.js';

const RING_UNIT = 4096;
const WRAP_SHIFT = 21;

/** Bytes of a ring with this control register. */
export const ringSize = (ctl: number): number => (ctl & RING_PAGES) + RING_UNIT;

/** The ring that an engine's registers describe now; a guest may change them, and the tail, at any time. */
export class LiveRing implements RingSource {
  readonly #registers: RegisterFile;
  readonly #memory: GraphicsAccess;
  readonly #base: number;
  #start = 0;
  #size = RING_UNIT;
  /** Bytes that are still to be run. */
  #left = 0;

  constructor(registers: RegisterFile, memory: GraphicsAccess, { base }: Engine) {
    this.#registers = registers;
    this.#memory = memory;
    this.#base = base;
  }

  /** What the ring holds now is to be run. */
  begin(): void {
    const size = ringSize(this.#get(RING.CTL));
    const tail = this.#get(RING.TAIL) & TAIL_OFFSET;
    // why: an offset beyond the ring is refused when the first command is read
    this.#left = Math.max(this.#head, tail) < size ? (tail - this.#head + size) % size : size;
  }

  get idle(): boolean {
    const off = (this.#get(RING.CTL) & RING_ENABLE) === 0;
    return off || this.#left <= 0 || this.#head === (this.#get(RING.TAIL) & TAIL_OFFSET);
  }

  get position(): number {
    return this.#start + this.#head;
  }

  available(): number {
    this.#start = (this.#get(RING.START) & ~0xfff) >>> 0;
    this.#size = ringSize(this.#get(RING.CTL));
    if (!this.#memory.owns(this.#start, this.#start + this.#size - 1))
      throw gvtErrors.BAD_RING({ what: 'it is not inside the graphics memory of this vGPU' });
    const tail = this.#get(RING.TAIL) & TAIL_OFFSET;
    if (Math.max(this.#head, tail) >= this.#size)
      throw gvtErrors.BAD_RING({ what: `its head or tail is beyond its ${this.#size} bytes` });
    return ((tail - this.#head + this.#size) % this.#size) / 4;
  }

  dword(index: number): number {
    return this.#memory.readDword(this.#start + ((this.#head + index * 4) % this.#size));
  }

  advance(dwords: number): void {
    const old = this.#get(RING.HEAD);
    const head = (old & HEAD_OFFSET) + dwords * 4;
    this.#left -= dwords * 4;
    const wraps = (old >>> WRAP_SHIFT) + (head >= this.#size ? 1 : 0);
    this.#registers.set(this.#base + RING.HEAD, (wraps << WRAP_SHIFT) | (head % this.#size));
  }

  get #head(): number {
    return this.#get(RING.HEAD) & HEAD_OFFSET;
  }

  #get(register: number): number {
    return this.#registers.get(this.#base + register);
  }
}

/** Where the ring of a context stands. `start` and `size` in bytes, `head` and `tail` bytes from the start. */
export interface RingPlace {
  readonly start: number;
  readonly size: number;
  readonly head: number;
  readonly tail: number;
}

/** Commands that were copied: what the guest writes to their place afterwards has no effect. */
export class ShadowRing implements RingSource {
  readonly words: Uint32Array;
  /** Graphics address of the dword `index` of the copy. */
  readonly addressOf: (index: number) => number;
  #done = 0;

  constructor(words: Uint32Array, addressOf: (index: number) => number) {
    this.words = words;
    this.addressOf = addressOf;
  }

  /** A copy of what lies between a ring's head and tail. */
  static copy(memory: GraphicsAccess, { start, size, head, tail }: RingPlace): ShadowRing {
    const bytes = new Uint8Array((tail - head + size) % size);
    const first = Math.min(bytes.length, size - head);
    memory.read(start + head, bytes.subarray(0, first));
    if (first < bytes.length) memory.read(start, bytes.subarray(first));
    return new ShadowRing(new Uint32Array(bytes.buffer), (index) => start + ((head + index * 4) % size));
  }

  get idle(): boolean {
    return this.#done >= this.words.length;
  }

  get position(): number {
    return this.addressOf(this.#done);
  }

  available(): number {
    return this.words.length - this.#done;
  }

  dword(index: number): number {
    return this.words[this.#done + index] ?? 0;
  }

  advance(dwords: number): void {
    this.#done += dwords;
  }
}
