/** Open addressing for pages that stand alone: the sparse half of the adaptive table. */
import { MAX_REFERENCES, pinTableErrors } from './pin-table.js';

const HIGH = 2 ** 32;
const PAGE = 0;
const COUNT = 1;
const LOW = 2;
const STRIDE = 3;
/** Smallest table. */
export const MIN_HASH = 16;

// A guest chooses which pages are pinned, so it must not be able to choose which of them collide. The seed decides only
// where an entry stands, never an answer or an order that a caller sees.
const SEED = Math.floor(Math.random() * HIGH);

/** Spreads a page (0..2^31-1) over 32 bits. */
export function scatter(page: number): number {
  const mixed = Math.imul(page ^ SEED, 0x9e3779b1);
  return Math.imul(mixed ^ (mixed >>> 15), 0x85ebca77);
}

/**
 * Linear probing without tombstones; 12 bytes per slot (16 on hosts above 16 TiB): page, references, the frame's low 32 bits.
 * A slot is empty when its references are 0. Pages are integers 0..2^31-1. The owner grows it before it is full.
 */
export class PinHash {
  live = 0;
  /** Frame of the page that the last `release` to 0 let go. */
  lost = -1;
  readonly capacity: number;
  private readonly words: Uint32Array;
  private high: Uint32Array | undefined = undefined;
  private readonly shift: number;

  /** `capacity`: slots, a power of two of at least 16. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.words = new Uint32Array(capacity * STRIDE);
    this.shift = 1 + Math.clz32(capacity);
  }

  /** The slot of `page`, or -1. */
  find(page: number): number {
    const { words } = this;
    const mask = this.capacity - 1;
    let slot = scatter(page) >>> this.shift;
    for (;;) {
      const at = slot * STRIDE;
      if (words[at] === page && words[at + COUNT] !== 0) return slot;
      if (words[at + COUNT] === 0) return -1;
      slot = (slot + 1) & mask;
    }
  }

  acquire(page: number): number {
    const slot = this.find(page);
    if (slot < 0) return -1;
    const references = this.referencesAt(slot);
    if (references === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page });
    this.words[slot * STRIDE + COUNT] = references + 1;
    return this.frameAt(slot);
  }

  /** There must be a free slot. @throws PinionError TYPE1_PIN_EXISTS. */
  insert(page: number, pfn: number, references: number): void {
    const { words } = this;
    const mask = this.capacity - 1;
    let slot = scatter(page) >>> this.shift;
    for (;;) {
      const at = slot * STRIDE;
      if (words[at + COUNT] === 0) break;
      if (words[at] === page) throw pinTableErrors.PIN_EXISTS({ page });
      slot = (slot + 1) & mask;
    }
    const at = slot * STRIDE;
    words[at] = page;
    words[at + COUNT] = references;
    words[at + LOW] = pfn;
    if (pfn >= HIGH || this.high !== undefined) this.setHigh(slot, Math.floor(pfn / HIGH));
    this.live++;
  }

  /** One reference less; at 0 the slot is given up and `lost` is its frame. @returns references left, -1 if not there. */
  release(page: number): number {
    const slot = this.find(page);
    if (slot < 0) return -1;
    const left = this.referencesAt(slot) - 1;
    if (left > 0) {
      this.words[slot * STRIDE + COUNT] = left;
    } else {
      this.lost = this.frameAt(slot);
      this.remove(slot);
    }
    return left;
  }

  /** Page in a slot; meaningless if its references are 0. */
  pageAt(slot: number): number {
    return this.words[slot * STRIDE + PAGE] ?? 0;
  }

  referencesAt(slot: number): number {
    return this.words[slot * STRIDE + COUNT] ?? 0;
  }

  frameAt(slot: number): number {
    const low = this.words[slot * STRIDE + LOW] ?? 0;
    return this.high === undefined ? low : low + (this.high[slot] ?? 0) * HIGH;
  }

  /** The same entries in a table of another capacity. */
  resized(capacity: number): PinHash {
    const to = new PinHash(capacity);
    if (this.high !== undefined) to.high = new Uint32Array(capacity);
    const { words } = this;
    const mask = capacity - 1;
    for (let from = 0; from < words.length; from += STRIDE) {
      if (words[from + COUNT] === 0) continue;
      let slot = scatter(words[from] ?? 0) >>> to.shift;
      while (to.words[slot * STRIDE + COUNT] !== 0) slot = (slot + 1) & mask;
      const at = slot * STRIDE;
      to.words[at] = words[from] ?? 0;
      to.words[at + COUNT] = words[from + COUNT] ?? 0;
      to.words[at + LOW] = words[from + LOW] ?? 0;
      if (this.high !== undefined && to.high !== undefined) to.high[slot] = this.high[from / STRIDE] ?? 0;
    }
    to.live = this.live;
    return to;
  }

  byteSize(): number {
    return this.words.byteLength + (this.high?.byteLength ?? 0);
  }

  /** Takes out what is in a slot. Later entries of the run that may stand nearer to their home move up into the gap. */
  remove(slot: number): void {
    this.words[this.closeGap(slot) * STRIDE + COUNT] = 0;
    this.live--;
  }

  private setHigh(slot: number, high: number): void {
    this.high ??= new Uint32Array(this.capacity);
    this.high[slot] = high;
  }

  /** @returns the slot that is free in the end. */
  private closeGap(gap: number): number {
    const mask = this.capacity - 1;
    let hole = gap;
    for (let slot = (hole + 1) & mask; this.referencesAt(slot) !== 0; slot = (slot + 1) & mask) {
      const home = scatter(this.pageAt(slot)) >>> this.shift;
      // Distances are cyclic: an entry may move if its home is not after the hole.
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        this.move(slot, hole);
        hole = slot;
      }
    }
    return hole;
  }

  private move(from: number, to: number): void {
    const { words } = this;
    words[to * STRIDE] = words[from * STRIDE] ?? 0;
    words[to * STRIDE + COUNT] = words[from * STRIDE + COUNT] ?? 0;
    words[to * STRIDE + LOW] = words[from * STRIDE + LOW] ?? 0;
    if (this.high !== undefined) this.high[to] = this.high[from] ?? 0;
  }
}
