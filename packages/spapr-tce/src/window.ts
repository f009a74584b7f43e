import { type FrameRange, frameRange, iovaFrame, PAGE_SHIFT, type Pfn, type Prot, type VaddrFrame } from '@pinion/core';
import type { TceTable } from './hardware.js';
import type { Region } from './regions.js';

/** What an entry leads to. `region` in v2 containers; without one the page was pinned for this entry alone. */
export interface Target {
  readonly pfn: Pfn;
  readonly prot: Prot;
  readonly page: VaddrFrame;
  readonly region?: Region;
}

/** A window of a container: the hardware's table and what its entries lead to. Source: struct iommu_table with it_userspace. */
export class Window {
  readonly slot: number;
  readonly table: TceTable;
  /** Pages charged for the table itself. */
  readonly chargedPages: number;
  readonly #targets = new Map<number, Target>();

  constructor(slot: number, table: TceTable, chargedPages: number) {
    this.slot = slot;
    this.table = table;
    this.chargedPages = chargedPages;
  }

  /** Bytes that one entry translates. */
  get pageSize(): bigint {
    return 1n << BigInt(this.table.pageShift);
  }

  /** Host pages that one entry translates. */
  get pagesPerEntry(): number {
    return 2 ** (this.table.pageShift - PAGE_SHIFT);
  }

  /** One past its last byte. */
  get end(): bigint {
    return this.table.start + BigInt(this.table.entries) * this.pageSize;
  }

  /** Entries that lead somewhere. */
  get present(): number {
    return this.#targets.size;
  }

  contains(iova: bigint): boolean {
    return this.table.start <= iova && iova < this.end;
  }

  indexOf(iova: bigint): number {
    return Number((iova - this.table.start) >> BigInt(this.table.pageShift));
  }

  /** The frames that `count` (at least 1) entries from `index` on translate. */
  framesOf(index: number, count: number): FrameRange {
    const first = iovaFrame(this.table.start + BigInt(index) * this.pageSize);
    return frameRange(first, count * this.pagesPerEntry);
  }

  /** Lets an entry lead to `target`. @returns what it led to. @throws what the hardware throws; nothing has changed then. */
  put(index: number, target: Target): Target | undefined {
    this.table.set(index, target.pfn, target.prot);
    const old = this.#targets.get(index);
    this.#targets.set(index, target);
    return old;
  }

  /** Lets an entry lead nowhere. @returns what it led to. */
  take(index: number): Target | undefined {
    const old = this.#targets.get(index);
    if (old === undefined) return undefined;
    this.table.clear(index);
    this.#targets.delete(index);
    return old;
  }

  /** The entries of a range that lead somewhere, in no particular order; the caller may take them. */
  presentIn(first: number, count: number): number[] {
    if (count > this.#targets.size) {
      return [...this.#targets.keys()].filter((index) => first <= index && index < first + count);
    }
    return Array.from({ length: count }, (_, offset) => first + offset).filter((index) => this.#targets.has(index));
  }
}
