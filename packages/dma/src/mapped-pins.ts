import { asPfn, type IovaFrame, iovaFrame, type Pfn, type PinApi, type PinnedPages, type Prot } from '@pinion/core';
import { dmaErrors } from './errors.js';
import type { FrameMapper } from './frame-mapper.js';

/** What a mapped pin leads back to: `IommuDma` and `DirectDma` have it. */
export interface DmaLookup {
  /** The host frame behind a frame of DMA addresses. */
  lookup(frame: number): Pfn | undefined;
}

/**
 * The pin API of a mediated device whose real device sits behind an IOMMU: `pinInto` answers DMA frames instead of host frames,
 * `bytes` takes them, and a page is unmapped before it is unpinned. A page is mapped once, however often it is pinned. What guest
 * frames there are, the mapper is told by whoever composes. Source: kvmgt_dma_map_guest_page(); threads/2016-05.
 */
export class MappedPins implements PinApi {
  readonly #pins: PinApi;
  readonly #mapper: FrameMapper;
  readonly #back: DmaLookup;
  readonly #references = new Map<number, number>();

  constructor(pins: PinApi, mapper: FrameMapper, back: DmaLookup) {
    this.#pins = pins;
    this.#mapper = mapper;
    this.#back = back;
  }

  get pages(): number {
    return this.#pins.pages;
  }

  /** Pins and maps; `out` gets DMA frames. All or nothing. @throws what the pin API and the mapper throw. */
  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void {
    this.#pins.pinInto(first, count, prot, out);
    let page = 0;
    try {
      for (; page < count; page += 1) out[page] = this.#map(first + page, out[page] ?? 0);
    } catch (failure) {
      for (let undo = 0; undo < page; undo += 1) this.#unmap(first + undo);
      this.#pins.unpin(first, count);
      throw failure;
    }
  }

  /** Unmaps what nobody pins any more, then unpins. */
  unpin(first: IovaFrame, count: number): void {
    for (let page = 0; page < count; page += 1) this.#unmap(first + page);
    this.#pins.unpin(first, count);
  }

  /**
   * Live bytes behind DMA frames that lie in host-contiguous memory.
   * @throws DMA_NOT_MAPPED (EINVAL) for a frame that leads nowhere.
   */
  bytes(dma: Pfn, count: number): Uint8Array {
    const pfn = this.#back.lookup(dma);
    if (pfn === undefined) throw dmaErrors.NOT_MAPPED({ device: 'a mediated device', address: BigInt(dma) << 12n });
    return this.#pins.bytes(pfn, count);
  }

  count(frame: IovaFrame): number {
    return this.#pins.count(frame);
  }

  /** Pins with a handle are for the CPU: they are not mapped. */
  pin(first: IovaFrame, count: number, prot: Prot): PinnedPages {
    return this.#pins.pin(first, count, prot);
  }
  /** By byte address, not mapped either. */
  pinAt(iova: bigint, count: number, prot: Prot, out: Float64Array): void {
    this.#pins.pinAt(iova, count, prot, out);
  }
  unpinAt(iova: bigint, count: number): void {
    this.#pins.unpinAt(iova, count);
  }

  /** @returns the DMA frame of a guest frame. */
  #map(gfn: number, pfn: number): number {
    const references = this.#references.get(gfn) ?? 0;
    const known = references === 0 ? undefined : this.#mapper.lookup(gfn);
    const dma = known ?? this.#mapper.map(gfn, asPfn(pfn));
    this.#references.set(gfn, references + 1);
    return iovaFrame(dma);
  }

  /** A frame that was never mapped here is the pin API's to report. */
  #unmap(gfn: number): void {
    const references = this.#references.get(gfn) ?? 0;
    if (references > 1) {
      this.#references.set(gfn, references - 1);
      return;
    }
    if (references === 0) return;
    this.#references.delete(gfn);
    this.#mapper.unmap(gfn);
  }
}
