import { asPfn, type HostMemory, PAGE_SIZE, type PageClass, type Pfn } from '@pinion/core';
import { dmaErrors } from './errors.js';
import type { PageRequest, PageSource } from './memory.js';

export interface PagePoolOptions {
  /** The first frame. */
  readonly first: number;
  readonly pages: number;
  /** The most pages that one allocation gives; the page allocator of Linux stops at 1024. Default: no bound but the pool. */
  readonly largest?: number;
}

/**
 * Host pages with bytes behind them, and an allocator: lowest free place first, aligned to the size. What memory is where no
 * virtual machine brings its own.
 */
export class PagePool implements HostMemory, PageSource {
  readonly first: number;
  readonly pages: number;
  readonly #largest: number;
  readonly #taken: Uint8Array;
  #bytes: Uint8Array | undefined;
  #used = 0;
  /** No page below is free, counted from the first. */
  #hint = 0;

  /** @throws DMA_BAD_OPTION (EINVAL). */
  constructor(options: PagePoolOptions) {
    const whole = Number.isSafeInteger(options.first) && Number.isSafeInteger(options.pages);
    if (!whole || options.first < 0 || options.pages < 1) {
      throw dmaErrors.BAD_OPTION({ option: 'pages', problem: `${options.pages} pages from frame ${options.first}` });
    }
    this.first = options.first;
    this.pages = options.pages;
    this.#largest = options.largest ?? options.pages;
    this.#taken = new Uint8Array(options.pages);
  }

  /** Pages that are allocated. */
  get used(): number {
    return this.#used;
  }

  pageClass(pfn: Pfn): PageClass {
    return this.holds(pfn, 1) ? 'normal' : 'device';
  }

  /** Whether `count` frames from `pfn` are the pool's. */
  holds(pfn: number, count: number): boolean {
    return pfn >= this.first && pfn + count <= this.first + this.pages;
  }

  /** @throws RangeError for frames that are not the pool's. */
  bytes(pfn: Pfn, count: number): Uint8Array {
    if (!this.holds(pfn, count)) throw new RangeError(`no memory at frames ${pfn}..${pfn + count - 1}`);
    this.#bytes ??= new Uint8Array(this.pages * PAGE_SIZE);
    const from = (pfn - this.first) * PAGE_SIZE;
    return this.#bytes.subarray(from, from + count * PAGE_SIZE);
  }

  contiguous(pfn: Pfn): boolean {
    return this.holds(pfn, 2);
  }

  /** Pages of the pool are not counted. */
  unpinPage(): void {}

  allocate({ pages, last }: PageRequest): Pfn | undefined {
    if (pages < 1 || pages > this.#largest) return undefined;
    const unit = 2 ** Math.ceil(Math.log2(pages));
    const end = Math.min(this.first + this.pages - 1, last ?? Number.POSITIVE_INFINITY);
    let at = Math.ceil((this.first + this.#hint) / unit) * unit;
    for (; at + pages - 1 <= end; at += unit) {
      if (!this.#free(at - this.first, pages)) continue;
      this.#taken.fill(1, at - this.first, at - this.first + pages);
      this.#used += pages;
      // A search for one page has looked at every page below.
      if (pages === 1 || at - this.first === this.#hint) this.#hint = at - this.first + pages;
      return asPfn(at);
    }
    return undefined;
  }

  /** @throws DMA_NOT_ALLOCATED (EINVAL) for pages that are not taken. */
  free(pfn: Pfn, pages: number): void {
    const from = pfn - this.first;
    if (!this.holds(pfn, pages) || this.#taken.subarray(from, from + pages).includes(0)) {
      throw dmaErrors.NOT_ALLOCATED({ pfn, pages });
    }
    this.#taken.fill(0, from, from + pages);
    this.#used -= pages;
    this.#hint = Math.min(this.#hint, from);
  }

  #free(from: number, pages: number): boolean {
    for (let index = from; index < from + pages; index += 1) if (this.#taken[index] === 1) return false;
    return true;
  }
}
