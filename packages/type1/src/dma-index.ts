/** A read-only index over all entries of a DmaMap: what makes translation fast while mappings come and go rarely. */
import type { FrameRange } from '@pinion/core';

/** Buckets per entry: with two, half of the buckets hold no entry's first frame and few hold more than one. */
const BUCKETS_PER_ENTRY = 2;
/** Entries that may begin in one bucket; spans more uneven than that are better searched in the map's chunks. */
const CROWDED = 16;

/**
 * Entries by rank, and for equal shares of their span the rank that a share begins with. Valid until the map changes. 16 bytes
 * per entry.
 */
export class DmaIndex<T extends FrameRange<number>> {
  private readonly ranked: readonly T[];
  private readonly base: number;
  /** First frame of the last entry. */
  private readonly end: number;
  private readonly perFrame: number;
  /** starts[b]: rank of the last entry that begins in a bucket before b, or 0. */
  private readonly starts: Int32Array;

  private constructor(ranked: readonly T[]) {
    const buckets = ranked.length * BUCKETS_PER_ENTRY;
    this.ranked = ranked;
    this.base = ranked[0]?.first ?? 0;
    this.end = ranked[ranked.length - 1]?.first ?? 0;
    this.perFrame = buckets / (this.end - this.base + 1);
    this.starts = new Int32Array(buckets + 1);
  }

  /** The index of entries in ascending order (at least one), or undefined if they are too unevenly spread for one. */
  static of<T extends FrameRange<number>>(ranked: readonly T[]): DmaIndex<T> | undefined {
    const index = new DmaIndex(ranked);
    return index.fill() ? index : undefined;
  }

  /** The last entry that begins at or before `frame`. */
  before(frame: number): T | undefined {
    const { ranked, starts } = this;
    if (!(frame >= this.base)) return undefined;
    if (frame >= this.end) return ranked[ranked.length - 1];
    const bucket = ((frame - this.base) * this.perFrame) | 0;
    const lowest = starts[bucket] ?? 0;
    // Entries that begin in this bucket, the highest first; what is left is the last of the buckets before.
    for (let rank = starts[bucket + 1] ?? 0; rank > lowest; rank--) {
      const entry = ranked[rank];
      if (entry !== undefined && entry.first <= frame) return entry;
    }
    return ranked[lowest];
  }

  byteSize(): number {
    return this.starts.byteLength + this.ranked.length * 8;
  }

  private fill(): boolean {
    const { ranked, starts } = this;
    let rank = 0;
    for (let bucket = 0; bucket < starts.length; bucket++) {
      const from = rank;
      while (rank + 1 < ranked.length && this.bucketOf(ranked[rank + 1]) < bucket) rank++;
      if (rank - from > CROWDED) return false;
      starts[bucket] = rank;
    }
    return true;
  }

  /** By the very product that `before` computes, so that rounding cannot part an entry from its first frame. */
  private bucketOf(entry: T | undefined): number {
    return (((entry?.first ?? 0) - this.base) * this.perFrame) | 0;
  }
}
