import { asIovaFrame, type IovaFrame, type Log } from '@pinion/core';
import type { DmaDevice } from './device.js';

/** Who hands out IOVA: what this package needs of an allocator. Frames; limits are inclusive. */
export interface IovaSource {
  /** Frames below 4 GiB. */
  readonly frames32: number;
  /** A range of `size` frames at or below `limit`, aligned to its size rounded up to a power of two. `flush`: give cached ranges back first. */
  allocateFast(size: number, limit: number, flush: boolean): IovaFrame | undefined;
  /** Gives back a range of `size` frames, as requested. */
  freeFast(frame: number, size: number): void;
}

/** What IOVA a device may have: the source, and the last frame that the domain translates. */
export interface IovaSpace {
  readonly source: IovaSource;
  readonly last: number;
  readonly log: Log;
}

/**
 * A range for a device under a mask (bytes). Below 4 GiB first, until that fails once; then anywhere under mask, bus limit and
 * aperture. @returns undefined: there is none. Source: iommu_dma_alloc_iova().
 */
export function takeIova(
  space: IovaSpace,
  device: DmaDevice,
  request: { readonly frames: number; readonly mask: bigint },
): IovaFrame | undefined {
  if (request.frames < 1) return undefined;
  const { source } = space;
  const limit = Math.min(device.limitFrame(request.mask), space.last);
  if (device.below4GFirst && limit >= source.frames32) {
    const low = source.allocateFast(request.frames, source.frames32 - 1, false);
    if (low !== undefined) return asIovaFrame(low);
    device.below4GFirst = false;
    space.log.info(`${device.name}: no IOVA left below 4 GiB, using the whole address mask from now on`);
  }
  const frame = source.allocateFast(request.frames, limit, true);
  return frame === undefined ? undefined : asIovaFrame(frame);
}
