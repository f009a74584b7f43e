import { dmaErrors } from './errors.js';
import { type PhysicalPlace, pagesAround } from './memory.js';

/** A piece of memory: `length` bytes from `offset` in page `pfn`. */
export interface MemoryPiece extends PhysicalPlace {
  readonly length: number;
}

/** A piece of DMA address space in bytes: what the device is told. */
export interface DmaSegment {
  readonly dma: bigint;
  readonly length: number;
}

/**
 * A scatter list: pieces of memory, and after a map the segments the device sees. Like the kernel's, it holds the addresses of
 * **one** mapping: a second map overwrites those of the first. Source: struct sg_table.
 */
export class SgList {
  readonly entries: readonly MemoryPiece[];
  /** The segments of the last map; at most as many as entries. */
  segments: readonly DmaSegment[] = [];
  #pages: number | undefined;

  /** @throws DMA_BAD_LENGTH (EINVAL) for an entry with a negative or broken offset or length. */
  constructor(entries: readonly MemoryPiece[]) {
    for (const { offset, length } of entries) {
      if (!isWhole(offset) || !isWhole(length)) throw dmaErrors.BAD_LENGTH({ what: 'a list entry', length, offset });
    }
    this.entries = entries;
  }

  /** Entries: what unmap and sync want, whatever map returned. */
  get origNents(): number {
    return this.entries.length;
  }

  /** Bytes of all entries. */
  get length(): number {
    return this.entries.reduce((sum, { length }) => sum + length, 0);
  }

  /** Pages that the entries touch, each entry on its own. */
  get pages(): number {
    this.#pages ??= this.entries.reduce((sum, { offset, length }) => sum + pagesAround(offset, length), 0);
    return this.#pages;
  }
}

const isWhole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
