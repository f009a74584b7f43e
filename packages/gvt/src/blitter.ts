import { DEPTHS, type Rect } from './commands.js';
import { gvtErrors } from './errors.js';
import type { PagedAccess } from './paged-access.js';
import { type Pattern, PatternRows, patternBytes, Row } from './pattern.js';
import { MAX_SURFACE } from './regs.js';
import { keepOld, mergeLoop, usesDestination } from './rop.js';
import { copySpan, fillSpan, inStep } from './spans.js';
import { inside, Surface, type SurfaceLayout, TILES, tileOrigin } from './surface.js';

/** A blit after its command was decoded. */
export interface Blit {
  readonly target: SurfaceLayout;
  /** Already clipped. */
  readonly rect: Rect;
  /** Bytes per pixel: 1, 2, 4, and of a fast copy also 8 or 16. */
  readonly pixel: number;
  /** Code of the raster operation. */
  readonly rop: number;
  /** Bits of each dword that are written; all unless the pixels are 32 bpp. */
  readonly mask: number;
  readonly pattern: Pattern;
  readonly source?: { readonly layout: SurfaceLayout; readonly x: number; readonly y: number } | undefined;
}

/** Bytes after which a blit lets others run. */
const STRIDE = 64 * 1024;
/** What a row costs at least, bytes: a line of a cache. */
const LINE = 64;
const ALL = 0xffffffff;
const PATTERN_COPY = 0xf0;
const SOURCE_COPY = 0xcc;
const TILE = 4096;

type Tile = (typeof TILES)['x' | 'y'];

type PagedSurface = Surface<PagedAccess>;

interface Rows {
  readonly x: number;
  readonly y: number;
  /** Bytes of a row. */
  readonly bytes: number;
  readonly count: number;
}

/**
 * Carries a blit out, a few rows or tiles at a time, through the table: no view of memory is kept from one step to the next. Yields the bytes
 * it touched about every 64 KiB, so that others may run and pages may go away in between, and returns those since. Overlapping copies
 * inside one surface behave as if the source had been read first.
 * @throws PinionError GVT_BLIT_TOO_BIG, GVT_BAD_ADDRESS (both EFAULT) before anything is written.
 */
export function* carryOut(blit: Blit, memory: PagedAccess): Generator<number, number> {
  const { rect, pixel } = blit;
  const target: Rows = { x: rect.x1 * pixel, y: rect.y1, bytes: (rect.x2 - rect.x1) * pixel, count: rect.y2 - rect.y1 };
  if (target.bytes <= 0 || target.count <= 0) return 0;
  checkSize(target);
  const to = new Surface(memory, blit.target);
  checkSpan('blit target', to, target, memory);
  checkPattern(blit, memory);
  if (blit.source === undefined) return yield* isPlainFill(blit) ? fillPlain(blit, to, target) : fill(blit, to, target);
  const source: Rows = { ...target, x: blit.source.x * pixel, y: blit.source.y };
  const from = new Surface(memory, blit.source.layout);
  checkSpan('blit source', from, source, memory);
  return yield* copy(blit, { to, target, from, source });
}

const isPlainFill = ({ rop, mask, pattern }: Blit): boolean =>
  rop === PATTERN_COPY && mask === ALL && pattern.kind === 'solid';

/** The tile of a surface that is tiled. */
const tileOf = ({ layout }: Surface): Tile => TILES[layout.tiling === 'y' ? 'y' : 'x'];

/** The colour as the four bytes that repeat from the first byte of a row. */
function colorWord({ pattern, pixel }: Blit): number {
  const color = pattern.kind === 'solid' ? pattern.color : 0;
  if (pixel === 4) return color;
  return pixel === 2 ? Math.imul(color & 0xffff, 0x10001) : Math.imul(color & 0xff, 0x1010101);
}

/** One colour, whatever was there: rows that lie together as one run, tiles that are covered as one page. */
function* fillPlain(blit: Blit, to: PagedSurface, rows: Rows): Generator<number, number> {
  const linear = to.layout.tiling === 'linear';
  let left = yield* fillSpans(blit, to, linear ? linearSpans(to, rows) : coveredTiles(to, rows));
  if (linear) return left;
  for (const edge of edges(rows, tileOf(to))) left += yield* fill(blit, to, edge);
  return left;
}

function* fillSpans(blit: Blit, to: PagedSurface, spans: Iterable<FillSpan>): Generator<number, number> {
  const word = colorWord(blit);
  let touched = 0;
  for (const span of spans) {
    fillSpan(to.memory, span, inStep(word, span.address - span.phase));
    touched += Math.max(span.length, LINE);
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

interface FillSpan {
  readonly address: number;
  readonly length: number;
  /** Bytes between the first byte of the row (where the colour begins) and this one, modulo 4. */
  readonly phase: number;
}

/** Runs of at most about a stride. */
function* linearSpans(to: Surface, { x, y, bytes, count }: Rows): Generator<FillSpan, void> {
  const together = to.layout.pitch === bytes;
  const most = together ? Math.max(1, Math.floor(STRIDE / bytes)) : 1;
  for (let row = 0; row < count; row += most) {
    yield { address: to.address(x, y + row), length: bytes * Math.min(most, count - row), phase: 0 };
  }
}

/** Pages of tiles that are covered. */
function* coveredTiles(to: Surface, rows: Rows): Generator<FillSpan, void> {
  const tile = tileOf(to);
  const { left, right, top, bottom } = coveredPart(rows, tile);
  for (let y = top; y < bottom; y += tile.rows)
    for (let x = left; x < right; x += tile.width)
      yield { address: to.address(x, y), length: TILE, phase: (x - rows.x) & 3 };
}

/** The rectangle of whole tiles inside a rectangle. */
const coveredPart = ({ x, y, bytes, count }: Rows, tile: Tile) => ({
  left: tileOrigin(x + tile.width - 1, tile.width),
  right: tileOrigin(x + bytes, tile.width),
  top: tileOrigin(y + tile.rows - 1, tile.rows),
  bottom: tileOrigin(y + count, tile.rows),
});

/** What is left of a rectangle around its whole tiles: above, below, left and right. */
function edges(rows: Rows, tile: Tile): readonly Rows[] {
  const { left, right, top, bottom } = coveredPart(rows, tile);
  if (left >= right || top >= bottom) return [rows];
  const [end, last] = [rows.x + rows.bytes, rows.y + rows.count];
  return [
    { ...rows, count: top - rows.y },
    { ...rows, y: bottom, count: last - bottom },
    { x: rows.x, y: top, bytes: left - rows.x, count: bottom - top },
    { x: right, y: top, bytes: end - right, count: bottom - top },
  ].filter(({ bytes, count }) => bytes > 0 && count > 0);
}

function* fill(blit: Blit, to: PagedSurface, rows: Rows): Generator<number, number> {
  const place = { x: Math.floor(rows.x / blit.pixel), pixel: blit.pixel, length: rows.bytes };
  const patterns = new PatternRows(blit.pattern, place, to.memory);
  const combine = combiner(blit, rows.bytes);
  let touched = 0;
  for (let row = 0; row < rows.count; row++) {
    const y = rows.y + row;
    const pattern = patterns.row(y);
    const out = combine?.(to, { x: rows.x, y, source: pattern, pattern, mask: patterns.mask(y) }) ?? pattern;
    to.writeRow(rows.x, y, out.bytes);
    touched += Math.max(rows.bytes, LINE);
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

interface CopyPlan {
  readonly to: PagedSurface;
  readonly target: Rows;
  readonly from: PagedSurface;
  readonly source: Rows;
}

function* copy(blit: Blit, plan: CopyPlan): Generator<number, number> {
  const order = copyOrder(plan);
  const plain = blit.rop === SOURCE_COPY && blit.mask === ALL && order !== 'snapshot';
  if (plain && areBothLinear(plan)) return yield* copyLinear(plan, order === 'upwards');
  if (plain && order === 'downwards' && areTilesAligned(plan)) return yield* copyTiles(blit, plan);
  return yield* copyRows(blit, plan, order);
}

const areBothLinear = ({ to, from }: CopyPlan): boolean =>
  to.layout.tiling === 'linear' && from.layout.tiling === 'linear';

/** Whether whole tiles of the source become whole tiles of the target, from other memory. */
function areTilesAligned({ to, target, from, source }: CopyPlan): boolean {
  const { tiling } = to.layout;
  if (tiling === 'linear' || tiling !== from.layout.tiling || to.layout.base === from.layout.base) return false;
  const tile = TILES[tiling];
  return inside(target.x - source.x, tile.width) === 0 && inside(target.y - source.y, tile.rows) === 0;
}

/** Whole tiles as pages, their edges row by row. */
function* copyTiles(blit: Blit, plan: CopyPlan): Generator<number, number> {
  const { to, target, from, source } = plan;
  const [right, down] = [source.x - target.x, source.y - target.y];
  const tile = tileOf(to);
  const part = coveredPart(target, tile);
  let touched = 0;
  for (let y = part.top; y < part.bottom; y += tile.rows) {
    for (let x = part.left; x < part.right; x += tile.width) {
      const span = { from: from.address(x + right, y + down), to: to.address(x, y), length: TILE };
      copySpan(to.memory, span, false);
      touched += 2 * TILE;
      if (touched < STRIDE) continue;
      yield touched;
      touched = 0;
    }
  }
  for (const edge of edges(target, tile)) {
    const edgeSource = { ...edge, x: edge.x + right, y: edge.y + down };
    touched += yield* copyRows(blit, { ...plan, target: edge, source: edgeSource }, 'downwards');
  }
  return touched;
}

/** Pages to pages, without a copy in between. */
function* copyLinear({ to, target, from, source }: CopyPlan, upwards: boolean): Generator<number, number> {
  const { bytes, count } = target;
  const together = to.layout.pitch === bytes && from.layout.pitch === bytes;
  const most = together ? Math.max(1, Math.floor(STRIDE / 2 / bytes)) : 1;
  let touched = 0;
  for (let done = 0; done < count; ) {
    const rows = Math.min(most, count - done);
    const row = upwards ? count - done - rows : done;
    const span = { from: from.address(source.x, source.y + row), to: to.address(target.x, target.y + row) };
    copySpan(to.memory, { ...span, length: bytes * rows }, upwards);
    done += rows;
    touched += Math.max(2 * bytes * rows, LINE);
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

type CopyOrder = 'downwards' | 'upwards' | 'snapshot';

function* copyRows(blit: Blit, plan: CopyPlan, order: CopyOrder): Generator<number, number> {
  const { to, target, from, source } = plan;
  const combine = combiner(blit, target.bytes);
  const snapshot = order === 'snapshot' ? readAll(from, source) : undefined;
  const read = new Row(target.bytes);
  let touched = 0;
  for (let step = 0; step < target.count; step++) {
    const row = order === 'upwards' ? target.count - 1 - step : step;
    if (snapshot === undefined) from.readRow(source.x, source.y + row, read.bytes);
    else read.bytes.set(snapshot.subarray(row * source.bytes, (row + 1) * source.bytes));
    const at = { x: target.x, y: target.y + row, source: read, pattern: read, mask: undefined };
    to.writeRow(target.x, target.y + row, (combine?.(to, at) ?? read).bytes);
    touched += Math.max(2 * target.bytes, LINE);
    if (touched < STRIDE) continue;
    yield touched;
    touched = 0;
  }
  return touched;
}

/** The inputs of one row: where it is, and what the operation combines. */
interface RowInputs {
  readonly x: number;
  readonly y: number;
  readonly source: Row;
  readonly pattern: Row;
  readonly mask: Row | undefined;
}

type Combiner = (to: Surface, inputs: RowInputs) => Row;

/** What makes the output row, or undefined if the given row (pattern of a fill, source of a copy) is the output as it is. */
function combiner(blit: Blit, length: number): Combiner | undefined {
  const transparent = blit.pattern.kind === 'tiled' && blit.pattern.opaque !== undefined;
  const plain = blit.source === undefined ? PATTERN_COPY : SOURCE_COPY;
  if (blit.rop === plain && blit.mask === ALL && !transparent) return undefined;
  const merge = mergeLoop(blit.rop);
  const needsOld = usesDestination(blit.rop) || blit.mask !== ALL || transparent;
  const old = new Row(length);
  const out = new Row(length);
  return (to, { x, y, source, pattern, mask }) => {
    if (needsOld) to.readRow(x, y, old.bytes);
    merge({ pattern: pattern.words, source: source.words, old: old.words }, out.words);
    if (blit.mask !== ALL) keepOld(blit.mask, old.words, out.words);
    if (mask !== undefined) keepOld(mask.words, old.words, out.words);
    return out;
  };
}

/**
 * Row by row is right when the rows of both rectangles cannot run into one another: then the order of addresses decides, as in
 * memmove. Anything stranger (different pitches or tilings over the same bytes, rows longer than the pitch) reads all first.
 */
function copyOrder({ to, target, from, source }: CopyPlan): CopyOrder {
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

function checkPattern({ pattern, pixel }: Blit, memory: PagedAccess): void {
  if (pattern.kind !== 'memory') return;
  const [first, last] = [pattern.address, pattern.address + patternBytes(pixel) - 1];
  if (!memory.owns(first, last)) throw gvtErrors.BAD_ADDRESS({ what: 'blit pattern', first, last });
}

interface ByteSpan {
  readonly first: number;
  readonly last: number;
}

/** The bytes between the first and the last that a rectangle touches; whole tiles of a tiled surface. */
function spanOf(surface: Surface, rows: Rows): ByteSpan {
  const { pitch, tiling } = surface.layout;
  const bottom = rows.y + rows.count - 1;
  const right = rows.x + rows.bytes - 1;
  if (tiling !== 'linear') {
    const tile = TILES[tiling];
    const end = tileOrigin(bottom, tile.rows) + tile.rows - 1;
    const edge = tileOrigin(right, tile.width) + tile.width - 1;
    const first = surface.address(tileOrigin(rows.x, tile.width), tileOrigin(rows.y, tile.rows));
    return { first, last: surface.address(edge, end) };
  }
  const [top, end] = pitch < 0 ? [bottom, rows.y] : [rows.y, bottom];
  return { first: surface.address(rows.x, top), last: surface.address(right, end) };
}

/** Source: the GGTT address audit of i915 gvt's command parser. */
function checkSpan(what: string, surface: Surface, rows: Rows, memory: PagedAccess): void {
  const { first, last } = spanOf(surface, rows);
  if (last - first >= MAX_SURFACE) throw gvtErrors.BLIT_TOO_BIG({ bytes: last - first + 1, most: MAX_SURFACE });
  if (!memory.owns(first, last)) throw gvtErrors.BAD_ADDRESS({ what, first, last });
}

/** Bytes per pixel of a depth field. */
export const pixelBytes = (depth: number): number => DEPTHS[depth & 3] ?? 4;
