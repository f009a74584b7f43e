import { type Blit, pixelBytes } from './blitter.js';
import { BIT, BLIT_CLIP, type Rect } from './commands.js';
import { usesPattern, usesSource } from './rop.js';
import type { SurfaceLayout } from './surface.js';

const ALL = 0xffffffff;
const RGB = 0x00ffffff;
const PAGE = 0xfff;
const X_TILE_WIDTH = 512;

/** Either a blit to carry out or why the command is refused. */
export type Decoded = Blit | { readonly refused: string };

/** The 32-bit words of one command; missing ones (none, once the length was checked) read as zero. */
export type Words = Uint32Array;

const word = (words: Words, at: number): number => words[at] ?? 0;
const address = (words: Words, at: number): number => word(words, at) + word(words, at + 1) * 2 ** 32;
const signed16 = (value: number): number => (value << 16) >> 16;
const x = (value: number): number => signed16(value);
const y = (value: number): number => value >> 16;

/** The clip rectangle of an XY_SETUP_CLIP_BLT, or the rectangle of a blit, at word `at`. */
export const decodeRect = (words: Words, at: number): Rect => ({
  x1: x(word(words, at)),
  y1: y(word(words, at)),
  x2: x(word(words, at + 1)),
  y2: y(word(words, at + 1)),
});

/** XY_COLOR_BLT, 7 words. */
export function decodeColorBlt(words: Words, clip: Rect): Decoded {
  const rop = (word(words, 1) >>> 16) & 0xff;
  if (usesSource(rop)) return { refused: 'its raster operation needs a source' };
  const target = layout(address(words, 4), word(words, 1), (word(words, 0) & BIT.DST_TILED) !== 0);
  if (typeof target === 'string') return { refused: target };
  return { ...common(words, clip), target, rop, color: word(words, 6) };
}

/** XY_SRC_COPY_BLT, 10 words. Clipping moves the source's corner by as much as the target's. */
export function decodeSrcCopyBlt(words: Words, clip: Rect): Decoded {
  const rop = (word(words, 1) >>> 16) & 0xff;
  if (usesPattern(rop)) return { refused: 'its raster operation needs a pattern' };
  const target = layout(address(words, 4), word(words, 1), (word(words, 0) & BIT.DST_TILED) !== 0);
  if (typeof target === 'string') return { refused: target };
  const from = layout(address(words, 8), word(words, 7), (word(words, 0) & BIT.SRC_TILED) !== 0);
  if (typeof from === 'string') return { refused: from };
  const blit = common(words, clip);
  const moved = { x: blit.rect.x1 - x(word(words, 2)), y: blit.rect.y1 - y(word(words, 2)) };
  const source = { layout: from, x: x(word(words, 6)) + moved.x, y: y(word(words, 6)) + moved.y };
  return { ...blit, target, rop, color: 0, source };
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
function layout(base: number, pitchField: number, tiled: boolean): SurfaceLayout | string {
  const pitch = signed16(pitchField);
  if (!tiled) return { base, pitch, tiling: 'linear' };
  if ((base & PAGE) !== 0) return 'a tiled surface does not begin at a page';
  if (pitch <= 0 || (pitch * 4) % X_TILE_WIDTH !== 0) return 'the pitch of a tiled surface is not whole tiles';
  return { base, pitch: pitch * 4, tiling: 'x' };
}
