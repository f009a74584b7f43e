import { ADDRESS_SPACE_SIZE, type FrameRange, frameRange, iovaFrame } from '@pinion/core';
import { type1Errors } from './errors.js';
import type { Type1State } from './state.js';

/** A byte range as an ioctl carries it. */
export interface ByteRange {
  readonly iova: bigint;
  readonly size: bigint;
}

const isU64 = (value: bigint): boolean => value >= 0n && value < ADDRESS_SPACE_SIZE;

/** Refuses what no ioctl could carry. @throws TYPE1_BAD_NUMBER (EINVAL). */
export function checkNumbers(operation: string, values: Readonly<Record<string, bigint>>): void {
  // why: `in` over a fixed shape costs nothing, Object.entries makes arrays at every map and unmap
  for (const what in values) {
    const value = values[what] ?? 0n;
    if (!isU64(value)) throw type1Errors.BAD_NUMBER({ operation, what, value });
  }
}

/** Whether a range of at least one byte ends past 2^64. */
export const wraps = (start: bigint, size: bigint): boolean => start + size > ADDRESS_SPACE_SIZE;

/** The error for a wrapping range: the kernels differ. */
export const wrapError = (state: Type1State, operation: string, range: ByteRange): unknown =>
  state.quirks.has('wrap-is-eoverflow')
    ? type1Errors.TOO_LARGE({ operation, ...range })
    : type1Errors.WRAPS({ operation, ...range });

/** The frames of an aligned, non-empty, non-wrapping byte range. */
export const framesOf = ({ iova, size }: ByteRange): FrameRange => frameRange(iovaFrame(iova), Number(size >> 12n));

/** Whether any of the values is no multiple of the smallest page. */
export const misaligned = (state: Type1State, ...values: readonly bigint[]): boolean =>
  values.some((value) => (value & (state.minPage - 1n)) !== 0n);

/**
 * Refuses a request that cuts a mapping at either end (type1v2). @throws TYPE1_BISECTS (EINVAL).
 */
export function checkBisect(state: Type1State, operation: string, range: ByteRange, frames: FrameRange): void {
  const head = state.mappings.find(frames.first);
  if (head !== undefined && head.first !== frames.first) {
    throw type1Errors.BISECTS({ operation, ...range, mapping: head });
  }
  const tail = state.mappings.find(frames.last);
  if (tail !== undefined && tail.last !== frames.last) {
    throw type1Errors.BISECTS({ operation, ...range, mapping: tail });
  }
}
