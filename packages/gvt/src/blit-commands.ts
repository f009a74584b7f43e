/** Decodes the blitter's commands. Source: Intel PRM (Skylake), "Blitter engine: instructions". */
import { type Blit, pixelBytes } from './blitter.js';
import { BIT, BLIT_CLIP, BLIT_TRANSPARENT, type Rect } from './commands.js';
import { monoPattern, type Pattern } from './pattern.js';
import { usesPattern, usesSource } from './rop.js';
import { type SurfaceLayout, TILES, type Tiling } from './surface.js';

const ALL = 0xffffffff;
const RGB = 0x00ffffff;
const PAGE = 0xfff;
const PATTERN_COPY = 0xf0;
const SOURCE_COPY = 0xcc;
/** Fixed dwords of a command in front of a pattern that stands in it. */
const BEFORE_PATTERN = 6;

/** Either a blit to carry out or why the command is refused. */
export type Decoded = Blit | { readonly refused: string };

/** The 32-bit words of one command; missing ones (none, once the length was checked) read as zero. */
export type Words = Uint32Array;

/** What earlier commands and registers set up. */
export interface BlitSetup {
  readonly clip: Rect;
  /** What "tiled" means for a target and a source: BCS_SWCTRL chooses Y tiles. */
  readonly targetTiles: Tiling;
  readonly sourceTiles: Tiling;
}

const word = (words: Words, at: number): number => words[at] ?? 0;
const address = (words: Words, at: number): number => word(words, at) + (word(words, at + 1) & 0xffff) * 2 ** 32;
const signed16 = (value: number): number => (value << 16) >> 16;
const x = (value: number): number => signed16(value);
const y = (value: number): number => value >> 16;
const ropOf = (words: Words): number => (word(words, 1) >>> 16) & 0xff;

/** The clip rectangle of an XY_SETUP_CLIP_BLT, or the rectangle of a blit, at word `at`. */
export const decodeRect = (words: Words, at: number): Rect => ({
  x1: x(word(words, at)),
  y1: y(word(words, at)),
  x2: x(word(words, at + 1)),
  y2: y(word(words, at + 1)),
});

/** XY_COLOR_BLT, 7 words. */
export const decodeColorBlt = (words: Words, setup: BlitSetup): Decoded =>
  decodeFill(words, setup, { kind: 'solid', color: word(words, 6) });

/** XY_PAT_BLT, 8 words: eight by eight pixels that lie in memory. */
export const decodePatternBlt = (words: Words, setup: BlitSetup): Decoded =>
  decodeFill(words, setup, { kind: 'memory', address: address(words, 6) - (word(words, 6) & 0x3f), ...seeds(words) });

/** XY_PAT_BLT_IMMEDIATE: the same, in the command; its length depends on the depth. */
export function decodeImmediatePatternBlt(words: Words, length: number, setup: BlitSetup): Decoded {
  const dwords = 16 * pixelBytes((word(words, 1) >>> 24) & 3);
  if (length !== BEFORE_PATTERN + dwords)
    return { refused: `its length is ${length} dwords, not ${BEFORE_PATTERN + dwords}` };
  const pixels = new Uint8Array(words.slice(BEFORE_PATTERN, BEFORE_PATTERN + dwords).buffer);
  return decodeFill(words, setup, { kind: 'tiled', pixels, ...seeds(words) });
}

/** XY_MONO_PAT_BLT, 10 words: eight by eight bits of two colours, of which the background may be transparent. */
export function decodeMonoPatternBlt(words: Words, setup: BlitSetup): Decoded {
  const bits = new Uint8Array(words.slice(8, 10).buffer);
  const colors = {
    background: word(words, 6),
    foreground: word(words, 7),
    pixel: pixelBytes((word(words, 1) >>> 24) & 3),
    transparent: (word(words, 1) & BLIT_TRANSPARENT) !== 0,
  };
  return decodeFill(words, setup, monoPattern(bits, colors, seeds(words)));
}

const seeds = (words: Words): { readonly seedX: number; readonly seedY: number } => ({
  seedX: (word(words, 0) >>> 12) & 7,
  seedY: (word(words, 0) >>> 8) & 7,
});

function decodeFill(words: Words, setup: BlitSetup, pattern: Pattern): Decoded {
  const rop = ropOf(words);
  if (usesSource(rop)) return { refused: 'its raster operation needs a source' };
  const target = layout(
    address(words, 4),
    word(words, 1),
    (word(words, 0) & BIT.DST_TILED) === 0 ? 'linear' : setup.targetTiles,
  );
  if (typeof target === 'string') return { refused: target };
  return { ...common(words, setup.clip), target, rop, pattern };
}

/** XY_SRC_COPY_BLT, 10 words. Clipping moves the source's corner by as much as the target's. */
export function decodeSrcCopyBlt(words: Words, setup: BlitSetup): Decoded {
  const rop = ropOf(words);
  if (usesPattern(rop)) return { refused: 'its raster operation needs a pattern' };
  const [targetTiled, sourceTiled] = [word(words, 0) & BIT.DST_TILED, word(words, 0) & BIT.SRC_TILED];
  const target = layout(address(words, 4), word(words, 1), targetTiled === 0 ? 'linear' : setup.targetTiles);
  if (typeof target === 'string') return { refused: target };
  const from = layout(address(words, 8), word(words, 7), sourceTiled === 0 ? 'linear' : setup.sourceTiles);
  if (typeof from === 'string') return { refused: from };
  const blit = common(words, setup.clip);
  const moved = { x: blit.rect.x1 - x(word(words, 2)), y: blit.rect.y1 - y(word(words, 2)) };
  const source = { layout: from, x: x(word(words, 6)) + moved.x, y: y(word(words, 6)) + moved.y };
  return { ...blit, target, rop, pattern: { kind: 'solid', color: 0 }, source };
}

/** Tilings of a fast copy; the fourth one (Yf and Ys) is not supported. */
const FAST_TILINGS: readonly Tiling[] = ['linear', 'x', 'y'];
/** Bytes per pixel of a fast copy, by its depth field (26:24). */
const FAST_DEPTHS: Readonly<Record<number, number>> = { 0: 1, 1: 2, 3: 4, 4: 8, 5: 16 };

/** XY_FAST_COPY_BLT, 10 words: no operation, no clipping, and a tiling for each side. */
export function decodeFastCopyBlt(words: Words): Decoded {
  const tiling = (shift: number) => FAST_TILINGS[(word(words, 0) >>> shift) & 3];
  const [to, from] = [tiling(13), tiling(20)];
  const pixel = FAST_DEPTHS[(word(words, 1) >>> 24) & 7];
  if (to === undefined || from === undefined) return { refused: 'its tiling is not supported' };
  if (pixel === undefined) return { refused: 'its depth is reserved' };
  const target = layout(address(words, 4), word(words, 1), to);
  if (typeof target === 'string') return { refused: target };
  const source = layout(address(words, 8), word(words, 7), from);
  if (typeof source === 'string') return { refused: source };
  const corner = { x: x(word(words, 6)), y: y(word(words, 6)) };
  const plain = { rop: SOURCE_COPY, mask: ALL, pattern: { kind: 'solid', color: 0 } as const };
  return { ...plain, rect: decodeRect(words, 2), pixel, target, source: { layout: source, ...corner } };
}

function common(words: Words, clip: Rect): Pick<Blit, 'rect' | 'pixel' | 'mask'> {
  const pixel = pixelBytes((word(words, 1) >>> 24) & 3);
  const whole = decodeRect(words, 2);
  const rect = (word(words, 1) & BLIT_CLIP) === 0 ? whole : intersect(whole, clip);
  return { rect, pixel, mask: pixel === 4 ? writeMask(word(words, 0)) : ALL };
}

/** Which of a 32-bit pixel's bits are written. */
const writeMask = (header: number): number =>
  ((header & BIT.WRITE_RGB) === 0 ? 0 : RGB) + ((header & BIT.WRITE_ALPHA) === 0 ? 0 : ALL - RGB);

const intersect = (a: Rect, b: Rect): Rect => ({
  x1: Math.max(a.x1, b.x1),
  y1: Math.max(a.y1, b.y1),
  x2: Math.min(a.x2, b.x2),
  y2: Math.min(a.y2, b.y2),
});

/** The pitch field counts bytes, and dwords of a tiled surface. */
function layout(base: number, pitchField: number, tiling: Tiling): SurfaceLayout | string {
  const pitch = signed16(pitchField);
  if (tiling === 'linear') return { base, pitch, tiling };
  if ((base & PAGE) !== 0) return 'a tiled surface does not begin at a page';
  if (pitch <= 0 || (pitch * 4) % TILES[tiling].width !== 0) return 'the pitch of a tiled surface is not whole tiles';
  return { base, pitch: pitch * 4, tiling };
}

/** XY_SETUP_BLT and what draws with it, see `BlitEngine`. */
export interface DrawSetup {
  readonly header: number;
  readonly control: number;
  readonly address: number;
  readonly foreground: number;
}

/** One pixel (XY_PIXEL_BLT) in the foreground colour of the setup. */
export function decodePixelBlt(words: Words, draw: DrawSetup, setup: BlitSetup): Decoded {
  const [px, py] = [x(word(words, 1)), y(word(words, 1))];
  const rect = { x1: px, y1: py, x2: px + 1, y2: py + 1 };
  return withSetup(rect, draw, setup);
}

/** A rectangle (XY_SCANLINES_BLT) in the foreground colour of the setup. */
export const decodeScanlinesBlt = (words: Words, draw: DrawSetup, setup: BlitSetup): Decoded =>
  withSetup(decodeRect(words, 1), draw, setup);

function withSetup(whole: Rect, { header, control, address: base, foreground }: DrawSetup, setup: BlitSetup): Decoded {
  const rop = (control >>> 16) & 0xff;
  if (usesSource(rop)) return { refused: 'the raster operation that was set up needs a source' };
  const target = layout(base, control, (header & BIT.DST_TILED) === 0 ? 'linear' : setup.targetTiles);
  if (typeof target === 'string') return { refused: target };
  const pixel = pixelBytes((control >>> 24) & 3);
  const rect = (control & BLIT_CLIP) === 0 ? whole : intersect(whole, setup.clip);
  const mask = pixel === 4 ? writeMask(header) : ALL;
  return { rect, pixel, mask, target, rop, pattern: { kind: 'solid', color: foreground } };
}

/** The setup of an XY_SETUP_BLT, 10 words; its clip rectangle is at word 2. */
export const decodeSetup = (words: Words): DrawSetup => ({
  header: word(words, 0),
  control: word(words, 1),
  address: address(words, 4),
  foreground: word(words, 7),
});

export const NO_SETUP: DrawSetup = Object.freeze({ header: 0, control: PATTERN_COPY << 16, address: 0, foreground: 0 });
