/** The ordered map of a container's mappings: closed, disjoint intervals of IOVA frames. Source: vfio_iommu.dma_list. */
import { catalogue, type FrameRange, formatRange, LAST_FRAME } from '@pinion/core';
import { CHUNK_ENTRIES, DmaChunk } from './dma-chunk.js';
import { DmaHeads } from './dma-heads.js';
import { DmaIndex } from './dma-index.js';
import { WINDOW } from './dma-search.js';

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

/** Lookups without a change, beyond one per four entries, after which an index of all entries pays for itself. */
const INDEX_AFTER = 64;

/**
 * Sorted chunks of up to 64 entries below one sorted array of their first frames: two searches find an entry, and an insertion or removal moves at most a chunk. An entry is any object with the frames `first` and `last`, which must not
 * change while it is in the map. Lookups take any number; one outside 0..2^52-1 finds nothing there.
 * While nothing changes, lookups are answered by an index that costs 16 bytes per entry more; the next change drops it.
 */
export class DmaMap<T extends FrameRange<number>> {
  private chunks: DmaChunk<T>[] = [];
  private heads = new DmaHeads();
  private entries = 0;
  /** Of all entries as they are now; made when `find` missed its `hit` often enough since the last change. */
  private index: DmaIndex<T> | undefined = undefined;
  private lookups = 0;
  /** What `find` found last: devices mostly stay in one mapping for a while. */
  private hit: T | undefined = undefined;

  /** Entries in the map. */
  get size(): number {
    return this.entries;
  }

  /** The entry that holds `frame`. */
  find(frame: number): T | undefined {
    const { hit } = this;
    if (hit !== undefined && frame <= hit.last && frame >= hit.first) return hit;
    const entry = this.index === undefined ? this.search(frame) : this.index.before(frame);
    if (entry === undefined || !(frame <= entry.last)) return undefined;
    this.hit = entry;
    return entry;
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
    const index = this.heads.find(frame);
    const chunk = this.chunks[index];
    return chunk?.at(chunk.lastUpTo(frame) + 1) ?? this.chunks[index + 1]?.at(0);
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
    const index = this.heads.find(first);
    const chunk = this.chunks[index] ?? this.firstChunk();
    const at = chunk.lastUpTo(first) + 1;
    const before = chunk.at(at - 1);
    if (before !== undefined && before.last >= first) throw dmaMapErrors.ENTRY_OVERLAP({ range: entry, other: before });
    if (this.headAt(index, at) <= last) this.refuse(entry, this.entryAt(index, at));
    if (chunk.isFull) {
      this.makeRoom(index, at);
      this.insert(entry);
      return;
    }
    chunk.insert(at, entry);
    this.changed();
    if (at === 0) this.heads.set(index, first);
    this.entries++;
  }

  /** Takes out this very entry. @returns false if it is not in the map (an equal one does not count). */
  remove(entry: T): boolean {
    const index = this.heads.find(entry.first);
    const chunk = this.chunks[index];
    if (chunk === undefined) return false;
    const at = chunk.lastUpTo(entry.first);
    if (chunk.at(at) !== entry) return false;
    chunk.remove(at);
    this.changed();
    this.entries--;
    if (chunk.count === 0 && this.chunks.length > 1) this.dropChunk(index);
    else if (at === 0) this.heads.set(index, chunk.head);
    if (chunk.isThin) this.mergeAround(index);
    return true;
  }

  /** Forgets every entry. */
  clear(): void {
    this.chunks = [];
    this.heads = new DmaHeads();
    this.changed();
    this.entries = 0;
  }

  /** Bytes in the map's buffers now (8 per element of a JavaScript array), without V8's object headers and the entries. */
  byteSize(): number {
    let bytes = this.heads.byteSize() + this.chunks.length * 8 + (this.index?.byteSize() ?? 0);
    for (const chunk of this.chunks) bytes += chunk.byteSize();
    return bytes;
  }

  /** The last entry that begins at or before `frame`. */
  private search(frame: number): T | undefined {
    if (this.lookups++ === (this.entries >> 2) + INDEX_AFTER) this.index = this.indexed();
    return this.chunks[this.heads.find(frame)]?.before(frame);
  }

  private indexed(): DmaIndex<T> | undefined {
    const ranked: T[] = [];
    for (const chunk of this.chunks) chunk.appendTo(ranked);
    return DmaIndex.of(ranked);
  }

  private changed(): void {
    this.index = undefined;
    this.lookups = 0;
    this.hit = undefined;
  }

  /** First frame of entry `at` of a chunk, which may be the first of the chunk after it; Infinity if there is none. */
  private headAt(index: number, at: number): number {
    const chunk = this.chunks[index];
    return chunk !== undefined && at < chunk.count ? chunk.headAt(at) : this.heads.at(index + 1);
  }

  private refuse(range: T, other: T | undefined): void {
    if (other !== undefined) throw dmaMapErrors.ENTRY_OVERLAP({ range, other });
  }

  /** Entry `at` of a chunk, which may be the first of the chunk after it. */
  private entryAt(index: number, at: number): T | undefined {
    return this.chunks[index]?.at(at) ?? this.chunks[index + 1]?.at(0);
  }

  private firstChunk(): DmaChunk<T> {
    const chunk = new DmaChunk<T>(WINDOW);
    this.addChunk(0, chunk);
    return chunk;
  }

  /** Makes room around position `at` of a full chunk. What comes in order gets a new chunk and leaves full ones behind. */
  private makeRoom(index: number, at: number): void {
    const chunk = this.chunks[index];
    if (chunk === undefined) return;
    if (index === this.chunks.length - 1 && at === chunk.count) this.split(index, chunk, 1);
    else this.relieve(index, chunk);
  }

  /** The `count` highest entries get a chunk of their own. */
  private split(index: number, chunk: DmaChunk<T>, count: number): void {
    const added = new DmaChunk<T>(CHUNK_ENTRIES);
    chunk.moveTailTo(added, count);
    this.addChunk(index + 1, added);
  }

  /** Makes room in a full chunk: its ends go to a neighbour, or half of it to a new chunk. */
  private relieve(index: number, chunk: DmaChunk<T>): void {
    const after = this.chunks[index + 1];
    const before = this.chunks[index - 1];
    if (after?.hasMuchRoom) {
      chunk.moveTailTo(after, (chunk.count - after.count) >> 1);
      this.heads.set(index + 1, after.head);
    } else if (before?.hasMuchRoom) {
      chunk.moveHeadTo(before, (chunk.count - before.count) >> 1);
      this.heads.set(index, chunk.head);
    } else {
      this.split(index, chunk, chunk.count >> 1);
    }
  }

  private addChunk(index: number, chunk: DmaChunk<T>): void {
    this.chunks.splice(index, 0, chunk);
    this.heads.insert(index, chunk.head);
  }

  private dropChunk(index: number): void {
    this.chunks.splice(index, 1);
    this.heads.remove(index);
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
