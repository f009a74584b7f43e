import { PAGE_SIZE, type PageClass } from '@pinion/core';

const HELD = 1;
const DIRTY = 2;

/**
 * A run of host frames behind one buffer. A frame becomes a page when it is taken and stops being one when nothing
 * refers to it any more; it never comes back, so a stale frame number is always noticed.
 * Every index here counts frames from the start of the piece.
 */
export class Piece {
  readonly first: number;
  readonly count: number;
  readonly pageClass: PageClass;
  /** Pages that somebody maps or pins. */
  live = 0;
  /** Set once nobody will take further frames; an abandoned piece without live pages can be forgotten. */
  abandoned = false;
  readonly #memory: ArrayBuffer;
  readonly #pins: Uint32Array;
  readonly #state: Uint8Array;
  readonly #used: Uint8Array;

  constructor(first: number, count: number, pageClass: PageClass) {
    this.first = first;
    this.count = count;
    this.pageClass = pageClass;
    this.#memory = new ArrayBuffer(count * PAGE_SIZE);
    this.#pins = new Uint32Array(count);
    this.#state = new Uint8Array(count);
    this.#used = new Uint8Array(count);
  }

  /** Whether the frame was a page at some time: it cannot be taken again. */
  used(index: number): boolean {
    return this.#used[index] === 1;
  }

  isLive(index: number): boolean {
    return ((this.#state[index] ?? 0) & HELD) !== 0 || this.pins(index) !== 0;
  }

  pins(index: number): number {
    return this.#pins[index] ?? 0;
  }

  dirty(index: number): boolean {
    return ((this.#state[index] ?? 0) & DIRTY) !== 0;
  }

  /** Makes a page of an unused frame, held by a mapping. */
  take(index: number): void {
    this.#used[index] = 1;
    this.#state[index] = HELD;
    this.live++;
  }

  /** The mapping lets go. @returns whether the page is gone with it. */
  letGo(index: number): boolean {
    this.#state[index] = (this.#state[index] ?? 0) & ~HELD;
    return this.#ended(index);
  }

  pin(index: number): void {
    this.#pins[index] = this.pins(index) + 1;
  }

  /** The caller has checked that the page is pinned. @returns whether the page is gone. */
  unpin(index: number, dirty: boolean): boolean {
    if (dirty) this.#state[index] = (this.#state[index] ?? 0) | DIRTY;
    this.#pins[index] = this.pins(index) - 1;
    return this.#ended(index);
  }

  bytes(index: number, count: number): Uint8Array {
    return new Uint8Array(this.#memory, index * PAGE_SIZE, count * PAGE_SIZE);
  }

  #ended(index: number): boolean {
    if (this.isLive(index)) return false;
    this.live--;
    return true;
  }
}
