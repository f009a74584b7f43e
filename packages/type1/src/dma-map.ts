/** The ordered map of a container's mappings: closed, disjoint intervals of IOVA frames. Source: vfio_iommu.dma_list. */
import { catalogue, type FrameRange, formatRange, LAST_FRAME } from '@pinion/core';
import { DmaChunk } from './dma-chunk.js';

/** What the map refuses. Only `insert` throws. */
export const dmaMapErrors = catalogue('TYPE1', {
  ENTRY_RANGE: [
    'EINVAL',
    (d: { first: number; last: number }) => `entry ${d.first}..${d.last}: give frames 0 <= first <= last <= 2^52-1`,
  ],
  ENTRY_OVERLAP: [
    'EEXIST',
    (d: { range: FrameRange<number>; other: FrameRange<number> }) =>
      `entry ${formatRange(d.range)} overlaps the entry ${formatRange(d.other)}`,
  ],
});

/**
 * Sorted chunks of up to 128 entries below one sorted array of their first frames: two binary searches find an entry, and
 * an insertion or removal moves at most a chunk. An entry is any object with the frames `first` and `last`, which must not
 * change while it is in the map. Lookups take any number; one outside 0..2^52-1 finds nothing there.
 */
export class DmaMap<T extends FrameRange<number>> {
  private chunks: DmaChunk<T>[] = [];
  private heads = new Float64Array(4);
  private entries = 0;

  /** Entries in the map. */
  get size(): number {
    return this.entries;
  }

  /** The entry that holds `frame`. */
  find(frame: number): T | undefined {
    const entry = this.before(frame);
    return entry !== undefined && frame <= entry.last ? entry : undefined;
  }

  /** The lowest entry that shares a frame with first..last (closed). */
  findOverlap(first: number, last: number): T | undefined {
    const entry = this.firstAtOrAfter(first);
    return entry !== undefined && entry.first <= last ? entry : undefined;
  }

  /** The first entry whose last frame is at or after `frame`. */
  firstAtOrAfter(frame: number): T | undefined {
    return this.find(frame) ?? this.next(frame);
  }

  /** The lowest entry. */
  first(): T | undefined {
    return this.chunks[0]?.at(0);
  }

  /**
   * The first entry that begins after `frame`. To walk a map that may change on the way, ask for the next after the `last`
   * of the entry in hand: nothing that stands still is missed or shown twice.
   */
  next(frame: number): T | undefined {
    const index = this.chunkOf(frame);
    const chunk = this.chunks[index];
    if (chunk === undefined) return this.first();
    return chunk.at(chunk.countUpTo(frame)) ?? this.chunks[index + 1]?.at(0);
  }

  /** All entries, ascending; each step looks up afresh, so the map may change between two of them. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let entry = this.first(); entry !== undefined; ) {
      const { last } = entry;
      yield entry;
      entry = this.next(last);
    }
  }

  /** @throws PinionError TYPE1_ENTRY_RANGE (EINVAL), TYPE1_ENTRY_OVERLAP (EEXIST); nothing changed. */
  insert(entry: T): void {
    const { first, last } = entry;
    if (!(Number.isInteger(first) && Number.isInteger(last) && 0 <= first && first <= last && last <= LAST_FRAME)) {
      throw dmaMapErrors.ENTRY_RANGE({ first, last });
    }
    const other = this.findOverlap(first, last);
    if (other !== undefined) throw dmaMapErrors.ENTRY_OVERLAP({ range: entry, other });
    const index = this.roomFor(first);
    const chunk = this.chunks[index];
    if (chunk === undefined) return;
    chunk.insert(chunk.countUpTo(first), entry);
    this.heads[index] = chunk.head;
    this.entries++;
  }

  /** Takes out this very entry. @returns false if it is not in the map (an equal one does not count). */
  remove(entry: T): boolean {
    const index = this.chunkOf(entry.first);
    const chunk = this.chunks[index];
    if (chunk === undefined) return false;
    const at = chunk.countUpTo(entry.first) - 1;
    if (chunk.at(at) !== entry) return false;
    chunk.remove(at);
    this.entries--;
    if (chunk.count === 0) this.dropChunk(index);
    else if (at === 0) this.heads[index] = chunk.head;
    if (chunk.isThin) this.mergeAround(index);
    return true;
  }

  /** Forgets every entry. */
  clear(): void {
    this.chunks = [];
    this.heads = new Float64Array(4);
    this.entries = 0;
  }

  /** Bytes in the map's buffers now (8 per element of a JavaScript array), without V8's object headers and the entries. */
  byteSize(): number {
    let bytes = this.heads.byteLength + this.chunks.length * 8;
    for (const chunk of this.chunks) bytes += chunk.byteSize();
    return bytes;
  }

  /** The last entry that begins at or before `frame`. */
  private before(frame: number): T | undefined {
    const chunk = this.chunks[this.chunkOf(frame)];
    return chunk?.at(chunk.countUpTo(frame) - 1);
  }

  /** Index of the last chunk whose first entry begins at or before `frame`; `chunks.length` if there is none. */
  private chunkOf(frame: number): number {
    const { heads } = this;
    let low = 0;
    for (let count = this.chunks.length; count > 1; ) {
      const half = count >> 1;
      if ((heads[low + half] ?? 0) <= frame) low += half;
      count -= half;
    }
    return (heads[low] ?? 0) <= frame ? low : this.chunks.length;
  }

  /** Index of the chunk that takes an entry beginning at `first`, with room in it. */
  private roomFor(first: number): number {
    const { chunks } = this;
    if (chunks.length === 0) this.addChunk(0, new DmaChunk<T>());
    // What begins before all others goes to the first chunk.
    const index = this.chunkOf(first) % chunks.length;
    const chunk = chunks[index];
    if (chunk === undefined || !chunk.isFull) return index;
    const after = chunks[index + 1];
    if (after === undefined && first > chunk.tail) {
      this.addChunk(index + 1, new DmaChunk<T>());
      return index + 1;
    }
    this.relieve(index, chunk);
    return this.roomFor(first);
  }

  /** Makes room in a full chunk: its ends go to a neighbour, or half of it to a new chunk. */
  private relieve(index: number, chunk: DmaChunk<T>): void {
    const after = this.chunks[index + 1];
    const before = this.chunks[index - 1];
    if (after?.hasMuchRoom) {
      chunk.moveTailTo(after, (chunk.count - after.count) >> 1);
      this.heads[index + 1] = after.head;
    } else if (before?.hasMuchRoom) {
      chunk.moveHeadTo(before, (chunk.count - before.count) >> 1);
      this.heads[index] = chunk.head;
    } else {
      const added = new DmaChunk<T>();
      chunk.moveTailTo(added, chunk.count >> 1);
      this.addChunk(index + 1, added);
    }
  }

  private addChunk(index: number, chunk: DmaChunk<T>): void {
    if (this.chunks.length === this.heads.length) {
      const heads = new Float64Array(this.heads.length * 2);
      heads.set(this.heads);
      this.heads = heads;
    }
    this.heads.copyWithin(index + 1, index, this.chunks.length);
    this.chunks.splice(index, 0, chunk);
    this.heads[index] = chunk.head;
  }

  private dropChunk(index: number): void {
    this.chunks.splice(index, 1);
    this.heads.copyWithin(index, index + 1);
  }

  /** Joins a thin chunk with a neighbour if both fit in one with room to spare. */
  private mergeAround(index: number): void {
    for (const left of [index - 1, index]) {
      const chunk = this.chunks[left];
      const right = this.chunks[left + 1];
      if (chunk === undefined || right === undefined || !chunk.canTake(right.count)) continue;
      right.moveHeadTo(chunk, right.count);
      this.dropChunk(left + 1);
      return;
    }
  }
}
