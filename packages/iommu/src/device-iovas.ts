import { type IovaFrame, type Log, silentLog } from '@pinion/core';
import { iommuErrors } from './errors.js';
import type { IovaAllocator } from './iova-allocator.js';

/** Where IOVAs for a device may lie, in frames. */
export interface DeviceIovasOptions {
  /** The highest frame the device can address: its DMA mask in frames, e.g. 0xfffff for 32 bits. */
  readonly limit: number;
  /** The highest frame the domain translates. Default: no bound of its own. */
  readonly aperture?: number;
  /** Take the whole mask at once instead of trying below 4 GiB first. Default false. Source: iommu.forcedac=1. */
  readonly forceDac?: boolean;
  /** Told once when the first try below 4 GiB failed. */
  readonly log?: Log;
  /** For that message. */
  readonly device?: string;
}

/**
 * One device's way of asking for IOVA: below 4 GiB first, because old buses needed two cycles for a longer address, then
 * anywhere under its mask. The first failure below 4 GiB ends the first step for good; caches are flushed only in the second.
 * Source: iommu_dma_alloc_iova().
 */
export class DeviceIovas {
  readonly #allocator: IovaAllocator;
  readonly #limit: number;
  readonly #log: Log;
  readonly #device: string;
  #below4GFirst: boolean;

  constructor(allocator: IovaAllocator, options: DeviceIovasOptions) {
    this.#allocator = allocator;
    this.#limit = Math.min(options.limit, options.aperture ?? options.limit);
    this.#below4GFirst = !(options.forceDac ?? false);
    this.#log = options.log ?? silentLog;
    this.#device = options.device ?? 'a device';
  }

  /** Whether requests still try below 4 GiB first. Turns false once and stays so. */
  get below4GFirst(): boolean {
    return this.#below4GFirst;
  }

  /** `size` frames, aligned to their size. @throws IOMMU_NO_IOVA (ENOMEM), IOMMU_BAD_IOVA_REQUEST (EINVAL). */
  allocate(size: number): IovaFrame {
    const frame = this.#firstStep(size) ?? this.#allocator.allocateFast(size, this.#limit, true);
    if (frame === undefined) throw iommuErrors.NO_IOVA({ size, limit: this.#limit });
    return frame;
  }

  /** Gives back what `allocate(size)` returned. @throws IOMMU_BAD_IOVA_REQUEST (EINVAL). */
  free(frame: IovaFrame, size: number): void {
    this.#allocator.freeFast(frame, size);
  }

  #firstStep(size: number): IovaFrame | undefined {
    const last32 = this.#allocator.frames32 - 1;
    if (!this.#below4GFirst || this.#limit <= last32) return undefined;
    const frame = this.#allocator.allocateFast(size, last32, false);
    if (frame === undefined) {
      this.#below4GFirst = false;
      this.#log.info(`${this.#device}: no IOVA left below 4 GiB, using the whole address mask from now on`);
    }
    return frame;
  }
}
