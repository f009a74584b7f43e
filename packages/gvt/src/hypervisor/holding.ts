import { asGfn, type FrameRange, type Gfn, LAST_FRAME, PAGE_SHIFT, type Pfn } from '@pinion/core';
import { SIZE_2M, SIZE_4K } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import type { BackendParts, BackendUsage, Leftover } from './backend.js';
import { GuestBackend } from './guest-backend.js';
import { HeldPages } from './held-pages.js';

const EVERYTHING: FrameRange<Gfn> = { first: asGfn(0), last: asGfn(LAST_FRAME) };
const NONE: readonly Leftover[] = Object.freeze([]);

/**
 * A backend that keeps what it once handed out for as long as the guest has it: unmap is nothing, and nothing can be left over. What
 * cannot be skipped is the duty: a range that goes away is given back at once.
 */
export abstract class HoldingBackend extends GuestBackend {
  protected readonly abilities = {
    pinned: true,
    dmaPin: false,
    largePages: true,
    mapsAperture: false,
    trapsArea: false,
  };
  protected readonly held: HeldPages;

  constructor(parts: BackendParts) {
    super(parts);
    this.held = new HeldPages(parts.pins);
  }

  get usage(): BackendUsage {
    return { mappings: this.held.pages, pages: this.held.pages };
  }

  override detach(): readonly Leftover[] {
    super.detach();
    this.held.release(EVERYTHING);
    return NONE;
  }

  /** A reset of the device takes nothing from the guest, so nothing is given back. */
  releaseAll(): readonly Leftover[] {
    return NONE;
  }

  releaseRange(range: FrameRange): number {
    return this.held.release(range);
  }

  /** @throws PinionError GVT_NOT_OPEN, GVT_BAD_PAGE_SIZE, GVT_NOT_CONTIGUOUS (EINVAL), and what the pin API throws. */
  dmaMapGuestPage(gfn: Gfn, size: number): Pfn {
    this.checkOpen();
    return this.held.ask(gfn, pagesOf(size));
  }

  dmaUnmapGuestPage(_dma: Pfn): void {}

  override gfnToPfn(gfn: Gfn): Pfn | undefined {
    return this.held.frame(gfn) ?? super.gfnToPfn(gfn);
  }
}

/** Pages of a guest page of `size` bytes. @throws GVT_BAD_PAGE_SIZE (EINVAL). */
export function pagesOf(size: number): number {
  if (size !== SIZE_4K && size !== SIZE_2M) throw gvtErrors.BAD_PAGE_SIZE({ size });
  return size >> PAGE_SHIFT;
}
