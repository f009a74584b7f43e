import { frameAddress, PAGE_SIZE, type Pfn } from '@pinion/core';
import { SgList } from '@pinion/dma';
import type { Backing, BackingPages } from './backing.js';
import { gemErrors } from './errors.js';

/** Memory that the firmware set aside for the GPU: one piece, addressed directly, never mapped. Source: i915_gem_stolen.c. */
export class StolenBacking implements Backing {
  readonly kind = 'stolen';
  readonly pages: number;
  readonly #first: Pfn;

  /** @throws GEM_BAD_SIZE (EINVAL). */
  constructor(first: Pfn, pages: number) {
    if (!Number.isSafeInteger(pages) || pages < 1) throw gemErrors.BAD_SIZE({ what: 'a stolen object', pages });
    this.#first = first;
    this.pages = pages;
  }

  acquire(): BackingPages {
    const length = this.pages * PAGE_SIZE;
    const list = new SgList([{ pfn: this.#first, offset: 0, length }]);
    list.segments = [{ dma: frameAddress(this.#first), length }];
    return { list, hasDmaMapping: true };
  }
  release(): void {}
  truncate(): void {}
}
