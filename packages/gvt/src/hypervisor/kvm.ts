import { type FrameRange, type Gfn, hex, type IrqSink, type Log, type Pfn, type PinApi } from '@pinion/core';
import { DmaCache, type Leftover } from '../dma-cache.js';
import { gvtErrors } from '../errors.js';
import type { Quirks } from '../quirks.js';
import { IRQ } from '../regs.js';
import type { HypervisorBackend } from './backend.js';

/** Entries that a log message spells out; the callback gets them all. */
const SHOWN = 8;

/** What was still mapped when a vGPU was closed, reset or removed. */
export interface LeftoverReport {
  readonly device: string;
  readonly leftovers: readonly Leftover[];
}

/** What a KVM-like backend is made from. */
export interface KvmBackendParts {
  readonly device: string;
  readonly pins: PinApi;
  readonly log: Log;
  readonly quirks: Quirks;
  readonly onLeftovers?: ((report: LeftoverReport) => void) | undefined;
}

const describe = ({ gfn, size, refs }: Leftover): string => `gfn ${hex(gfn)} size ${hex(size)} refs ${refs}`;

/**
 * The backend that pins guest pages on demand and keeps them in a reference-counted cache: KVM's way. It has a handle only
 * between `attach` and `detach`; without one, map is EINVAL, pin ENODEV, unmap and MSI nothing. Source: kvmgt.c.
 */
export class KvmBackend implements HypervisorBackend {
  readonly kind = 'kvm';
  readonly pinned = false;
  readonly #parts: KvmBackendParts;
  #cache: DmaCache | undefined;
  #sink: IrqSink | undefined;

  constructor(parts: KvmBackendParts) {
    this.#parts = parts;
  }

  /** The cache while there is a handle. */
  get cache(): DmaCache | undefined {
    return this.#cache;
  }

  /** The vGPU opened. */
  attach(): void {
    this.#cache = new DmaCache(this.#parts.pins, this.#parts.quirks);
  }

  /** The vGPU closed: everything goes, and what nobody had unmapped is reported. @returns mappings left over. */
  detach(): number {
    const left = this.releaseAll();
    this.#cache = undefined;
    return left;
  }

  /** Releases every mapping whatever its references and reports them; the handle stays. @returns mappings left over. */
  releaseAll(): number {
    const cache = this.#cache;
    if (cache === undefined || cache.entries === 0) return 0;
    const leftovers = [...cache.list()];
    cache.destroy();
    this.#report(leftovers);
    return leftovers.length;
  }

  /** A whole mapping of guest memory goes away. @returns mappings released. May come without a handle. */
  releaseRange(range: FrameRange): number {
    return this.#cache?.releaseRange(range) ?? 0;
  }

  /** Who hears the interrupt; a listener that throws is reported and otherwise ignored. */
  setIrqSink(sink: IrqSink | undefined): void {
    this.#sink = sink;
  }

  /** Address and data are the guest's; the listener was told the vector, so both are ignored, as in KVM. */
  injectMsi(_address: number, _data: number): void {
    if (this.#cache === undefined) return;
    try {
      this.#sink?.(IRQ.MSI, 0);
    } catch (cause) {
      this.#parts.log.warn(`vGPU ${this.#parts.device}: the listener of its MSI threw`, cause);
    }
  }

  /** @throws PinionError GVT_NOT_OPEN (EINVAL) and those of `DmaCache.map`. */
  dmaMapGuestPage(gfn: Gfn, size: number): Pfn {
    if (this.#cache === undefined) throw gvtErrors.NOT_OPEN({ device: this.#parts.device });
    return this.#cache.map(gfn, size);
  }

  /** Ignored without a handle. */
  dmaUnmapGuestPage(dma: Pfn): void {
    this.#cache?.unmap(dma);
  }

  /** @throws PinionError GVT_NO_HANDLE (ENODEV), GVT_DMA_UNKNOWN (ENOMEM). */
  dmaPinGuestPage(dma: Pfn): void {
    if (this.#cache === undefined) throw gvtErrors.NO_HANDLE({ device: this.#parts.device });
    this.#cache.pin(dma);
  }

  bytes(dma: Pfn): Uint8Array {
    return this.#parts.pins.bytes(dma, 1);
  }

  #report(leftovers: readonly Leftover[]): void {
    const { device, log, onLeftovers } = this.#parts;
    const more = leftovers.length > SHOWN ? `, and ${leftovers.length - SHOWN} more` : '';
    log.warn(
      `vGPU ${device}: ${leftovers.length} mappings left over, released: ${leftovers.slice(0, SHOWN).map(describe).join('; ')}${more}`,
    );
    try {
      onLeftovers?.({ device, leftovers });
    } catch (cause) {
      log.warn(`vGPU ${device}: the listener of leftovers threw`, cause);
    }
  }
}
