import { asPfn, frameAddress, type HostMemory, PAGE_SIZE, type Pfn } from '@pinion/core';

/** A request for pages that lie behind each other. */
export interface PageRequest {
  readonly pages: number;
  /** No page above this frame. Default: anywhere. */
  readonly last?: number;
}

/** Where coherent memory comes from. Source: alloc_pages(). */
export interface PageSource {
  /** Contiguous pages, aligned to their number rounded up to a power of two. @returns the first; undefined: there are none. */
  allocate(request: PageRequest): Pfn | undefined;
  /** Gives back pages that `allocate` returned, all of them or a part. */
  free(pfn: Pfn, pages: number): void;
}

/** What a CPU address leads to. Only `linear` is memory that may be mapped for DMA. */
export type CpuArea = 'linear' | 'stack' | 'text' | 'vmalloc';

/** The byte behind a CPU address. */
export interface CpuPlace {
  readonly area: CpuArea;
  readonly pfn: Pfn;
  /** Offset inside the page. */
  readonly offset: number;
}

/** The driver's own address space, for those who map by CPU address. Source: virt_to_page(), is_vmalloc_addr(). */
export interface CpuSpace {
  /** @returns undefined for an address that leads nowhere. */
  resolve(address: bigint): CpuPlace | undefined;
  /** What kind of memory a frame is. */
  areaOf(pfn: Pfn): CpuArea;
}

/** A place in host memory: `offset` bytes into the page `pfn`; an offset may reach past that page. */
export interface PhysicalPlace {
  readonly pfn: Pfn;
  readonly offset: number;
}

/** The physical byte address of a place. */
export const physicalAddress = ({ pfn, offset }: PhysicalPlace): bigint => frameAddress(pfn) + BigInt(offset);

/** Pages that hold `length` bytes from `offset` on. */
export const pagesAround = (offset: number, length: number): number =>
  Math.ceil(((offset % PAGE_SIZE) + length) / PAGE_SIZE);

/** Calls `visit` with the live bytes of each page's share of `length` bytes from `place`. */
export function eachPage(
  memory: HostMemory,
  place: PhysicalPlace & { readonly length: number },
  visit: (bytes: Uint8Array, done: number) => void,
): void {
  let done = 0;
  while (done < place.length) {
    const at = place.offset + done;
    const page = Math.floor(at / PAGE_SIZE);
    const from = at % PAGE_SIZE;
    const length = Math.min(PAGE_SIZE - from, place.length - done);
    visit(memory.bytes(asPfn(place.pfn + page), 1).subarray(from, from + length), done);
    done += length;
  }
}

/** Copies `length` bytes inside host memory; the pieces may lie anywhere. */
export function copyPhysical(
  memory: HostMemory,
  from: PhysicalPlace,
  to: PhysicalPlace & { readonly length: number },
): void {
  eachPage(memory, to, (target, done) => {
    const source = { pfn: from.pfn, offset: from.offset + done, length: target.length };
    eachPage(memory, source, (bytes, part) => target.set(bytes, part));
  });
}
