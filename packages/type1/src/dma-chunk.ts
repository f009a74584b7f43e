/** One chunk of a DmaMap: up to 128 entries in order of their first frames. */
import type { FrameRange } from '@pinion/core';

/** Most entries of a chunk. */
export const CHUNK_ENTRIES = 128;
const FIRST_CAPACITY = 8;
const MUCH_ROOM = CHUNK_ENTRIES - (CHUNK_ENTRIES >> 2);
const THIN = CHUNK_ENTRIES >> 2;

/** Keys and entries in parallel arrays; the keys' array doubles up to its limit, so a small map stays small. */
export class DmaChunk<T extends FrameRange<number>> {
  count = 0;
  private firsts = new Float64Array(FIRST_CAPACITY);
  private readonly entries: T[] = [];

  get isFull(): boolean {
    return this.count === CHUNK_ENTRIES;
  }

  get isThin(): boolean {
    return this.count < THIN;
  }

  get hasMuchRoom(): boolean {
    return this.count < MUCH_ROOM;
  }

  /** First frame of the lowest entry; 0 when empty. */
  get head(): number {
    return this.firsts[0] ?? 0;
  }

  /** First frame of the highest entry. */
  get tail(): number {
    return this.firsts[this.count - 1] ?? 0;
  }

  canTake(more: number): boolean {
    return this.count + more <= MUCH_ROOM;
  }

  at(index: number): T | undefined {
    return index >= 0 && index < this.count ? this.entries[index] : undefined;
  }

  /** Entries that begin at or before `frame`. */
  countUpTo(frame: number): number {
    const { firsts } = this;
    let low = 0;
    for (let count = this.count; count > 1; ) {
      const half = count >> 1;
      if ((firsts[low + half] ?? 0) <= frame) low += half;
      count -= half;
    }
    return (firsts[low] ?? 0) <= frame && this.count > 0 ? low + 1 : 0;
  }

  /** There must be room. */
  insert(index: number, entry: T): void {
    const { entries } = this;
    if (this.count === this.firsts.length) this.resize(this.count * 2);
    const { firsts } = this;
    entries.push(entry);
    for (let i = this.count; i > index; i--) {
      firsts[i] = firsts[i - 1] ?? 0;
      entries[i] = entries[i - 1] ?? entry;
    }
    firsts[index] = entry.first;
    entries[index] = entry;
    this.count++;
  }

  remove(index: number): void {
    const { firsts, entries } = this;
    for (let i = index + 1; i < this.count; i++) {
      const entry = entries[i];
      if (entry === undefined) break;
      firsts[i - 1] = firsts[i] ?? 0;
      entries[i - 1] = entry;
    }
    entries.pop();
    this.count--;
  }

  /** Moves the `count` highest entries in front of those of `to`, the next chunk. */
  moveTailTo(to: DmaChunk<T>, count: number): void {
    to.splice(0, this.entries.splice(this.count - count, count));
    this.count -= count;
  }

  /** Moves the `count` lowest entries behind those of `to`, the chunk before. */
  moveHeadTo(to: DmaChunk<T>, count: number): void {
    to.splice(to.count, this.entries.splice(0, count));
    this.firsts.copyWithin(0, count, this.count);
    this.count -= count;
  }

  byteSize(): number {
    return this.firsts.byteLength + this.entries.length * 8;
  }

  private splice(index: number, added: readonly T[]): void {
    this.entries.splice(index, 0, ...added);
    this.count = this.entries.length;
    if (this.count > this.firsts.length) this.resize(CHUNK_ENTRIES);
    for (let i = 0; i < this.count; i++) this.firsts[i] = this.entries[i]?.first ?? 0;
  }

  private resize(capacity: number): void {
    const firsts = new Float64Array(Math.min(CHUNK_ENTRIES, capacity));
    firsts.set(this.firsts);
    this.firsts = firsts;
  }
}
