import { asGfn, asPfn, frameAddress, hex, type Log, PinionError } from '@pinion/core';
import { SIZE_2M, SIZE_4K } from '../dma-cache.js';
import { FewWarnings } from '../few-warnings.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import type { MapOwner } from '../hypervisor/owner.js';

/** No page: the entry leads to scratch. */
export const NO_PAGE = -1;

/** Guest pages for shadow tables: what cannot be had is a scratch page, not an error. */
export class PageMapper {
  readonly #backend: HypervisorBackend;
  readonly #warnings: FewWarnings;
  #mapped = 0;

  constructor(backend: HypervisorBackend, log: Log) {
    this.#backend = backend;
    this.#warnings = new FewWarnings(log);
  }

  /** Pages taken and not given back, large ones as one. */
  get mapped(): number {
    return this.#mapped;
  }

  /** Whether the guest may have memory there; without a backend that knows, every frame is worth a try. */
  isValid(gfn: number): boolean {
    return this.#backend.isValidGfn?.(asGfn(gfn)) !== false;
  }

  /** DMA frame of a page of 4 KiB, or NO_PAGE. */
  small(gfn: number, owner: MapOwner): number {
    if (!this.isValid(gfn)) return NO_PAGE;
    try {
      const dma = this.#backend.dmaMapGuestPage(asGfn(gfn), SIZE_4K, owner);
      this.#mapped += 1;
      return dma;
    } catch (cause) {
      this.refuse('page', gfn, cause);
      return NO_PAGE;
    }
  }

  /** DMA frame of a page of 2 MiB, or NO_PAGE if it cannot be had in one piece. */
  large(gfn: number, owner: MapOwner): number {
    if (!this.#backend.capabilities.largePages) return NO_PAGE;
    try {
      const dma = this.#backend.dmaMapGuestPage(asGfn(gfn), SIZE_2M, owner);
      this.#mapped += 1;
      return dma;
    } catch (cause) {
      if (cause instanceof PinionError) return NO_PAGE;
      throw cause;
    }
  }

  /** The counterpart of `small` and `large`. */
  unmap(dma: number, gfn: number): void {
    this.#mapped -= 1;
    this.#backend.dmaUnmapGuestPage(asPfn(dma), asGfn(gfn));
  }

  /** A page is not held any more although nobody unmapped it: its memory goes away, or a quirk forgets it. */
  forget(): void {
    this.#mapped -= 1;
  }

  /** @throws `cause` if it is not a refusal. */
  refuse(what: 'page' | 'table', gfn: number, cause: unknown): void {
    if (!(cause instanceof PinionError)) throw cause;
    this.#warnings.warn(
      `PPGTT: guest ${what} ${hex(frameAddress(gfn))} cannot be had, its entry leads to scratch`,
      cause,
    );
  }

  /** Refusals are logged again. */
  reset(): void {
    this.#warnings.reset();
  }
}
