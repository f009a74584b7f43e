import { asIovaFrame, asPfn, frameAddress, type IovaFrame, PAGE_SIZE, type Pfn } from '@pinion/core';
import type { DmaDevice } from './device.js';
import { DIRECTION } from './direction.js';
import type { Dma } from './dma.js';
import { dmaErrors } from './errors.js';
import type { IommuDma } from './iommu-ops.js';

/** What a mapper holds, for comparison. */
export interface MapperStats {
  /** Pages that are mapped. */
  readonly mapped: number;
  /** IOVA ranges that the allocator was asked for. */
  readonly ranges: number;
  /** IOVA frames that are out of use, mapped or not. */
  readonly iovaFrames: number;
  /** Entries that are kept to find an address again. */
  readonly entries: number;
}

/**
 * How a mediated device turns pages of its guest into addresses of the real device. Guest frames are grouped in regions, one per
 * mapping of the hypervisor. Source: threads/2016-05.
 */
export interface FrameMapper {
  /** A region exists from now on. @throws DMA_REGION_OVERLAP (EEXIST), DMA_NO_IOVA (ENOMEM). */
  addRegion(first: number, pages: number): void;
  /** Takes a region away with everything that is mapped in it. @throws DMA_NO_REGION (ENOENT). */
  removeRegion(first: number): void;
  /** @returns the address for the device. @throws DMA_NO_REGION (ENOENT), DMA_FRAME_MAPPED (EEXIST), the reason of a failed map. */
  map(gfn: number, pfn: Pfn): bigint;
  /** @throws DMA_NO_REGION (ENOENT); a frame that is not mapped is skipped. */
  unmap(gfn: number): void;
  /** The address of a mapped frame. */
  lookup(gfn: number): bigint | undefined;
  readonly stats: MapperStats;
}

interface Region {
  readonly first: number;
  readonly pages: number;
}

/** The regions by their first frame; few, so a search from the front will do. */
class Regions<R extends Region> {
  readonly #all = new Map<number, R>();

  add(region: R): void {
    const { first, pages } = region;
    for (const other of this.#all.values()) {
      if (first < other.first + other.pages && other.first < first + pages)
        throw dmaErrors.REGION_OVERLAP({ first, pages });
    }
    this.#all.set(first, region);
  }
  /** @throws DMA_NO_REGION (ENOENT). */
  take(first: number): R {
    const region = this.#all.get(first);
    if (region === undefined) throw dmaErrors.NO_REGION({ gfn: first });
    this.#all.delete(first);
    return region;
  }
  /** @throws DMA_NO_REGION (ENOENT). */
  around(gfn: number): R {
    for (const region of this.#all.values()) {
      if (region.first <= gfn && gfn < region.first + region.pages) return region;
    }
    throw dmaErrors.NO_REGION({ gfn });
  }
  get all(): Iterable<R> {
    return this.#all.values();
  }
}

/** One IOVA per page: as many entries as pages. With no IOMMU the address is the page's own. */
export class PerPageMapper implements FrameMapper {
  readonly #dma: Dma;
  readonly #regions = new Regions<Region>();
  readonly #addresses = new Map<number, bigint>();

  constructor(dma: Dma) {
    this.#dma = dma;
  }

  get stats(): MapperStats {
    const { size } = this.#addresses;
    return { mapped: size, ranges: size, iovaFrames: size, entries: size };
  }

  addRegion(first: number, pages: number): void {
    this.#regions.add({ first, pages });
  }

  removeRegion(first: number): void {
    const region = this.#regions.take(first);
    for (const [gfn, dma] of this.#addresses) {
      if (gfn >= region.first && gfn < region.first + region.pages) this.#drop(gfn, dma);
    }
  }

  map(gfn: number, pfn: Pfn): bigint {
    this.#regions.around(gfn);
    if (this.#addresses.has(gfn)) throw dmaErrors.FRAME_MAPPED({ gfn });
    const dma = this.#dma.mapPage({ pfn, offset: 0, length: PAGE_SIZE }, DIRECTION.BIDIRECTIONAL);
    if (this.#dma.mappingError(dma)) {
      throw this.#dma.lastFailure ?? dmaErrors.NO_IOVA({ device: this.#dma.device.name, frames: 1, last: dma });
    }
    this.#addresses.set(gfn, dma);
    return dma;
  }

  unmap(gfn: number): void {
    this.#regions.around(gfn);
    const dma = this.#addresses.get(gfn);
    if (dma !== undefined) this.#drop(gfn, dma);
  }

  lookup(gfn: number): bigint | undefined {
    return this.#addresses.get(gfn);
  }

  #drop(gfn: number, dma: bigint): void {
    this.#dma.unmapPage({ dma, length: PAGE_SIZE }, DIRECTION.BIDIRECTIONAL);
    this.#addresses.delete(gfn);
  }
}

interface PlacedRegion extends Region {
  readonly base: IovaFrame;
  /** One bit per page: mapped. */
  readonly bits: Uint8Array;
}

/**
 * A contiguous IOVA range per region, pages put in as they come: as many entries as regions and one bit per page, because the
 * address follows from the frame. Costs IOVA for pages that are never mapped. Needs an IOMMU.
 */
export class RegionMapper implements FrameMapper {
  readonly #ops: IommuDma;
  readonly #device: DmaDevice;
  readonly #regions = new Regions<PlacedRegion>();
  #mapped = 0;

  constructor(device: DmaDevice, ops: IommuDma) {
    this.#device = device;
    this.#ops = ops;
  }

  get stats(): MapperStats {
    const regions = [...this.#regions.all];
    const iovaFrames = regions.reduce((sum, { pages }) => sum + pages, 0);
    return { mapped: this.#mapped, ranges: regions.length, iovaFrames, entries: regions.length };
  }

  addRegion(first: number, pages: number): void {
    const base = this.#ops.reserve(this.#device, pages);
    if (base === undefined) {
      throw dmaErrors.NO_IOVA({
        device: this.#device.name,
        frames: pages,
        last: this.#device.reach(this.#device.mask),
      });
    }
    try {
      this.#regions.add({ first, pages, base, bits: new Uint8Array(Math.ceil(pages / 8)) });
    } catch (error) {
      this.#ops.release(this.#device, base, pages);
      throw error;
    }
  }

  removeRegion(first: number): void {
    const region = this.#regions.take(first);
    this.#mapped -= countBits(region.bits);
    this.#ops.release(this.#device, region.base, region.pages);
  }

  map(gfn: number, pfn: Pfn): bigint {
    const region = this.#regions.around(gfn);
    const index = gfn - region.first;
    if (bitAt(region.bits, index)) throw dmaErrors.FRAME_MAPPED({ gfn });
    this.#ops.place(asIovaFrame(region.base + index), asPfn(pfn), 1);
    setBit(region.bits, index, true);
    this.#mapped += 1;
    return frameAddress(region.base + index);
  }

  unmap(gfn: number): void {
    const region = this.#regions.around(gfn);
    const index = gfn - region.first;
    if (!bitAt(region.bits, index)) return;
    this.#ops.clear(asIovaFrame(region.base + index), 1);
    setBit(region.bits, index, false);
    this.#mapped -= 1;
  }

  lookup(gfn: number): bigint | undefined {
    for (const { first, pages, base, bits } of this.#regions.all) {
      if (gfn >= first && gfn < first + pages)
        return bitAt(bits, gfn - first) ? frameAddress(base + gfn - first) : undefined;
    }
    return undefined;
  }
}

const bitAt = (bits: Uint8Array, index: number): boolean => ((bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
function setBit(bits: Uint8Array, index: number, on: boolean): void {
  const mask = 1 << (index & 7);
  bits[index >> 3] = on ? (bits[index >> 3] ?? 0) | mask : (bits[index >> 3] ?? 0) & ~mask;
}
const countBits = (bits: Uint8Array): number => {
  let count = 0;
  for (let byte of bits) for (; byte !== 0; byte &= byte - 1) count += 1;
  return count;
};
