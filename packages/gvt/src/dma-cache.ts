import {
  asGfn,
  asIovaFrame,
  asPfn,
  type FrameRange,
  type Gfn,
  type IovaFrame,
  PAGE_SHIFT,
  type Pfn,
  PROT_RW,
  type Prot,
} from '@pinion/core';
import { gvtErrors } from './errors.js';
import { FrameChains } from './frame-chains.js';
import type { Leftover } from './hypervisor/backend.js';
import { type MapOwner, NO_OWNER } from './hypervisor/owner.js';
import { NO_QUIRKS, type Quirks } from './quirks.js';

/** Sizes of a guest page that can be mapped, in bytes. */
export const SIZE_4K = 4096;
export const SIZE_2M = 2 * 1024 * 1024;

/** Where a cache's pages come from: the pin API is one. */
export interface PageSource {
  /** Holds `count` (1 or 512) guest pages from `first`; their DMA frames go to `out`. All or nothing. @throws PinionError. */
  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void;
  /** Lets go of `count` pages whose DMA frames follow `dma`. Must not throw. */
  unpin(first: IovaFrame, count: number, dma: Pfn): void;
}

/** Looking a frame up costs as much as passing this many slots, which lie one after the other. */
const LOOKUP_COST = 8;
const FREE = 0;
const SMALL = 1;
const LARGE = 2;
const LARGE_PAGES = SIZE_2M >> PAGE_SHIFT;

/**
 * The pages a vGPU holds: guest frame -> DMA frame with a reference count. One entry per start frame; nothing limits their
 * number but the container's limit for locked pages. About 53 bytes per entry, no objects.
 *
 * A DMA frame is the host frame of the entry's first page: there is no IOMMU between this device and memory, so bus
 * addresses are host addresses, and a page that stays pinned keeps its DMA frame.
 *
 * Source: struct gvt_dma, gvt_cache_*, kvmgt_dma_{map,pin,unmap}_guest_page; threads/2020-05.
 */
export class DmaCache {
  readonly #pins: PageSource;
  readonly #quirks: Quirks;
  readonly #run = new Float64Array(LARGE_PAGES);
  #byGfn = new FrameChains(0);
  #byDma = new FrameChains(0);
  #state = new Uint8Array(this.#byGfn.capacity);
  /** References of a slot in use; of a free slot, the next free one + 1. */
  #refs = new Uint32Array(this.#byGfn.capacity);
  #owners = new Float64Array(this.#byGfn.capacity);
  #free = 0;
  #top = 0;
  #live = 0;
  #large = 0;

  constructor(pins: PageSource, quirks: Quirks = NO_QUIRKS) {
    this.#pins = pins;
    this.#quirks = quirks;
  }

  /** Mappings held. Source: vgpu->nr_cache_entries. */
  get entries(): number {
    return this.#live;
  }

  /** Pages pinned by these mappings (a page under two mappings counts twice). */
  get pages(): number {
    return this.#live + this.#large * (LARGE_PAGES - 1);
  }

  /** Bytes of the arrays behind the cache. */
  get bytes(): number {
    return (
      this.#byGfn.bytes + this.#byDma.bytes + this.#state.byteLength + this.#refs.byteLength + this.#owners.byteLength
    );
  }

  /** References on the mapping that starts at `gfn`; 0 when there is none. */
  refs(gfn: Gfn): number {
    const slot = this.#byGfn.first(gfn);
    return slot < 0 ? 0 : (this.#refs[slot] ?? 0);
  }

  /**
   * Takes one reference on the mapping of the guest page at `gfn` and returns its DMA frame; the first one pins. All or nothing.
   * A frame that is mapped with the other size keeps its DMA frame for all holders: the mapping grows to the larger size and
   * stays so until its last reference is dropped. `owner` is remembered as the holder of the latest reference.
   * @throws PinionError GVT_BAD_PAGE_SIZE, GVT_NOT_CONTIGUOUS (both EINVAL), and whatever the pin API throws.
   */
  map(gfn: Gfn, size: number, owner: MapOwner = NO_OWNER): Pfn {
    if (size !== SIZE_4K && size !== SIZE_2M) throw gvtErrors.BAD_PAGE_SIZE({ size });
    const state = size === SIZE_4K ? SMALL : LARGE;
    const slot = this.#byGfn.first(gfn);
    if (slot < 0) return this.#insert(gfn, state, owner);
    const held = this.#state[slot] ?? FREE;
    if (held !== state && this.#quirks.has('size-mismatch-drops-holders')) {
      this.#release(slot);
      return this.#insert(gfn, state, owner);
    }
    if (state > held) this.#enlarge(slot, gfn);
    this.#owners[slot] = owner;
    this.#refs[slot] = (this.#refs[slot] ?? 0) + 1;
    return asPfn(this.#byDma.frame(slot));
  }

  /** Takes one more reference on an existing mapping; `gfn` as for `unmap`. @throws PinionError GVT_DMA_UNKNOWN (ENOMEM). */
  pin(dma: Pfn, owner: MapOwner = NO_OWNER, gfn?: Gfn): void {
    const slot = this.#find(dma, gfn);
    if (slot < 0) throw gvtErrors.DMA_UNKNOWN({ dma });
    this.#owners[slot] = owner;
    this.#refs[slot] = (this.#refs[slot] ?? 0) + 1;
  }

  /**
   * Drops one reference; the last one unpins. A DMA frame that no mapping has is ignored. Of several guest frames that are the same host page,
   * the mapping of `gfn` is meant.
   */
  unmap(dma: Pfn, gfn?: Gfn): void {
    const slot = this.#find(dma, gfn);
    if (slot < 0) return;
    const refs = (this.#refs[slot] ?? 1) - 1;
    if (refs === 0) this.#release(slot);
    else this.#refs[slot] = refs;
  }

  /**
   * Releases every mapping with a page in `range`, whatever its references; a 2 MiB mapping goes as a whole. Costs the smaller
   * of the range's pages and the cache's slots. @returns mappings released.
   */
  releaseRange(range: FrameRange<number>): number {
    const before = this.#live;
    if ((range.last - range.first) * LOOKUP_COST >= this.#top) this.#releaseByScan(range);
    else this.#releaseByLookup(range);
    return before - this.#live;
  }

  /** First frames of the mappings that begin before `range` and that `releaseRange` releases because they reach into it. */
  reachingInto(range: FrameRange<number>): readonly Gfn[] {
    const found: Gfn[] = [];
    if (this.#large === 0 || this.#quirks.has('straddle-missed')) return found;
    for (let gfn = Math.max(0, range.first - LARGE_PAGES + 1); gfn < range.first; gfn++) {
      const slot = this.#byGfn.first(gfn);
      if (slot >= 0 && this.#state[slot] === LARGE) found.push(asGfn(gfn));
    }
    return found;
  }

  /** The mappings held, in no order, without changing anything. */
  *list(): Generator<Leftover> {
    for (let slot = 0; slot < this.#top; slot++) {
      if (this.#state[slot] === FREE) continue;
      const size = this.#state[slot] === LARGE ? SIZE_2M : SIZE_4K;
      // why: the array holds nothing but owners that `map` was given.
      const owner = (this.#owners[slot] ?? NO_OWNER) as MapOwner;
      yield { gfn: asGfn(this.#byGfn.frame(slot)), size, refs: this.#refs[slot] ?? 0, owner };
    }
  }

  /** The big hammer: releases everything, whatever its references. @returns mappings released. Source: gvt_cache_destroy(). */
  destroy(): number {
    const before = this.#live;
    for (let slot = 0; slot < this.#top; slot++) if (this.#state[slot] !== FREE) this.#release(slot);
    return before;
  }

  #find(dma: Pfn, gfn: Gfn | undefined): number {
    const slot = gfn === undefined ? -1 : this.#byGfn.first(gfn);
    return slot >= 0 && this.#byDma.frame(slot) === dma ? slot : this.#byDma.first(dma);
  }

  #insert(gfn: Gfn, state: number, owner: MapOwner): Pfn {
    const dma = this.#pinRun(gfn, state === LARGE ? LARGE_PAGES : 1);
    const slot = this.#takeSlot();
    this.#state[slot] = state;
    this.#refs[slot] = 1;
    this.#owners[slot] = owner;
    this.#byGfn.add(slot, gfn);
    this.#byDma.add(slot, dma);
    this.#live += 1;
    if (state === LARGE) this.#large += 1;
    return asPfn(dma);
  }

  #enlarge(slot: number, gfn: Gfn): void {
    this.#pinRun(gfn, LARGE_PAGES);
    this.#pins.unpin(asIovaFrame(gfn), 1, asPfn(this.#byDma.frame(slot)));
    this.#state[slot] = LARGE;
    this.#large += 1;
  }

  #pinRun(gfn: Gfn, count: number): number {
    const run = this.#run;
    this.#pins.pinInto(asIovaFrame(gfn), count, PROT_RW, run);
    const dma = run[0] ?? 0;
    for (let page = 1; page < count; page++) {
      if (run[page] === dma + page) continue;
      for (let at = 0; at < count; at++) this.#pins.unpin(asIovaFrame(gfn + at), 1, asPfn(run[at] ?? 0));
      throw gvtErrors.NOT_CONTIGUOUS({ first: gfn, last: gfn + count - 1 });
    }
    return dma;
  }

  #release(slot: number): void {
    const gfn = this.#byGfn.frame(slot);
    const dma = this.#byDma.frame(slot);
    const large = this.#state[slot] === LARGE;
    this.#byGfn.remove(slot);
    this.#byDma.remove(slot);
    this.#state[slot] = FREE;
    this.#refs[slot] = this.#free;
    this.#free = slot + 1;
    this.#live -= 1;
    if (large) this.#large -= 1;
    this.#pins.unpin(asIovaFrame(gfn), large ? LARGE_PAGES : 1, asPfn(dma));
  }

  #releaseByScan(range: FrameRange<number>): void {
    for (let slot = 0; slot < this.#top; slot++) {
      if (this.#state[slot] === FREE) continue;
      const first = this.#byGfn.frame(slot);
      const reach = this.#quirks.has('straddle-missed') || this.#state[slot] === SMALL ? 0 : LARGE_PAGES - 1;
      if (first <= range.last && first + reach >= range.first) this.#release(slot);
    }
  }

  #releaseByLookup(range: FrameRange<number>): void {
    const pages = range.last - range.first;
    for (let page = 0; page <= pages; page++) this.#releaseAt(range.first + page, SMALL);
    if (this.#large === 0 || this.#quirks.has('straddle-missed')) return;
    const below = Math.max(0, range.first - LARGE_PAGES + 1);
    for (let gfn = below; gfn < range.first; gfn++) this.#releaseAt(gfn, LARGE);
  }

  #releaseAt(gfn: number, least: number): void {
    const slot = this.#byGfn.first(gfn);
    if (slot >= 0 && (this.#state[slot] ?? FREE) >= least) this.#release(slot);
  }

  #takeSlot(): number {
    if (this.#free !== 0) {
      const slot = this.#free - 1;
      this.#free = this.#refs[slot] ?? 0;
      return slot;
    }
    if (this.#top === this.#state.length) this.#grow();
    this.#top += 1;
    return this.#top - 1;
  }

  #grow(): void {
    const live = (slot: number) => this.#state[slot] !== FREE;
    this.#byGfn.grow(live);
    this.#byDma.grow(live);
    const state = new Uint8Array(this.#byGfn.capacity);
    state.set(this.#state);
    this.#state = state;
    const refs = new Uint32Array(this.#byGfn.capacity);
    refs.set(this.#refs);
    this.#refs = refs;
    const owners = new Float64Array(this.#byGfn.capacity);
    owners.set(this.#owners);
    this.#owners = owners;
  }
}
