import type { Gfn, Pfn } from '@pinion/core';

/**
 * What a vGPU core needs of the hypervisor below it. The core knows nothing about who implements it: this is the seam at
 * which another hypervisor is plugged in. Source: struct intel_gvt_mpt (v5.13 shape); the ops of this first form.
 *
 * Contract of an implementation:
 * - the same frame and size gives the same DMA frame while references are held;
 * - no DMA frame is handed out whose page is not held;
 * - whatever is left when the vGPU closes is released by the backend, however many references it has: map and unmap come
 *   from guest page-table writes and need not balance.
 */
export interface HypervisorBackend {
  /** For messages. */
  readonly kind: string;
  /** Memory is pinned for good, so `dmaUnmapGuestPage` does nothing and nothing can be left over. */
  readonly pinned: boolean;
  /** Sends the vGPU's message-signalled interrupt. Never throws. */
  injectMsi(address: number, data: number): void;
  /**
   * Takes one reference on a guest page. `size`: 4096 or 2097152 bytes.
   * @throws PinionError when the page cannot be had; nothing is held then.
   */
  dmaMapGuestPage(gfn: Gfn, size: number): Pfn;
  /** Drops one reference; an unknown DMA frame is ignored. */
  dmaUnmapGuestPage(dma: Pfn): void;
  /** One more reference on an existing mapping. Absent: a display buffer cannot outlive its table entry. */
  dmaPinGuestPage?(dma: Pfn): void;
  /** Whether the guest has memory there. Absent: every frame is tried. */
  isValidGfn?(gfn: Gfn): boolean;
  /** The live bytes of the page at `dma`, which must be held. 4096 bytes. */
  bytes(dma: Pfn): Uint8Array;
}
