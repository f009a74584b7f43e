import {
  asIovaFrame,
  asPfn,
  type FrameRange,
  type Gfn,
  type IrqSink,
  type Pfn,
  PinionError,
  PROT_RW,
} from '@pinion/core';
import { DmaCache } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import { IRQ } from '../regs.js';
import type {
  BackendParts,
  BackendUsage,
  GuestWriteHandler,
  HypervisorBackend,
  HypervisorCapabilities,
  Leftover,
  WriteTraps,
} from './backend.js';
import { type MapOwner, NO_OWNER } from './owner.js';
import { PageTracks } from './page-tracks.js';

/**
 * The backend that pins guest pages on demand and keeps them in a reference-counted cache: KVM's way. It has a handle only
 * between `attach` and `detach`. Source: kvmgt.c.
 */
export class KvmBackend implements HypervisorBackend {
  readonly kind = 'kvm';
  onGuestWrite: GuestWriteHandler | undefined;
  readonly #parts: BackendParts;
  readonly #tracks = new PageTracks();
  readonly #frame = new Float64Array(1);
  #cache: DmaCache | undefined;
  #sink: IrqSink | undefined;
  #traps: WriteTraps | undefined;

  constructor(parts: BackendParts) {
    this.#parts = parts;
  }

  get capabilities(): HypervisorCapabilities {
    const pageTrack = this.#traps !== undefined;
    return { pinned: false, dmaPin: true, pageTrack, largePages: true, mapsAperture: false, trapsArea: false };
  }

  /** The cache while there is a handle. */
  get cache(): DmaCache | undefined {
    return this.#cache;
  }

  get usage(): BackendUsage {
    return { mappings: this.#cache?.entries ?? 0, pages: this.#cache?.pages ?? 0 };
  }

  attach(): void {
    this.#cache = new DmaCache(this.#parts.pins, this.#parts.quirks);
  }

  detach(): readonly Leftover[] {
    this.#tracks.clear();
    const left = this.releaseAll();
    this.#cache = undefined;
    return left;
  }

  releaseAll(): readonly Leftover[] {
    const cache = this.#cache;
    if (cache === undefined || cache.entries === 0) return [];
    const leftovers = [...cache.list()];
    cache.destroy();
    return leftovers;
  }

  releaseRange(range: FrameRange): number {
    return this.#cache?.releaseRange(range) ?? 0;
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** Address and data are the guest's; the listener was told the vector, so both are ignored, as in KVM. A listener that throws is reported. */
  injectMsi(_address: number, _data: number): void {
    this.#handle('send an interrupt to');
    try {
      this.#sink?.(IRQ.MSI, 0);
    } catch (cause) {
      this.#parts.log.warn(`vGPU ${this.#parts.device}: the listener of its MSI threw`, cause);
    }
  }

  /** @throws PinionError GVT_NOT_OPEN (EINVAL) and those of `DmaCache.map`. */
  dmaMapGuestPage(gfn: Gfn, size: number, owner: MapOwner = NO_OWNER): Pfn {
    if (this.#cache === undefined) throw gvtErrors.NOT_OPEN({ device: this.#parts.device });
    return this.#cache.map(gfn, size, owner);
  }

  dmaUnmapGuestPage(dma: Pfn): void {
    this.#cache?.unmap(dma);
  }

  dmaPinGuestPage(dma: Pfn, owner: MapOwner = NO_OWNER): void {
    if (this.#cache === undefined) throw gvtErrors.NO_HANDLE({ device: this.#parts.device });
    this.#cache.pin(dma, owner);
  }

  bytes(dma: Pfn): Uint8Array {
    return this.#parts.pins.bytes(dma, 1);
  }

  /** Pins the page for a moment: without an IOMMU of its own the device has no other way to translate. */
  gfnToPfn(gfn: Gfn): Pfn | undefined {
    const { pins } = this.#parts;
    const frame = asIovaFrame(gfn);
    try {
      pins.pinInto(frame, 1, PROT_RW, this.#frame);
    } catch (cause) {
      if (cause instanceof PinionError) return undefined;
      throw cause;
    }
    pins.unpin(frame, 1);
    return asPfn(this.#frame[0] ?? 0);
  }

  readGuest(gpa: bigint, into: Uint8Array): void {
    this.#handle('read memory of');
    this.#parts.dma.read(gpa, into);
  }

  writeGuest(gpa: bigint, from: Uint8Array): void {
    this.#handle('write memory of');
    this.#parts.dma.write(gpa, from);
  }

  enablePageTrack(gfn: Gfn): void {
    this.#handle('track a page of');
    if (this.#traps === undefined) throw gvtErrors.NO_PAGE_TRACK({ device: this.#parts.device, gfn });
    this.#tracks.enable(this.#traps, gfn, (gpa, bytes) => this.onGuestWrite?.(gpa, bytes));
  }

  disablePageTrack(gfn: Gfn): void {
    this.#tracks.disable(gfn);
  }

  setWriteTraps(traps: WriteTraps | undefined): void {
    this.#tracks.clear();
    this.#traps = traps;
  }

  #handle(what: string): void {
    if (this.#cache === undefined) throw gvtErrors.NO_GUEST({ device: this.#parts.device, what });
  }
}
