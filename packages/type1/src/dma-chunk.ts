/** One chunk of a DmaMap: up to 64 entries in order of their first frames. */
import type { FrameRange } from '@pinion/core';
import { lastUpTo, slopeOf } from './dma-search.js';

/** Most entries of a chunk. */
export const CHUNK_ENTRIES = 64;
const MUCH_ROOM = CHUNK_ENTRIES - (CHUNK_ENTRIES >> 2);
const THIN = CHUNK_ENTRIES >> 2;

/** Keys (padded with Infinity) and entries in parallel arrays; the keys' array doubles up to its limit, so a small map stays small. */
export class DmaChunk<T extends FrameRange<number>> {
  count = 0;
  private firsts: Float64Array;
  private readonly entries: T[] = [];
  private slope = 0;

  /** Room for `capacity` entries (at least WINDOW) until more come. */
  constructor(capacity: number) {
    this.firsts = new Float64Array(capacity).fill(Infinity);
  }

  get isFull(): boolean {
    return this.count === CHUNK_ENTRIES;
  }

  get isThin(): boolean {
    return this.count < THIN;
  }

  get hasMuchRoom(): boolean {
    return this.count < MUCH_ROOM;
  }

  /** First frame of the lowest entry; Infinity when empty. */
  get head(): number {
    return this.firsts[0] ?? 0;
  }

  /** First frame of an entry; `index` is below `count`. */
  headAt(index: number): number {
    return this.firsts[index] ?? Infinity;
  }

  canTake(more: number): boolean {
    return this.count + more <= MUCH_ROOM;
  }

  at(index: number): T | undefined {
    return index >= 0 && index < this.count ? this.entries[index] : undefined;
  }

  /** The last entry that begins at or before `frame`. */
  before(frame: number): T | undefined {
    const index = lastUpTo(this.firsts, this.slope, frame);
    return index < 0 ? undefined : this.entries[index];
  }

  /** Index of the last entry that begins at or before `frame`, or -1. */
  lastUpTo(frame: number): number {
    return lastUpTo(this.firsts, this.slope, frame);
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
    this.slope = slopeOf(firsts, this.count);
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
    firsts[this.count] = Infinity;
    this.slope = slopeOf(firsts, this.count);
  }

  /** Moves the `count` highest entries in front of those of `to`, the next chunk. */
  moveTailTo(to: DmaChunk<T>, count: number): void {
    to.open(count, this.entries);
    const from = this.count - count;
    for (let i = 0; i < count; i++) to.copy(i, this, from + i);
    this.cut(from);
    to.slope = slopeOf(to.firsts, to.count);
  }

  /** Moves the `count` lowest entries behind those of `to`, the chunk before. */
  moveHeadTo(to: DmaChunk<T>, count: number): void {
    const at = to.count;
    to.grow(count, this.entries);
    for (let i = 0; i < count; i++) to.copy(at + i, this, i);
    for (let i = count; i < this.count; i++) this.copy(i - count, this, i);
    this.cut(this.count - count);
    to.slope = slopeOf(to.firsts, to.count);
  }

  /** Adds all entries to `all`, ascending. */
  appendTo(all: T[]): void {
    for (const entry of this.entries) all.push(entry);
  }

  byteSize(): number {
    return this.firsts.byteLength + this.entries.length * 8;
  }

  /** `count` places more at the end, filled with any of `entries` for the time being. */
  private grow(count: number, entries: readonly T[]): void {
    if (this.count + count > this.firsts.length) this.resize(CHUNK_ENTRIES);
    for (const entry of entries.slice(0, count)) this.entries.push(entry);
    this.count += count;
  }

  /** `count` places more at the start. */
  private open(count: number, entries: readonly T[]): void {
    this.grow(count, entries);
    for (let i = this.count - 1; i >= count; i--) this.copy(i, this, i - count);
  }

  private copy(to: number, from: DmaChunk<T>, at: number): void {
    const entry = from.entries[at];
    if (entry === undefined) return;
    this.entries[to] = entry;
    this.firsts[to] = from.firsts[at] ?? 0;
  }

  /** Forgets all but the lowest `count` entries. */
  private cut(count: number): void {
    this.count = count;
    this.entries.length = count;
    this.firsts.fill(Infinity, count);
    this.slope = slopeOf(this.firsts, count);
  }

  private resize(capacity: number): void {
    const firsts = new Float64Array(Math.min(CHUNK_ENTRIES, capacity)).fill(Infinity);
    firsts.set(this.firsts);
    this.firsts = firsts;
  }
}
