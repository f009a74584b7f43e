import type { FrameRange, IovaFrame } from '@pinion/core';
import { DmaMap } from './dma-map.js';
import { KernelDmaTree } from './kernel-dma-tree.js';
import type { Mapping } from './mapping.js';
import type { Quirk } from './quirks.js';

/** What an index of mappings can do. Both kinds hold mappings by their own bounds. */
interface MappingIndex {
  readonly size: number;
  find(frame: IovaFrame): Mapping | undefined;
  findOverlap(first: IovaFrame, last: IovaFrame): Mapping | undefined;
  /** The first mapping that ends at or after `first`, unless it begins after `last`. */
  firstInside(first: IovaFrame, last: IovaFrame, all: boolean): Mapping | undefined;
  first(): Mapping | undefined;
  after(mapping: Mapping): Mapping | undefined;
  insert(mapping: Mapping): void;
  remove(mapping: Mapping): void;
}

/** The default index: chunked sorted arrays. */
class SortedIndex implements MappingIndex {
  readonly #map = new DmaMap<Mapping>();

  get size(): number {
    return this.#map.size;
  }

  find(frame: IovaFrame): Mapping | undefined {
    return this.#map.find(frame);
  }

  findOverlap(first: IovaFrame, last: IovaFrame): Mapping | undefined {
    return this.#map.findOverlap(first, last);
  }

  firstInside(first: IovaFrame, last: IovaFrame): Mapping | undefined {
    const mapping = this.#map.firstAtOrAfter(first);
    return mapping === undefined || mapping.first > last ? undefined : mapping;
  }

  first(): Mapping | undefined {
    return this.#map.first();
  }

  after(mapping: Mapping): Mapping | undefined {
    return this.#map.next(mapping.last);
  }

  insert(mapping: Mapping): void {
    this.#map.insert(mapping);
  }

  remove(mapping: Mapping): void {
    this.#map.remove(mapping);
  }
}

/** All mappings of a container in order of their IOVA. Source: vfio_iommu.dma_list. */
export class MappingStore {
  readonly #index: MappingIndex;
  #pages = 0;

  constructor(quirks: ReadonlySet<Quirk>) {
    const losesTop = quirks.has('top-mapping-invisible');
    this.#index = losesTop || quirks.has('unaligned-pins') ? new KernelDmaTree<Mapping>(losesTop) : new SortedIndex();
  }

  get size(): number {
    return this.#index.size;
  }

  /** Pages of all mappings together. */
  get pages(): number {
    return this.#pages;
  }

  find(frame: IovaFrame): Mapping | undefined {
    return this.#index.find(frame);
  }

  /** Any mapping that shares a page with `range`. */
  overlapping(range: FrameRange): Mapping | undefined {
    return this.#index.findOverlap(range.first, range.last);
  }

  /** The first mapping that shares a page with `range`; `all` says that the range is everything there is. */
  firstInside(range: FrameRange, all = false): Mapping | undefined {
    return this.#index.firstInside(range.first, range.last, all);
  }

  /** The mapping after `mapping`, if it begins inside `range`. */
  nextInside(mapping: Mapping, range: FrameRange): Mapping | undefined {
    const next = this.#index.after(mapping);
    return next === undefined || next.first > range.last ? undefined : next;
  }

  /** Mappings that share a page with `range`, ascending. */
  *inside(range: FrameRange): Iterable<Mapping> {
    let next = this.firstInside(range);
    while (next !== undefined) {
      yield next;
      next = this.nextInside(next, range);
    }
  }

  insert(mapping: Mapping): void {
    this.#index.insert(mapping);
    this.#pages += mapping.pages;
  }

  remove(mapping: Mapping): void {
    this.#index.remove(mapping);
    this.#pages -= mapping.pages;
  }

  /** Every mapping, ascending. The caller may remove the one it is shown. */
  *all(): Iterable<Mapping> {
    for (let next = this.#index.first(); next !== undefined; ) {
      const after = this.#index.after(next);
      yield next;
      next = after;
    }
  }
}
