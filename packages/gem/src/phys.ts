import { PAGE_SIZE } from '@pinion/core';
import { ATTR, type CoherentBuffer, copyPhysical, type Dma, SgList } from '@pinion/dma';
import type { Backing, BackingPages, PagesRequest } from './backing.js';
import { gemErrors } from './errors.js';
import { mergeFrames, type ShmemBacking } from './shmem.js';

/**
 * A physically contiguous copy of a shmem object, for engines that take one address (cursors, old rings): copied in when pages are
 * acquired, out when they are released dirty. Source: i915_gem_phys.c.
 */
export class PhysBacking implements Backing {
  readonly kind = 'phys';
  readonly #dma: Dma;
  readonly #contents: ShmemBacking;
  readonly #buffers = new Map<SgList, CoherentBuffer>();

  constructor(dma: Dma, contents: ShmemBacking) {
    this.#dma = dma;
    this.#contents = contents;
  }

  get pages(): number {
    return this.#contents.pages;
  }

  acquire(request: PagesRequest): BackingPages {
    this.#contents.acquire(request);
    const buffer = this.#dma.allocCoherent(this.pages * PAGE_SIZE, ATTR.FORCE_CONTIGUOUS);
    if (buffer === undefined) {
      const reason = this.#dma.lastFailure?.message ?? 'no coherent memory';
      throw gemErrors.NO_MEMORY({ object: request.object, reason });
    }
    this.#copy(buffer, true);
    const list = new SgList(mergeFrames(buffer.pfns, buffer.size));
    list.segments = [{ dma: buffer.dma, length: buffer.size }];
    this.#buffers.set(list, buffer);
    return { list, hasDmaMapping: true };
  }

  release({ list }: BackingPages, dirty: boolean): void {
    const buffer = this.#buffers.get(list);
    if (buffer === undefined) return;
    if (dirty) this.#copy(buffer, false);
    this.#buffers.delete(list);
    this.#dma.freeCoherent(buffer);
  }

  truncate(): void {
    this.#contents.truncate();
  }

  #copy(buffer: CoherentBuffer, into: boolean): void {
    for (const [index, pfn] of this.#contents.frames.entries()) {
      const other = buffer.pfns[index];
      if (other === undefined) continue;
      const [from, to] = into ? [pfn, other] : [other, pfn];
      copyPhysical(this.#dma.memory, { pfn: from, offset: 0 }, { pfn: to, offset: 0, length: PAGE_SIZE });
    }
  }
}
