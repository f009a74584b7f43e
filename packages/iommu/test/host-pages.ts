import type { HostMemory, PageClass, Pfn } from '@pinion/core';

/** Host memory of `pages` pages whose frames begin at `base`; other frames are a device's and have no bytes. */
export class HostPages implements HostMemory {
  readonly #base: number;
  readonly #pages: number;
  readonly #bytes: Uint8Array;

  constructor(base: number, pages: number) {
    this.#base = base;
    this.#pages = pages;
    this.#bytes = new Uint8Array(pages * 4096);
  }

  pageClass(pfn: Pfn): PageClass {
    return this.#has(pfn, 1) ? 'normal' : 'device';
  }
  bytes(pfn: Pfn, count: number): Uint8Array {
    if (!this.#has(pfn, count)) throw new RangeError(`no bytes at frame ${pfn}`);
    const from = (pfn - this.#base) * 4096;
    return this.#bytes.subarray(from, from + count * 4096);
  }
  contiguous(pfn: Pfn): boolean {
    return this.#has(pfn, 2);
  }
  unpinPage(): void {}

  #has(pfn: number, count: number): boolean {
    return pfn >= this.#base && pfn + count <= this.#base + this.#pages;
  }
}
