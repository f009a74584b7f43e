import {
  type AddressSpace,
  asPfn,
  asVaddrFrame,
  frameAddress,
  type HostMemory,
  isErrno,
  PAGE_SHIFT,
  type Pfn,
  PinionError,
  pagesToBytes,
  type VaddrFrame,
} from '@pinion/core';
import { charge, credit, type Payer } from './accounting.js';
import { tceErrors } from './errors.js';

/** log2 of the size of the page of memory behind a virtual page: 21 in 2 MiB hugetlb memory, 12 in ordinary one. */
export type BackingShift = (mm: AddressSpace, page: VaddrFrame) => number;

/** Memory that an address space registered: pinned and charged as a whole. Source: struct mm_iommu_table_group_mem_t. */
export class Region {
  readonly mm: AddressSpace;
  readonly first: VaddrFrame;
  readonly pages: number;
  /** log2 of the largest table page that may lead into this memory: its alignment and the pages behind it decide. */
  readonly pageShift: number;
  /** Containers that registered it. */
  references = 1;
  /** Table entries that lead to it, in any container. */
  uses = 0;
  readonly #frames: Float64Array;
  readonly #dirty: Uint8Array;
  readonly #memory: HostMemory;

  constructor(about: {
    mm: AddressSpace;
    first: VaddrFrame;
    frames: Float64Array;
    pageShift: number;
    memory: HostMemory;
  }) {
    this.mm = about.mm;
    this.first = about.first;
    this.pages = about.frames.length;
    this.pageShift = about.pageShift;
    this.#frames = about.frames;
    this.#dirty = new Uint8Array(about.frames.length);
    this.#memory = about.memory;
  }

  get vaddr(): bigint {
    return frameAddress(this.first);
  }

  /** Bytes. */
  get size(): bigint {
    return pagesToBytes(this.pages);
  }

  /** Nothing may be mapped to it any more. */
  get closed(): boolean {
    return this.references === 0;
  }

  frameAt(page: VaddrFrame): Pfn {
    return asPfn(this.#frames[page - this.first] ?? 0);
  }

  /** A device may have written to these pages. */
  markDirty(page: VaddrFrame, count: number): void {
    this.#dirty.fill(1, page - this.first, page - this.first + count);
  }

  holds(first: VaddrFrame, pages: number): boolean {
    return this.first <= first && first + pages <= this.first + this.pages;
  }

  overlaps(first: VaddrFrame, pages: number): boolean {
    return first < this.first + this.pages && this.first < first + pages;
  }

  unpin(): void {
    for (const [page, frame] of this.#frames.entries()) {
      this.#memory.unpinPage(asPfn(frame), this.#dirty[page] === 1);
    }
  }
}

/** What is to be registered. */
export interface RegionRequest {
  readonly first: VaddrFrame;
  readonly pages: number;
}

/**
 * All registered memory, by address space: containers share it. Source: mm->context.iommu_group_mem_list.
 */
export class RegionStore {
  readonly #regions = new WeakMap<AddressSpace, Region[]>();
  readonly #backing: BackingShift;

  constructor(backing: BackingShift) {
    this.#backing = backing;
  }

  /** The region of exactly these bounds. */
  find(mm: AddressSpace, { first, pages }: RegionRequest): Region | undefined {
    return this.#of(mm).find((region) => region.first === first && region.pages === pages);
  }

  /** The region that holds all these pages. */
  lookup(mm: AddressSpace, first: VaddrFrame, pages: number): Region | undefined {
    return this.#of(mm).find((region) => !region.closed && region.holds(first, pages));
  }

  /**
   * Charges and pins memory; on failure nothing is registered, charged or pinned.
   * @throws TCE_MEMLOCK (ENOMEM), TCE_MEMORY_FAULT (EFAULT) or the first page's own error, TCE_MEMORY_OVERLAP (EINVAL);
   * PartlyPinned if some but not all pages can be pinned. Source: mm_iommu_do_alloc(), also for the order.
   */
  create(payer: Payer, request: RegionRequest, memory: HostMemory): Region {
    const { mm } = payer;
    const about = { vaddr: frameAddress(request.first), size: pagesToBytes(request.pages) };
    charge(payer, request.pages, 'register');
    try {
      const frames = pinAll(mm, request, memory);
      if (this.#of(mm).some((region) => region.overlaps(request.first, request.pages))) {
        for (const frame of frames) memory.unpinPage(asPfn(frame), false);
        throw tceErrors.MEMORY_OVERLAP({ ...about, mm: mm.name });
      }
      const pageShift = this.#pageShift(mm, request);
      const region = new Region({ mm, first: request.first, frames, pageShift, memory });
      this.#of(mm).push(region);
      return region;
    } catch (cause) {
      credit(mm, request.pages);
      throw cause;
    }
  }

  /** One container lets go of it. The memory is given back when nobody is left and no entry leads to it. */
  drop(region: Region): void {
    region.references -= 1;
    this.#freeIfUnused(region);
  }

  /** One entry does not lead to it any more. */
  unuse(region: Region): void {
    region.uses -= 1;
    this.#freeIfUnused(region);
  }

  #freeIfUnused(region: Region): void {
    if (region.references > 0 || region.uses > 0) return;
    const regions = this.#of(region.mm);
    regions.splice(regions.indexOf(region), 1);
    region.unpin();
    credit(region.mm, region.pages);
  }

  #pageShift(mm: AddressSpace, { first, pages }: RegionRequest): number {
    let shift = lowestBit(first) < lowestBit(pages) ? lowestBit(first) : lowestBit(pages);
    shift += PAGE_SHIFT;
    for (let page = 0; page < pages && shift > PAGE_SHIFT; page += 1) {
      shift = Math.min(shift, this.#backing(mm, asVaddrFrame(first + page)));
    }
    return shift;
  }

  #of(mm: AddressSpace): Region[] {
    const known = this.#regions.get(mm);
    if (known !== undefined) return known;
    const regions: Region[] = [];
    this.#regions.set(mm, regions);
    return regions;
  }
}

/** Some of the pages could be pinned; they were given back. */
export class PartlyPinned extends PinionError {
  readonly pages: number;

  constructor(about: { vaddr: bigint; size: bigint; pinned: number }, cause: unknown) {
    const error = tceErrors.MEMORY_FAULT(about);
    super(error.name, error.errno, error.message, cause);
    this.pages = about.pinned;
  }
}

/** Pages of the largest region: nobody has the memory for a longer list of frames. */
const MAX_PAGES = 2 ** 27;

/** Pins for writing, as long-term pins of memory that a guest will use do. */
function pinAll(mm: AddressSpace, { first, pages }: RegionRequest, memory: HostMemory): Float64Array {
  if (pages > MAX_PAGES) throw tceErrors.NO_LIST({ pages });
  const frames: Pfn[] = [];
  for (let page = 0; page < pages; page += 1) {
    try {
      frames.push(pinForDevice(mm, asVaddrFrame(first + page), true, memory));
    } catch (cause) {
      for (const frame of frames) memory.unpinPage(frame, false);
      const about = { vaddr: frameAddress(first), size: pagesToBytes(pages), pinned: page };
      if (page > 0) throw new PartlyPinned(about, cause);
      throw isErrno(cause, 'EFAULT') ? tceErrors.MEMORY_FAULT(about, cause) : cause;
    }
  }
  return Float64Array.from(frames);
}

/** Pins one page with a struct page behind it. @throws TCE_MAP_FAULT (EFAULT) for device memory, and as `pinPage`. */
export function pinForDevice(mm: AddressSpace, page: VaddrFrame, write: boolean, memory: HostMemory): Pfn {
  const frame = mm.pinPage(page, write);
  if (memory.pageClass(frame) !== 'device') return frame;
  throw tceErrors.MAP_FAULT({ vaddr: frameAddress(page) });
}

/** Number of the lowest set bit of a page count or frame; 52 for 0, which is aligned to everything. */
function lowestBit(value: number): number {
  if (value === 0) return 52;
  let bit = 0;
  for (let rest = value; rest % 2 === 0; rest /= 2) bit += 1;
  return bit;
}
