import type { SgList } from '@pinion/dma';
import type { Backing, BackingPages } from './backing.js';

/** An attachment to somebody else's buffer. The exporter maps and unmaps. Source: struct dma_buf_attachment. */
export interface DmaBufAttachment {
  readonly pages: number;
  /** @returns the exporter's list with addresses for our device. */
  map(): SgList;
  unmap(list: SgList): void;
}

/** An imported buffer. Source: i915_gem_dmabuf.c. */
export class DmaBufBacking implements Backing {
  readonly kind = 'dmabuf';
  readonly #attachment: DmaBufAttachment;

  constructor(attachment: DmaBufAttachment) {
    this.#attachment = attachment;
  }

  get pages(): number {
    return this.#attachment.pages;
  }
  acquire(): BackingPages {
    return { list: this.#attachment.map(), hasDmaMapping: true };
  }
  release({ list }: BackingPages): void {
    this.#attachment.unmap(list);
  }
  /** The contents are the exporter's. */
  truncate(): void {}
}
