/** Open addressing for pages that stand alone: the sparse half of the adaptive table. */
import { CHUNK_BITS } from './pin-chunks.js';
import { MAX_REFERENCES, pinTableErrors } from './pin-table.js';

const HIGH = 2 ** 32;
const PAGE = 0;
const COUNT = 1;
const LOW = 2;
const STRIDE = 3;
const MIN_CAPACITY = 16;

// A guest chooses which pages are pinned, so it must not be able to choose which of them collide. The seed decides only
// where an entry stands, never an answer or an order that a caller sees.
const SEED = Math.floor(Math.random() * HIGH);

/** A table of SAMPLE_SLOTS << SAMPLE_SHIFT slots or more is searched for crowded chunks only if a sample of 1/8 shows one. */
const SAMPLE_SHIFT = 3;
const SAMPLE_SLOTS = 4096;
/** Pages of one counter in the sample that are worth a look: a chunk's 128 leave 16 +- 4 there, scattered pages rarely 10. */
const SAMPLE_HIGH = 14;

/** Spreads a page (0..2^31-1) over 32 bits. */
function scatter(page: number): number {
  const mixed = Math.imul(page ^ SEED, 0x9e3779b1);
  return Math.imul(mixed ^ (mixed >>> 15), 0x85ebca77);
}

/** Smallest capacity that `live` entries fill to less than 3/5. */
function capacityFor(live: number): number {
  let capacity = MIN_CAPACITY;
  while (live * 5 > capacity * 3) capacity *= 2;
  return capacity;
}

/**
 * Linear probing without tombstones, 12 bytes per slot (16 on hosts above 16 TiB): page, references, the frame's low 32 bits.
 * A slot is empty when its references are 0. From 3/8 to 3/4 of the slots are in use while the table only grows: 16 to 32
 * bytes per page. Pages are integers 0..2^31-1.
 */
export class PinHash {
  live = 0;
  /** Frame of the page that the last `release` to 0 let go. */
  lost = -1;
  private capacity = MIN_CAPACITY;
  private shift = 1 + Math.clz32(MIN_CAPACITY);
  private words = new Uint32Array(MIN_CAPACITY * STRIDE);
  private high: Uint32Array | undefined = undefined;
  /** Where the last search that found nothing ended, and for which page: its insertion mostly follows. */
  private vacant = -1;
  private vacantFor = -1;

  acquire(page: number): number {
    const slot = this.find(page);
    if (slot < 0) return -1;
    const references = this.referencesAt(slot);
    if (references === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page });
    this.words[slot * STRIDE + COUNT] = references + 1;
    return this.frameAt(slot);
  }

  /** @throws PinionError TYPE1_PIN_EXISTS. */
  insert(page: number, pfn: number, references: number): void {
    if (this.isFull) this.resize(capacityFor(this.live + 1));
    if (this.vacantFor !== page && this.find(page) >= 0) throw pinTableErrors.PIN_EXISTS({ page });
    const slot = this.vacant;
    const at = slot * STRIDE;
    this.words[at] = page;
    this.words[at + COUNT] = references;
    this.words[at + LOW] = pfn;
    if (pfn >= HIGH || this.high !== undefined) this.setHigh(slot, Math.floor(pfn / HIGH));
    this.vacantFor = -1;
    this.live++;
  }

  /** As PinTable.release. */
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

  pfn(page: number): number {
    const slot = this.find(page);
    return slot < 0 ? -1 : this.frameAt(slot);
  }

  references(page: number): number {
    const slot = this.find(page);
    return slot < 0 ? 0 : this.referencesAt(slot);
  }

  /** Three quarters are in use: the next insertion makes a larger table. The moment to look for crowded chunks. */
  get isFull(): boolean {
    return (this.live + 1) * 4 > this.capacity * 3;
  }

  /** Every page of from..to, in no order. */
  pagesIn(from: number, to: number): number[] {
    const found: number[] = [];
    for (let slot = 0; slot < this.capacity; slot++) {
      const page = this.pageAt(slot);
      if (this.referencesAt(slot) !== 0 && from <= page && page <= to) found.push(page);
    }
    return found;
  }

  /**
   * Chunks (page >> 9) with at least `most` pages here. Exact counts are taken only of pages whose counter in a sketch (one
   * counter per 16 pages) is high; a large table is not even sketched unless a sample of its slots promises something.
   */
  chunksAbove(most: number): number[] {
    if (this.live < most) return [];
    const sampled = this.capacity >> SAMPLE_SHIFT;
    if (sampled >= SAMPLE_SLOTS && this.sketch(sampled, 1).highest < SAMPLE_HIGH) return [];
    const { counters, highest } = this.sketch(this.capacity, 16);
    return highest < most ? [] : this.countChunks(counters, most);
  }

  /** Hands every page that `take` wants over to it and keeps the rest, in a table of the right size. */
  partWith(take: (page: number, pfn: number, references: number) => boolean): void {
    const { words, high, capacity } = this;
    this.live = 0;
    this.use(capacity);
    for (let slot = 0; slot < capacity; slot++) {
      const page = words[slot * STRIDE] ?? 0;
      const references = words[slot * STRIDE + COUNT] ?? 0;
      const pfn = (words[slot * STRIDE + LOW] ?? 0) + (high?.[slot] ?? 0) * HIGH;
      if (references !== 0 && !take(page, pfn, references)) this.insert(page, pfn, references);
    }
    this.resize(capacityFor(this.live));
  }

  /** The same for the pages first..last alone: looks for each, so that the cost is theirs and not the table's. */
  partWithRange(first: number, last: number, take: (page: number, pfn: number, references: number) => void): void {
    for (let page = first; page <= last && this.live > 0; page++) {
      const slot = this.find(page);
      if (slot < 0) continue;
      take(page, this.frameAt(slot), this.referencesAt(slot));
      this.remove(slot);
    }
  }

  byteSize(): number {
    return this.words.byteLength + (this.high?.byteLength ?? 0);
  }

  /** The slot of `page`, or -1; then `vacant` is the slot that would take it. */
  private find(page: number): number {
    const { words } = this;
    const mask = this.capacity - 1;
    let slot = scatter(page) >>> this.shift;
    for (;;) {
      const at = slot * STRIDE;
      if (words[at + COUNT] === 0) break;
      if (words[at] === page) return slot;
      slot = (slot + 1) & mask;
    }
    this.vacant = slot;
    this.vacantFor = page;
    return -1;
  }

  private pageAt(slot: number): number {
    return this.words[slot * STRIDE + PAGE] ?? 0;
  }

  private referencesAt(slot: number): number {
    return this.words[slot * STRIDE + COUNT] ?? 0;
  }

  private frameAt(slot: number): number {
    const low = this.words[slot * STRIDE + LOW] ?? 0;
    return this.high === undefined ? low : low + (this.high[slot] ?? 0) * HIGH;
  }

  private setHigh(slot: number, high: number): void {
    this.high ??= new Uint32Array(this.capacity);
    this.high[slot] = high;
  }

  /** Takes out what is in a slot; a table that is left seven eighths empty shrinks. */
  private remove(slot: number): void {
    this.words[this.closeGap(slot) * STRIDE + COUNT] = 0;
    this.vacantFor = -1;
    this.live--;
    if (this.live * 8 < this.capacity && this.capacity > MIN_CAPACITY) this.resize(capacityFor(this.live));
  }

  /** Later entries of the run that may stand nearer to their home move up. @returns the slot that is free in the end. */
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

  /** Empty buffers of `capacity` slots; the caller keeps the old ones. */
  private use(capacity: number): void {
    this.capacity = capacity;
    this.shift = 1 + Math.clz32(capacity);
    this.vacantFor = -1;
    this.words = new Uint32Array(capacity * STRIDE);
    this.high = this.high === undefined ? undefined : new Uint32Array(capacity);
  }

  /** Slots are ordered by the hash's highest bits, so old and new buffers are walked in step. */
  private resize(capacity: number): void {
    if (capacity === this.capacity) return;
    const old = this.words;
    const oldHigh = this.high;
    this.use(capacity);
    const { words, high, shift } = this;
    const mask = capacity - 1;
    for (let from = 0; from < old.length; from += STRIDE) {
      if (old[from + COUNT] === 0) continue;
      let slot = scatter(old[from] ?? 0) >>> shift;
      while (words[slot * STRIDE + COUNT] !== 0) slot = (slot + 1) & mask;
      const at = slot * STRIDE;
      words[at] = old[from] ?? 0;
      words[at + COUNT] = old[from + COUNT] ?? 0;
      words[at + LOW] = old[from + LOW] ?? 0;
      if (high !== undefined) high[slot] = oldHigh?.[from / STRIDE] ?? 0;
    }
  }

  /** Counts pages by a hash of their chunk, over the first `slots` slots, a random sample; `pages`: how many per counter. */
  private sketch(slots: number, pages: number): { counters: Uint16Array; highest: number } {
    const expected = (this.live / this.capacity) * slots;
    const counters = new Uint16Array(1 << Math.max(4, 32 - Math.clz32(expected / pages)));
    const mask = counters.length - 1;
    let highest = 0;
    for (let slot = 0; slot < slots; slot++) {
      if (this.referencesAt(slot) === 0) continue;
      const counter = scatter(this.pageAt(slot) >> CHUNK_BITS) & mask;
      const count = (counters[counter] ?? 0) + 1;
      counters[counter] = count;
      if (count > highest) highest = count;
    }
    return { counters, highest };
  }

  private countChunks(sketch: Uint16Array, most: number): number[] {
    const counts = new Map<number, number>();
    const mask = sketch.length - 1;
    for (let slot = 0; slot < this.capacity; slot++) {
      if (this.referencesAt(slot) === 0) continue;
      const chunk = this.pageAt(slot) >> CHUNK_BITS;
      if ((sketch[scatter(chunk) & mask] ?? 0) >= most) counts.set(chunk, (counts.get(chunk) ?? 0) + 1);
    }
    return [...counts.keys()].filter((chunk) => (counts.get(chunk) ?? 0) >= most);
  }
}
