import { DIRTY_FLAG, type DirtyBitmap, type DirtyRequest, MIN_ARGSZ, unknownFlags } from '@pinion/core';
import { bitmapBytes, DirtyBits, MAX_BITMAP_SIZE, MAX_DIRTY_PAGES } from './dirty-bits.js';
import { type1Errors } from './errors.js';
import type { Mapping } from './mapping.js';
import { type ByteRange, checkBisect, checkNumbers, framesOf, misaligned, wrapError, wraps } from './request-range.js';
import type { Type1State } from './state.js';

const KNOWN = DIRTY_FLAG.START | DIRTY_FLAG.STOP | DIRTY_FLAG.GET_BITMAP;

/**
 * VFIO_IOMMU_DIRTY_PAGES: exactly one of start (idempotent), stop (idempotent), get.
 * @throws TYPE1_NOT_V2 (EACCES), TYPE1_BAD_ARGSZ, TYPE1_BAD_FLAGS, and for get TYPE1_BAD_BITMAP, TYPE1_BAD_ALIGNMENT, TYPE1_WRAPS,
 * TYPE1_TRACKING_OFF, TYPE1_BISECTS (EINVAL), TYPE1_BITMAP_FAULT (EFAULT); for start TYPE1_TOO_MANY_BITS (EINVAL).
 * Source: vfio_iommu_type1_dirty_pages().
 */
export function dirtyPages(state: Type1State, request: DirtyRequest): void {
  if (!state.v2) throw type1Errors.NOT_V2({ operation: 'dirty pages' });
  const { flags } = request;
  const argsz = request.argsz ?? MIN_ARGSZ.DIRTY_BITMAP;
  const need = (min: number): void => {
    if (argsz < min) throw type1Errors.BAD_ARGSZ({ operation: 'dirty pages', argsz, min });
  };
  need(MIN_ARGSZ.DIRTY);
  const bad = (problem: string): unknown => type1Errors.BAD_FLAGS({ operation: 'dirty pages', flags, problem });
  if (unknownFlags(flags, KNOWN) !== 0) throw bad('unknown bits are set');
  if (flags === 0 || (flags & (flags - 1)) !== 0) throw bad('give exactly one of START, STOP, GET_BITMAP');
  if (flags === DIRTY_FLAG.START) start(state);
  else if (flags === DIRTY_FLAG.STOP) stop(state);
  else {
    need(MIN_ARGSZ.DIRTY_BITMAP);
    readBitmap(state, request);
  }
}

function start(state: Type1State): void {
  if (state.tracking) return;
  for (const mapping of state.mappings.all()) {
    if (mapping.pages / state.minPagePages > MAX_DIRTY_PAGES) throw type1Errors.TOO_MANY_BITS({ range: mapping });
  }
  state.tracking = true;
  for (const mapping of state.mappings.all()) {
    mapping.dirty = new DirtyBits(mapping.pages / state.minPagePages);
    markPinned(state, mapping);
  }
}

function stop(state: Type1State): void {
  state.tracking = false;
  for (const mapping of state.mappings.all()) mapping.dirty = undefined;
}

/** A pinned page can be written by its driver at any time. */
function markPinned(state: Type1State, mapping: Mapping): void {
  const scale = state.minPagePages;
  const bit = (page: number): void => mapping.dirty?.mark(Math.floor(page / scale), Math.floor(page / scale));
  mapping.pins?.forEach(0, mapping.pages - 1, (page) => bit(page));
  mapping.oddPins?.each((offset) => bit(Math.floor(offset / 4096)));
}

/** Marks pages first..last (host pages, indices in the mapping) dirty while tracking. */
export function markDirty(state: Type1State, mapping: Mapping, first: number, last: number): void {
  const scale = state.minPagePages;
  mapping.dirty?.mark(Math.floor(first / scale), Math.floor(last / scale));
}

/**
 * Checks a user's bitmap for a range of `size` bytes.
 * @throws TYPE1_BAD_BITMAP (EINVAL), TYPE1_BITMAP_FAULT (EFAULT). Source: verify_bitmap_size().
 */
export function checkBitmap(bitmap: DirtyBitmap | undefined, size: bigint): DirtyBitmap {
  const bad = (problem: string): unknown => type1Errors.BAD_BITMAP({ problem });
  if (bitmap === undefined) throw bad('none was given');
  checkNumbers('dirty bitmap', { pgsize: bitmap.pgsize, size: bitmap.size });
  if (bitmap.pgsize === 0n) throw bad('its page size is 0');
  const pages = size / (bitmap.pgsize & -bitmap.pgsize);
  if (pages === 0n || bitmap.size === 0n) throw bad('it has no bits');
  if (bitmap.size > MAX_BITMAP_SIZE) throw bad(`${bitmap.size} bytes is over the limit of ${MAX_BITMAP_SIZE}`);
  if (bitmap.size < bitmapBytes(pages)) throw bad(`${bitmap.size} bytes are too few for ${pages} pages`);
  if (BigInt(bitmap.data.length) < bitmapBytes(pages)) {
    throw type1Errors.BITMAP_FAULT({ size: bitmap.size, bytes: bitmap.data.length });
  }
  return bitmap;
}

/** The bitmap's page size must be the container's. @throws TYPE1_BAD_BITMAP (EINVAL). */
export function checkBitmapPage(state: Type1State, bitmap: DirtyBitmap): void {
  if (bitmap.pgsize === state.minPage) return;
  throw type1Errors.BAD_BITMAP({
    problem: `its page size is ${bitmap.pgsize}, the container's smallest is ${state.minPage}`,
  });
}

function readBitmap(state: Type1State, request: DirtyRequest): void {
  const range: ByteRange = { iova: request.iova ?? 0n, size: request.size ?? 0n };
  checkNumbers('dirty pages', { ...range });
  if (range.size !== 0n && wraps(range.iova, range.size)) throw wrapError(state, 'dirty pages', range);
  // A range up to exactly 2^64 wraps in the kernels that lose the top mapping.
  if (state.quirks.has('top-mapping-invisible') && wraps(range.iova, range.size + 1n) && range.size !== 0n) {
    throw wrapError(state, 'dirty pages', range);
  }
  const bitmap = checkBitmap(request.bitmap, range.size);
  checkBitmapPage(state, bitmap);
  if (range.size === 0n || misaligned(state, range.iova, range.size)) {
    throw type1Errors.BAD_ALIGNMENT({ operation: 'dirty pages', ...range, page: state.minPage });
  }
  if (!state.tracking) throw type1Errors.TRACKING_OFF({});
  const frames = framesOf(range);
  checkBisect(state, 'dirty pages', range, frames);
  for (const mapping of state.mappings.inside(frames)) {
    copyBits(state, mapping, { data: bitmap.data, base: frames.first });
    mapping.dirty?.clear();
    markPinned(state, mapping);
  }
}

/**
 * ORs a mapping's dirty bits into a user's bitmap whose bit 0 is frame `base`. Everything is dirty while a passthrough
 * group that never pinned can write everywhere. Source: update_user_bitmap().
 */
export function copyBits(state: Type1State, mapping: Mapping, user: { data: Uint8Array; base: number }): void {
  const bits = mapping.dirty;
  if (bits === undefined) return;
  if (state.unscoped.size > 0 && mapping.iommuMapped) bits.markAll();
  const offset = (mapping.first - user.base) / state.minPagePages;
  if (state.quirks.has('dirty-shift-in-place')) bits.copyShifted(user.data, offset);
  else bits.copyTo(user.data, offset);
}
