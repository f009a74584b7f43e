import type { Prot } from './flags.js';
import type { FrameRange, IovaFrame, Pfn } from './units.js';

/**
 * Pages a driver holds. Everything here works until `unpin()`; afterwards every access throws CORE_PINS_RELEASED (EINVAL),
 * so a driver cannot use a page by accident that the guest already got back.
 */
export interface PinnedPages extends Disposable {
  readonly range: FrameRange;
  readonly prot: Prot;
  /** Host frames, index i is page `range.first + i`. @throws PinionError CORE_PINS_RELEASED. */
  readonly frames: readonly Pfn[];
  /** True until the pages were given back, by whatever road. */
  readonly held: boolean;
  /**
   * The live bytes of all pages in order, as few views as the host's memory allows (host-contiguous pages share one).
   * Writing needs PROT_WRITE in the pin (not checked per byte). @throws PinionError CORE_PINS_RELEASED.
   */
  views(): readonly Uint8Array[];
  /** Copies bytes out, `offset` counted from the first page's start. @throws CORE_PINS_RELEASED, CORE_OUT_OF_RANGE (EINVAL). */
  read(offset: number, length: number): Uint8Array;
  /** Copies bytes in. @throws CORE_PINS_RELEASED, CORE_OUT_OF_RANGE (EINVAL), CORE_READ_ONLY_PIN (EPERM). */
  write(offset: number, bytes: Uint8Array): void;
  /** Gives every page of this handle back, once; a second call does nothing. */
  unpin(): void;
}

/** What any open device may do with guest memory: copies through the mappings, no pin. Source: vfio_dma_rw(). */
export interface DmaApi {
  /** Copies `bytes.length` bytes from guest memory at `iova` (bytes). @throws EINVAL unmapped, EPERM, EFAULT. */
  read(iova: bigint, bytes: Uint8Array): void;
  /** Copies into guest memory. Not atomic: what came before a hole stays written. */
  write(iova: bigint, bytes: Uint8Array): void;
}

/**
 * The pin API. Only a device whose driver declared `dmaUnmap` gets one (no pin right without an unpin duty): by type,
 * and at run time EINVAL. Pins are counted per page: a page pinned twice needs two unpins. Source: vfio_pin_pages().
 *
 * @throws PinionError of `pin`: CORE_NOT_OPEN, CORE_NO_DMA_UNMAP, CORE_BAD_COUNT, CORE_SHORT_OUT (EINVAL), CORE_TOO_MANY (E2BIG, above 512),
 * CORE_NO_PIN_SUPPORT (ENOTTY), and the backend's: not mapped EINVAL, prot EPERM, memory EFAULT, limit ENOMEM.
 */
export interface PinApi {
  /** Pins `count` (1..512) pages from `first`. All or nothing. */
  pin(first: IovaFrame, count: number, prot: Prot): PinnedPages;
  /** The same without a handle, for drivers that keep their own books: host frames go to `out[0..count-1]`. */
  pinInto(first: IovaFrame, count: number, prot: Prot, out: Float64Array): void;
  /** The same by byte address. The offset inside the page is dropped unless the backend keeps it (a kernel quirk). */
  pinAt(iova: bigint, count: number, prot: Prot, out: Float64Array): void;
  /**
   * Drops one reference of each of `count` pages. Never throws for pages that are not pinned: that is reported as an event
   * (a page of another device: `pages:foreign-unpinned`) and otherwise ignored, as in Linux.
   */
  unpin(first: IovaFrame, count: number): void;
  /** The same by byte address; the counterpart of `pinAt`. */
  unpinAt(iova: bigint, count: number): void;
  /** Live bytes of host-contiguous frames got from `pinInto`. The caller must hold them pinned. */
  bytes(pfn: Pfn, count: number): Uint8Array;
  /** References this device holds on a page. */
  count(frame: IovaFrame): number;
  /** Distinct pages this device holds. */
  readonly pages: number;
}
