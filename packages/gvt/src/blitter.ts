import { DEPTHS, type Rect } from './commands.js';
import { gvtErrors } from './errors.js';
import type { GraphicsAccess } from './graphics-access.js';
import { MAX_SURFACE } from './regs.js';
import { type RasterOperation, rasterOperation, usesDestination } from './rop.js';
import { inside, Surface, type SurfaceLayout, X_TILE } from './surface.js';

/** A blit after its command was decoded. */
export interface Blit {
  readonly target: SurfaceLayout;
  /** Already clipped. */
  readonly rect: Rect;
  /** Bytes per pixel: 1, 2 or 4. */
  readonly pixel: number;
  /** Code of the raster operation. */
  readonly rop: number;
  /** Bits of each dword that are written; all unless the pixels are 32 bpp. */
  readonly mask: number;
  /** Pattern colour; its low bits below 32 bpp. */
  readonly color: number;
  readonly source?: { readonly layout: SurfaceLayout; readonly x: number; readonly y: number } | undefined;
}

/** Bytes after which a blit lets others run. */
const STRIDE = 64 * 1024;
const ALL = 0xffffffff;

interface Rows {
  readonly x: number;
  readonly y: number;
  /** Bytes of a row. */
  readonly bytes: number;
  readonly count: number;
}

/** Bytes of a row, also as whole 32-bit words (the last may have bytes too many). */
class Row {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;

  constructor(length: number) {
    this.words = new Uint32Array(Math.ceil(length / 4));
    this.bytes = new Uint8Array(this.words.buffer, 0, length);
  }
}

/**
 * Carries a blit out, a row at a time, through the table: no view of memory is kept from one row to the next. Yields the bytes it
 * touched about every 64 KiB, so that others may run and pages may go away in between, and returns those since. Overlapping copies inside one
 * surface behave as if the source had been read first.
 * @throws PinionError GVT_BLIT_TOO_BIG, GVT_BAD_ADDRESS (both EFAULT) before anything is written.
 */
export function* carryOut(blit: Blit, memory: GraphicsAccess): Generator<number, number> {
  const { rect, pixel } = blit;
  const target: Rows = { x: rect.x1 * pixel, y: rect.y1, bytes: (rect.x2 - rect.x1) * pixel, count: rect.y2 - rect.y1 };
  if (target.bytes <= 0 || target.count <= 0) return 0;
  checkSize(target);
  const to = new Surface(memory, blit.target);
  checkSpan('blit target', to, target, memory);
  if (blit.source === undefined) return yield* fill(blit, to, target);
  const source: Rows = { ...target, x: blit.source.x * pixel, y: blit.source.y };
  const from = new Surface(memory, blit.source.layout);
  checkSpan('blit source', from, source, memory);
  return yield* copy(blit, { to, target, from, source });
}

function* fill(blit: Blit, to: Surface, rows: Rows): Generator<number, number> {
  const pattern = colorRow(blit, rows.bytes);
  const combine = combiner(blit, pattern);
  let touched = 0;
  for (let row = 0; row < rows.count; row++) {
    const out = combine?.(to, rows.x, rows.y + row, pattern) ?? pattern;
    to.writeRow(rows.x, rows.y + row, out.bytes);
    touched += rows.bytes;
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

interface CopyPlan {
  readonly to: Surface;
  readonly target: Rows;
  readonly from: Surface;
  readonly source: Rows;
}

function* copy(blit: Blit, plan: CopyPlan): Generator<number, number> {
  const { to, target, from, source } = plan;
  const combine = combiner(blit, colorRow(blit, target.bytes));
  const order = copyOrder(plan);
  const snapshot = order === 'snapshot' ? readAll(from, source) : undefined;
  const read = new Row(target.bytes);
  let touched = 0;
  for (let step = 0; step < target.count; step++) {
    const row = order === 'upwards' ? target.count - 1 - step : step;
    if (snapshot === undefined) from.readRow(source.x, source.y + row, read.bytes);
    else read.bytes.set(snapshot.subarray(row * source.bytes, (row + 1) * source.bytes));
    const out = combine?.(to, target.x, target.y + row, read) ?? read;
    to.writeRow(target.x, target.y + row, out.bytes);
    touched += 2 * target.bytes;
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

/** One row of the pattern colour. */
function colorRow({ color, pixel }: Blit, length: number): Row {
  const row = new Row(length);
  for (let at = 0; at < length; at++) row.bytes[at] = (color >>> ((at % pixel) * 8)) & 0xff;
  return row;
}

type Combiner = (to: Surface, x: number, y: number, source: Row) => Row;

/** What makes the output row, or undefined if the given row (pattern of a fill, source of a copy) is the output as it is. */
function combiner(blit: Blit, pattern: Row): Combiner | undefined {
  const plain = blit.source === undefined ? 0xf0 : 0xcc;
  if (blit.rop === plain && blit.mask === ALL) return undefined;
  const operation = rasterOperation(blit.rop);
  const needsOld = usesDestination(blit.rop) || blit.mask !== ALL;
  const old = new Row(pattern.bytes.length);
  const out = new Row(pattern.bytes.length);
  return (to, x, y, source) => {
    if (needsOld) to.readRow(x, y, old.bytes);
    merge({ operation, mask: blit.mask, pattern: pattern.words, source: source.words, old: old.words }, out.words);
    return out;
  };
}

interface Operands {
  readonly operation: RasterOperation;
  readonly mask: number;
  readonly pattern: Uint32Array;
  readonly source: Uint32Array;
  readonly old: Uint32Array;
}

function merge({ operation, mask, pattern, source, old }: Operands, out: Uint32Array): void {
  for (let at = 0; at < out.length; at++) {
    const before = old[at] ?? 0;
    out[at] = (operation(pattern[at] ?? 0, source[at] ?? 0, before) & mask) | (before & ~mask);
  }
}

/**
 * Row by row is right when the rows of both rectangles cannot run into one another: then the order of addresses decides, as in
 * memmove. Anything stranger (different pitches or tilings over the same bytes, rows longer than the pitch) reads all first.
 */
function copyOrder({ to, target, from, source }: CopyPlan): 'downwards' | 'upwards' | 'snapshot' {
  const written = spanOf(to, target);
  const read = spanOf(from, source);
  if (written.last < read.first || read.last < written.first) return 'downwards';
  if (!regular(to, target) || !regular(from, source) || !alike(to, from)) return 'snapshot';
  if (to.layout.tiling === 'linear') return written.first > read.first ? 'upwards' : 'downwards';
  return target.y > source.y ? 'upwards' : 'downwards';
}

const regular = ({ layout }: Surface, rows: Rows): boolean =>
  layout.tiling === 'linear'
    ? rows.bytes <= layout.pitch
    : rows.x >= 0 && rows.y >= 0 && rows.x + rows.bytes <= layout.pitch;

const alike = (to: Surface, from: Surface): boolean =>
  to.layout.pitch === from.layout.pitch &&
  to.layout.tiling === from.layout.tiling &&
  (to.layout.tiling === 'linear' || to.layout.base === from.layout.base);

function readAll(from: Surface, rows: Rows): Uint8Array {
  const all = new Uint8Array(rows.bytes * rows.count);
  for (let row = 0; row < rows.count; row++) {
    from.readRow(rows.x, rows.y + row, all.subarray(row * rows.bytes, (row + 1) * rows.bytes));
  }
  return all;
}

function checkSize({ bytes, count }: Rows): void {
  if (bytes * count > MAX_SURFACE) throw gvtErrors.BLIT_TOO_BIG({ bytes: bytes * count, most: MAX_SURFACE });
}

interface ByteSpan {
  readonly first: number;
  readonly last: number;
}

/** The bytes between the first and the last that a rectangle touches; whole tiles of a tiled surface (the blitter's are X tiles). */
function spanOf(surface: Surface, rows: Rows): ByteSpan {
  const { pitch, tiling } = surface.layout;
  const bottom = rows.y + rows.count - 1;
  const right = rows.x + rows.bytes - 1;
  if (tiling !== 'linear') {
    const top = rows.y - inside(rows.y, X_TILE.rows);
    const end = bottom + X_TILE.rows - 1 - inside(bottom, X_TILE.rows);
    const left = rows.x - inside(rows.x, X_TILE.width);
    const edge = right + X_TILE.width - 1 - inside(right, X_TILE.width);
    return { first: surface.address(left, top), last: surface.address(edge, end) };
  }
  const [top, end] = pitch < 0 ? [bottom, rows.y] : [rows.y, bottom];
  return { first: surface.address(rows.x, top), last: surface.address(right, end) };
}

/** Source: the GGTT address audit of i915 gvt's command parser. */
function checkSpan(what: string, surface: Surface, rows: Rows, memory: GraphicsAccess): void {
  const { first, last } = spanOf(surface, rows);
  if (last - first >= MAX_SURFACE) throw gvtErrors.BLIT_TOO_BIG({ bytes: last - first + 1, most: MAX_SURFACE });
  if (!memory.owns(first, last)) throw gvtErrors.BAD_ADDRESS({ what, first, last });
}

/** Bytes per pixel of a depth field. */
export const pixelBytes = (depth: number): number => DEPTHS[depth & 3] ?? 4;
