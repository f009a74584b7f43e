import type { FrameRange, Gfn, Pfn } from '@pinion/core';
import { DmaCache, type PageSource } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import type { BackendParts, BackendUsage, Leftover } from './backend.js';
import { GuestBackend } from './guest-backend.js';
import { type MapOwner, NO_OWNER } from './owner.js';

/**
 * A backend that counts references in a cache over anything that can pin pages: what is mapped again is not pinned again, what is
 * unmapped for the last time is given back, and whatever is left at close is named and released. Source: kvmgt.c, threads/2020-05.
 */
export abstract class RefcountingBackend extends GuestBackend {
  protected readonly abilities = {
    pinned: false,
    dmaPin: true,
    largePages: true,
    mapsAperture: false,
    trapsArea: false,
  };
  readonly #source: PageSource;
  #cache: DmaCache | undefined;

  constructor(parts: BackendParts, source: PageSource) {
    super(parts);
    this.#source = source;
  }

  /** The cache while there is a handle. */
  get cache(): DmaCache | undefined {
    return this.#cache;
  }

  get usage(): BackendUsage {
    return { mappings: this.#cache?.entries ?? 0, pages: this.#cache?.pages ?? 0 };
  }

  override attach(): void {
    super.attach();
    this.#cache = new DmaCache(this.#source, this.parts.quirks);
  }

  override detach(): readonly Leftover[] {
    const left = super.detach();
    this.#cache = undefined;
    return left;
  }

  releaseAll(): readonly Leftover[] {
    const cache = this.#cache;
    if (cache === undefined || cache.entries === 0) return [];
    const leftovers = [...cache.list()];
    cache.destroy();
    return leftovers;
  }

  releaseRange(range: FrameRange): number {
    return this.#cache?.releaseRange(range) ?? 0;
  }

  reachingInto(range: FrameRange): readonly Gfn[] {
    return this.#cache?.reachingInto(range) ?? [];
  }

  /** @throws PinionError GVT_NOT_OPEN (EINVAL) and those of `DmaCache.map`. */
  dmaMapGuestPage(gfn: Gfn, size: number, owner: MapOwner = NO_OWNER): Pfn {
    if (this.#cache === undefined) throw gvtErrors.NOT_OPEN({ device: this.parts.device });
    return this.#cache.map(gfn, size, owner);
  }

  dmaUnmapGuestPage(dma: Pfn, gfn?: Gfn): void {
    this.#cache?.unmap(dma, gfn);
  }

  /** @throws PinionError GVT_NO_HANDLE (ENODEV), GVT_DMA_UNKNOWN (ENOMEM). */
  dmaPinGuestPage(dma: Pfn, owner: MapOwner = NO_OWNER, gfn?: Gfn): void {
    if (this.#cache === undefined) throw gvtErrors.NO_HANDLE({ device: this.parts.device });
    this.#cache.pin(dma, owner, gfn);
  }
}
