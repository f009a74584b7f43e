import {
  type AddressSpace,
  asPfn,
  asVaddrFrame,
  type HostMemory,
  PAGE_SIZE,
  type Pfn,
  type VaddrFrame,
} from '@pinion/core';
import { SgList } from '@pinion/dma';
import type { Backing, BackingPages, PagesRequest } from './backing.js';
import { gemErrors } from './errors.js';
import { mergeFrames } from './shmem.js';

/** Memory of a process. */
export interface UserRange {
  readonly mm: AddressSpace;
  readonly first: VaddrFrame;
  readonly pages: number;
}

/** Runs what must not run where it was asked for. */
export type Worker = (work: () => void) => void;

/**
 * Memory of a process, pinned by a worker because that may fault and take the process's locks: the first `acquire` says EAGAIN,
 * and the pages arrive when the worker ran. Source: i915_gem_userptr.c as of 2015.
 */
export class UserptrBacking implements Backing {
  readonly kind = 'userptr';
  readonly #range: UserRange;
  readonly #memory: HostMemory;
  readonly #worker: Worker;
  #fetching = false;
  #failure: unknown;

  /** @throws GEM_BAD_SIZE (EINVAL). */
  constructor(range: UserRange, memory: HostMemory, worker: Worker) {
    if (!Number.isSafeInteger(range.pages) || range.pages < 1) {
      throw gemErrors.BAD_SIZE({ what: 'a userptr object', pages: range.pages });
    }
    this.#range = range;
    this.#memory = memory;
    this.#worker = worker;
  }

  get pages(): number {
    return this.#range.pages;
  }

  /** Always GEM_AGAIN (EAGAIN) while the worker has not run; what it failed with is thrown once. */
  acquire(request: PagesRequest): BackingPages {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
    if (!this.#fetching) {
      this.#fetching = true;
      this.#worker(() => this.#fetch(request));
    }
    throw gemErrors.AGAIN({ object: request.object });
  }

  release({ list }: BackingPages, dirty: boolean): void {
    for (const { pfn, length } of list.entries) {
      for (let page = 0; page < length / PAGE_SIZE; page += 1) this.#memory.unpinPage(asPfn(pfn + page), dirty);
    }
  }

  truncate(): void {}

  #fetch(request: PagesRequest): void {
    this.#fetching = false;
    const frames: Pfn[] = [];
    try {
      for (let page = 0; page < this.pages; page += 1) {
        frames.push(this.#range.mm.pinPage(asVaddrFrame(this.#range.first + page), true));
      }
      request.arrived({ list: new SgList(mergeFrames(frames, request.maxSegment)), hasDmaMapping: false });
    } catch (failure) {
      for (const pfn of frames) this.#memory.unpinPage(pfn, false);
      this.#failure = failure;
    }
  }
}
