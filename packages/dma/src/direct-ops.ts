import { asPfn, frameAddress, type HostMemory, PAGE_SIZE, type Pfn } from '@pinion/core';
import type { BouncePool } from './bounce-pool.js';
import type { CoherentBuffer } from './coherent.js';
import type { DmaDevice } from './device.js';
import { ATTR, type Attributes, DIRECTION, type Direction } from './direction.js';
import { dmaErrors } from './errors.js';
import { type PageSource, physicalAddress } from './memory.js';
import type { DmaOps, MapFailure, MappingUse } from './ops.js';
import type { DmaSegment, MemoryPiece, SgList } from './sg.js';

const ALL_ONES = (1n << 64n) - 1n;
/** No mask may be smaller, as far as there is memory above. Source: ZONE_DMA. */
const LEAST_MASK = (1n << 24n) - 1n;

export interface DirectDmaOptions {
  readonly memory: HostMemory;
  /** The highest frame of memory. */
  readonly lastFrame: number;
  /** Where coherent memory comes from. Default: there is none. */
  readonly pages?: PageSource;
  /** What stands in for buffers out of a device's reach. Default: mapping them fails. */
  readonly bounce?: BouncePool;
  /** Bounce everything. Source: swiotlb=force. */
  readonly force?: boolean;
}

/**
 * DMA without an IOMMU: the address is the physical one, nothing is ever merged, and what lies above the device's mask goes
 * through a bounce buffer if there is one. Source: kernel/dma/direct.c.
 */
export class DirectDma implements DmaOps {
  readonly memory: HostMemory;
  readonly requiredMask: bigint;
  readonly mergeBoundary = 0n;
  readonly #lastByte: bigint;
  readonly #pages: PageSource | undefined;
  readonly #bounce: BouncePool | undefined;
  readonly #force: boolean;
  #mappings = 0;
  #bytes = 0;

  /** @throws DMA_BAD_OPTION (EINVAL): `force` without a bounce buffer. */
  constructor(options: DirectDmaOptions) {
    this.memory = options.memory;
    this.#lastByte = frameAddress(options.lastFrame);
    this.requiredMask = (1n << BigInt(this.#lastByte.toString(2).length)) - 1n;
    this.#pages = options.pages;
    this.#bounce = options.bounce;
    this.#force = options.force ?? false;
    if (this.#force && this.#bounce === undefined) {
      throw dmaErrors.BAD_OPTION({ option: 'force', problem: 'there is no bounce buffer' });
    }
  }

  get live(): { readonly mappings: number; readonly bytes: number } {
    return { mappings: this.#mappings, bytes: this.#bytes };
  }

  /** The address is the memory's own. */
  lookup(frame: number): Pfn {
    return asPfn(frame);
  }

  map(device: DmaDevice, piece: MemoryPiece, use: MappingUse): bigint | MapFailure {
    const dma = physicalAddress(piece);
    const direct = !this.#force && capable(device, dma, piece.length);
    const mapped = direct ? dma : this.#bounced(device, piece, use);
    if (typeof mapped === 'bigint') this.#count(1, piece.length);
    return mapped;
  }

  unmap(device: DmaDevice, { dma, length }: DmaSegment, use: MappingUse): void {
    if (this.#mappings === 0) throw dmaErrors.NOT_MAPPED({ device: device.name, address: dma });
    if ((use.attributes & ATTR.SKIP_CPU_SYNC) === 0) this.syncForCpu(device, { dma, length }, use.direction);
    this.#bounce?.unmap(dma);
    this.#count(-1, -length);
  }

  mapList(
    device: DmaDevice,
    list: SgList,
    use: MappingUse & { readonly nents: number },
  ): readonly DmaSegment[] | MapFailure {
    const segments: DmaSegment[] = [];
    for (const piece of list.entries.slice(0, use.nents)) {
      const mapped = this.map(device, piece, use);
      if (typeof mapped !== 'bigint') {
        const undo = { ...use, attributes: use.attributes | ATTR.SKIP_CPU_SYNC };
        for (const segment of segments) this.unmap(device, segment, undo);
        return mapped;
      }
      segments.push({ dma: mapped, length: piece.length });
    }
    return segments;
  }

  unmapList(device: DmaDevice, list: SgList, use: MappingUse & { readonly nents: number }): void {
    if (list.segments.length < use.nents) throw dmaErrors.NOT_MAPPED({ device: device.name, address: 0n });
    for (const segment of list.segments.slice(0, use.nents)) this.unmap(device, segment, use);
  }

  mapResource(device: DmaDevice, piece: MemoryPiece): bigint | MapFailure {
    const dma = physicalAddress(piece);
    if (!capable(device, dma, piece.length)) return this.#outOfReach(device, dma);
    this.#count(1, piece.length);
    return dma;
  }
  unmapResource(device: DmaDevice, { dma, length }: DmaSegment): void {
    if (this.#mappings === 0) throw dmaErrors.NOT_MAPPED({ device: device.name, address: dma });
    this.#count(-1, -length);
  }

  allocate(device: DmaDevice, size: number, _attributes: Attributes): CoherentBuffer | MapFailure {
    const pages = Math.ceil(size / PAGE_SIZE);
    const lastFrame = (device.reach(device.coherentMask) + 1n) / BigInt(PAGE_SIZE) - 1n;
    return this.#contiguous(device, { pages, size, last: Number(lastFrame) });
  }

  free(_device: DmaDevice, buffer: CoherentBuffer): void {
    for (const pfn of buffer.pfns) this.#pages?.free(pfn, 1);
    this.#count(-1, -buffer.size);
  }

  /** As `allocate`, but under the streaming mask. */
  allocatePages(device: DmaDevice, size: number): CoherentBuffer | MapFailure {
    const pages = Math.ceil(size / PAGE_SIZE);
    return this.#contiguous(device, { pages, size, last: device.limitFrame(device.mask) });
  }
  freePages(device: DmaDevice, buffer: CoherentBuffer): void {
    this.free(device, buffer);
  }

  /** Copies out of the bounce buffer unless the device only reads. @throws DMA_OUTSIDE (EINVAL). */
  syncForCpu(_device: DmaDevice, { dma, length }: DmaSegment, direction: Direction): void {
    if (direction !== DIRECTION.TO_DEVICE) this.#bounce?.copy(dma, length, false);
  }
  /** Copies into the bounce buffer unless the device only writes. @throws DMA_OUTSIDE (EINVAL). */
  syncForDevice(_device: DmaDevice, { dma, length }: DmaSegment, direction: Direction): void {
    if (direction !== DIRECTION.FROM_DEVICE) this.#bounce?.copy(dma, length, true);
  }

  supports(mask: bigint): boolean {
    return mask >= (this.#lastByte < LEAST_MASK ? this.#lastByte : LEAST_MASK);
  }

  maxMapping(device: DmaDevice): bigint {
    const mayBounce = this.#force || device.reach(device.mask) < this.requiredMask;
    return this.#bounce !== undefined && mayBounce ? BigInt(this.#bounce.maxMapping(device)) : ALL_ONES;
  }
  optMapping(device: DmaDevice): bigint {
    return this.maxMapping(device);
  }

  #contiguous(
    device: DmaDevice,
    { pages, size, last }: { readonly pages: number; readonly size: number; readonly last: number },
  ): CoherentBuffer | MapFailure {
    const pfn = this.#pages?.allocate({ pages, last });
    if (pfn === undefined) return { failed: dmaErrors.NO_PAGES({ device: device.name, pages }) };
    this.memory.bytes(pfn, pages).fill(0);
    this.#count(1, size);
    return { dma: frameAddress(pfn), size, pfns: Array.from({ length: pages }, (_, index) => asPfn(pfn + index)) };
  }

  #bounced(device: DmaDevice, piece: MemoryPiece, _use: MappingUse): bigint | MapFailure {
    const pool = this.#bounce;
    if (pool === undefined) return this.#outOfReach(device, physicalAddress(piece));
    const dma = pool.map(device, piece);
    const { name } = device;
    if (dma === undefined) {
      return {
        failed: dmaErrors.BOUNCE_FULL({ device: name, length: piece.length, used: pool.used, slots: pool.slots }),
      };
    }
    if (capable(device, dma, piece.length)) return dma;
    pool.unmap(dma);
    return { failed: dmaErrors.BOUNCE_OUT_OF_REACH({ device: name, address: dma, mask: device.reach(device.mask) }) };
  }

  #outOfReach(device: DmaDevice, address: bigint): MapFailure {
    return { failed: dmaErrors.OUT_OF_REACH({ device: device.name, address, mask: device.reach(device.mask) }) };
  }

  #count(mappings: number, bytes: number): void {
    this.#mappings += mappings;
    this.#bytes += bytes;
  }
}

/** Whether the device reaches the last byte. Source: dma_capable(). */
const capable = (device: DmaDevice, dma: bigint, length: number): boolean =>
  dma + BigInt(length) - 1n <= device.reach(device.mask);
