/** The leaves of the adaptive table: 512-page chunks that hold enough pins to deserve a slot per page. */
import { PinLeaf } from './pin-leaf.js';

/** A chunk is 2^9 pages (2 MiB): the span of one leaf of an I/O page table. */
export const CHUNK_BITS = 9;
export const CHUNK_PAGES = 1 << CHUNK_BITS;
export const CHUNK_MASK = CHUNK_PAGES - 1;

/** Leaves by chunk number (page >> 9), found in one hash lookup, or none if it is the chunk of the last lookup. */
export class PinChunks {
  private readonly leaves = new Map<number, PinLeaf>();
  private readonly leafPages: number;
  private cached: PinLeaf | undefined = undefined;
  private cachedChunk = -1;
  /** An empty leaf kept for its chunk, so that a page pinned and unpinned in turn does not allocate each time. */
  private spare: PinLeaf | undefined = undefined;

  /** `npages`: pages of the mapping; a small one gets small leaves. */
  constructor(npages: number) {
    this.leafPages = Math.min(CHUNK_PAGES, npages);
  }

  get size(): number {
    return this.leaves.size;
  }

  /** The leaf that has a slot for `page`. */
  leafOf(page: number): PinLeaf | undefined {
    const chunk = page >> CHUNK_BITS;
    return chunk === this.cachedChunk ? this.cached : this.lookUp(chunk);
  }

  at(chunk: number): PinLeaf | undefined {
    return this.leaves.get(chunk);
  }

  /** An empty leaf for a chunk that has none. */
  make(chunk: number): PinLeaf {
    const base = chunk << CHUNK_BITS;
    const leaf = this.spare?.base === base ? this.spare : new PinLeaf(base, this.leafPages);
    this.spare = undefined;
    this.leaves.set(chunk, leaf);
    return leaf;
  }

  /** Takes a chunk's leaf out; it is the caller's to read. */
  take(chunk: number): PinLeaf | undefined {
    const leaf = this.leaves.get(chunk);
    this.leaves.delete(chunk);
    this.cached = undefined;
    this.cachedChunk = -1;
    if (leaf?.live === 0) this.spare = leaf;
    return leaf;
  }

  /** Chunks that overlap pages first..last and have a leaf, ascending. */
  chunksIn(first: number, last: number): number[] {
    const from = first >> CHUNK_BITS;
    const to = last >> CHUNK_BITS;
    const found = [...this.leaves.keys()].filter((chunk) => from <= chunk && chunk <= to);
    return found.sort((a, b) => a - b);
  }

  /** Chunks whose leaf has fewer than `live` pins. */
  below(live: number): number[] {
    return [...this.leaves].filter(([, leaf]) => leaf.live < live).map(([chunk]) => chunk);
  }

  /** 24 bytes stand for a leaf's entry in the map. */
  byteSize(): number {
    let bytes = this.spare?.byteSize() ?? 0;
    for (const leaf of this.leaves.values()) bytes += leaf.byteSize() + 24;
    return bytes;
  }

  private lookUp(chunk: number): PinLeaf | undefined {
    const leaf = this.leaves.get(chunk);
    if (leaf !== undefined) {
      this.cached = leaf;
      this.cachedChunk = chunk;
    }
    return leaf;
  }
}
