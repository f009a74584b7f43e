import { asIovaFrame, type FrameRange, LAST_FRAME, type ReservedRegion, rangesOverlap } from '@pinion/core';

/** The whole 64-bit space. */
export const WHOLE_SPACE: FrameRange = { first: asIovaFrame(0), last: asIovaFrame(LAST_FRAME) };

/**
 * Where a container may map: ascending, disjoint closed ranges. Empty means anywhere: a container that never had a
 * passthrough group. Source: vfio_iommu.iova_list.
 */
export type IovaRanges = readonly FrameRange[];

/** Whether a request lies wholly inside one range. Source: vfio_iommu_iova_dma_valid(). */
export const rangesAllow = (ranges: IovaRanges, wanted: FrameRange): boolean =>
  ranges.length === 0 || ranges.some((range) => range.first <= wanted.first && wanted.last <= range.last);

/** Cuts the ranges to an aperture; an empty list becomes the aperture. Source: vfio_iommu_aper_resize(). */
export function cutToAperture(ranges: IovaRanges, aperture: FrameRange): IovaRanges {
  if (ranges.length === 0) return [aperture];
  return ranges
    .filter((range) => rangesOverlap(range, aperture))
    .map((range) => ({
      first: range.first > aperture.first ? range.first : aperture.first,
      last: range.last < aperture.last ? range.last : aperture.last,
    }));
}

/** Relaxable regions do not bind VFIO. */
export const binding = (reserved: readonly ReservedRegion[]): readonly ReservedRegion[] =>
  reserved.filter((region) => region.kind !== 'direct-relaxable');

/** Takes reserved regions out, splitting ranges. Source: vfio_iommu_resv_exclude(). */
export function exclude(ranges: IovaRanges, reserved: readonly ReservedRegion[]): IovaRanges {
  let left = [...ranges];
  for (const { range: hole } of binding(reserved)) {
    left = left.flatMap((range) => {
      if (!rangesOverlap(range, hole)) return [range];
      const pieces: FrameRange[] = [];
      if (hole.first > range.first) pieces.push({ first: range.first, last: asIovaFrame(hole.first - 1) });
      if (hole.last < range.last) pieces.push({ first: asIovaFrame(hole.last + 1), last: range.last });
      return pieces;
    });
  }
  return left;
}
