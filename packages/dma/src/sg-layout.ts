import { PAGE_SIZE } from '@pinion/core';
import type { DmaSegment, MemoryPiece } from './sg.js';

/** What a list may be turned into. */
export interface SegmentLimits {
  /** Bytes. */
  readonly maxSegment: number;
  /** One more than the boundary mask, in bytes: a power of two. */
  readonly boundary: number;
  /** Quirk `segment-limit-wraps`. */
  readonly wraps: boolean;
}

/** How a list lies in one range of IOVA: `spans[i]` bytes (whole pages) for entry i, padding behind it included. */
export interface SgLayout {
  readonly spans: readonly number[];
  readonly total: number;
}

/**
 * Lays the entries out behind each other in whole pages. Where a boundary would fall inside an entry, the gap up to it is
 * left empty: the range begins at a multiple of its size, so lengths alone tell. Source: iommu_dma_map_sg().
 */
export function layOut(entries: readonly MemoryPiece[], boundary: number): SgLayout {
  const spans: number[] = [];
  let total = 0;
  for (const { offset, length } of entries) {
    const span = Math.ceil(((offset % PAGE_SIZE) + length) / PAGE_SIZE) * PAGE_SIZE;
    const pad = (boundary - (total % boundary)) % boundary;
    // An empty entry wants padding too: the kernel compares with its length minus one, without a sign.
    if (pad > 0 && (span === 0 || pad < span - 1)) {
      spans[spans.length - 1] = (spans.at(-1) ?? 0) + pad;
      total += pad;
    }
    spans.push(span);
    total += span;
  }
  return { spans, total };
}

/**
 * The segments the device sees. An entry joins the one before if that one ended on a page, this one begins on one, no boundary
 * lies between and the sum is no longer than the limit. Where the memory lies does not matter. Source: __finalise_sg().
 */
export function segmentsOf(
  entries: readonly MemoryPiece[],
  layout: SgLayout,
  place: SegmentLimits & { readonly base: bigint },
): readonly DmaSegment[] {
  const segments: DmaSegment[] = [];
  let at = 0;
  let joinable = 0; // length of the open segment; 0: nothing may join it
  for (const [index, { offset, length }] of entries.entries()) {
    const inPage = offset % PAGE_SIZE;
    const span = layout.spans[index] ?? 0;
    const last = segments.at(-1);
    const mayJoin = joinable > 0 && inPage === 0 && at % place.boundary !== 0 && fits(joinable, length, place);
    if (mayJoin && last !== undefined) {
      joinable += length;
      segments[segments.length - 1] = { dma: last.dma, length: joinable };
    } else {
      joinable = length;
      segments.push({ dma: place.base + BigInt(at + inPage), length });
    }
    at += span;
    if (inPage + length < span) joinable = 0;
  }
  return segments;
}

const fits = (joined: number, length: number, { maxSegment, wraps }: SegmentLimits): boolean =>
  joined + length <= maxSegment || (wraps && joined > maxSegment);
