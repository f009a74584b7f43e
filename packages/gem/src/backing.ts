import type { SgList } from '@pinion/dma';

/** Kinds of objects. Source: i915_gem_{stolen,phys,shmem,userptr,dmabuf}.c */
export type ObjectKind = 'stolen' | 'phys' | 'shmem' | 'userptr' | 'dmabuf';

/** How the pages of an object are wanted. */
export interface PagesRequest {
  /** Name of the object, for messages. */
  readonly object: string;
  /** Bytes of the longest list entry. */
  readonly maxSegment: number;
  /** Calls back when pages that could not be had at once are there. */
  readonly arrived: (pages: BackingPages) => void;
}

/** The pages of an object while it has them. */
export interface BackingPages {
  readonly list: SgList;
  /**
   * The list carries device addresses already, made with the pages: stolen, phys and imported objects. The 2015 flag
   * has_dma_mapping, for the first two kinds of the thread.
   */
  readonly hasDmaMapping: boolean;
}

/** Where the memory of an object comes from: its get_pages and put_pages. */
export interface Backing {
  readonly kind: ObjectKind;
  readonly pages: number;
  /** @throws GEM_NO_MEMORY (ENOMEM), GEM_AGAIN (EAGAIN): `arrived` is called later; whatever the memory's owner throws. */
  acquire(request: PagesRequest): BackingPages;
  /** Gives the pages up; `dirty`: the GPU may have written them. */
  release(pages: BackingPages, dirty: boolean): void;
  /** Drops the contents for good. Never while pages are acquired. */
  truncate(): void;
}
