import { asPfn, PAGE_SIZE, type Pfn } from '@pinion/core';
import { type MemoryPiece, type PageSource, SgList } from '@pinion/dma';
import type { Backing, BackingPages, PagesRequest } from './backing.js';
import { gemErrors } from './errors.js';

/**
 * Memory of the object's own, page by page. Contents outlive put_pages (they stay in the page cache), not a purge.
 * Source: i915_gem_shmem.c.
 */
export class ShmemBacking implements Backing {
  readonly kind = 'shmem';
  readonly pages: number;
  readonly #source: PageSource;
  #frames: Pfn[] = [];

  /** @throws GEM_BAD_SIZE (EINVAL). */
  constructor(pages: number, source: PageSource) {
    if (!Number.isSafeInteger(pages) || pages < 1) throw gemErrors.BAD_SIZE({ what: 'a shmem object', pages });
    this.pages = pages;
    this.#source = source;
  }

  /** Frames of the contents; empty before the first `acquire` and after `truncate`. */
  get frames(): readonly Pfn[] {
    return this.#frames;
  }

  acquire(request: PagesRequest): BackingPages {
    this.#populate(request.object);
    return { list: new SgList(mergeFrames(this.#frames, request.maxSegment)), hasDmaMapping: false };
  }

  /** The page cache keeps the pages. */
  release(): void {}

  truncate(): void {
    for (const pfn of this.#frames) this.#source.free(pfn, 1);
    this.#frames = [];
  }

  #populate(object: string): void {
    while (this.#frames.length < this.pages) {
      const pfn = this.#source.allocate({ pages: 1 });
      if (pfn === undefined) {
        this.truncate();
        throw gemErrors.NO_MEMORY({ object, reason: `${this.pages} pages are not free` });
      }
      this.#frames.push(pfn);
    }
  }
}

/** Frames as list entries: neighbours in memory become one, up to `maxSegment` bytes. */
export function mergeFrames(frames: readonly Pfn[], maxSegment: number): readonly MemoryPiece[] {
  const entries: { pfn: Pfn; offset: number; length: number }[] = [];
  for (const pfn of frames) {
    const last = entries.at(-1);
    const joins = last !== undefined && asPfn(last.pfn + last.length / PAGE_SIZE) === pfn;
    if (joins && last.length + PAGE_SIZE <= maxSegment) last.length += PAGE_SIZE;
    else entries.push({ pfn, offset: 0, length: PAGE_SIZE });
  }
  return entries;
}
