/** What a blit fills with: one colour, or eight by eight pixels that repeat over the target. */
import type { PagedAccess } from './paged-access.js';

const SIDE = 8;

/** Bytes of a row, also as whole 32-bit words (the last may have bytes too many). */
export class Row {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;

  constructor(length: number) {
    this.words = new Uint32Array(Math.ceil(length / 4));
    this.bytes = new Uint8Array(this.words.buffer, 0, length);
  }
}

/** One colour; its low bits below 32 bpp. */
export interface SolidPattern {
  readonly kind: 'solid';
  readonly color: number;
}

/**
 * Eight by eight pixels, tied to the target's coordinates: target pixel (x, y) shows pixel (x + seedX, y + seedY) modulo 8. `opaque`: bit 8 * row
 * + column says that the pixel is drawn; absent: all are.
 */
export interface TiledPattern {
  readonly kind: 'tiled';
  /** 64 pixels, row by row. */
  readonly pixels: Uint8Array;
  readonly seedX: number;
  readonly seedY: number;
  readonly opaque?: Uint8Array | undefined;
}

/** Bytes of 64 pixels in graphics memory, which are read when the blit begins. */
export interface MemoryPattern {
  readonly kind: 'memory';
  readonly address: number;
  readonly seedX: number;
  readonly seedY: number;
}

export type Pattern = SolidPattern | TiledPattern | MemoryPattern;

/** Bits of a mono pattern as pixels: ones show the foreground, zeros the background or, if it is transparent, nothing. */
export function monoPattern(
  bits: Uint8Array,
  colors: MonoColors,
  place: Pick<TiledPattern, 'seedX' | 'seedY'>,
): TiledPattern {
  const { foreground, background, pixel, transparent } = colors;
  const pixels = new Uint8Array(SIDE * SIDE * pixel);
  for (let at = 0; at < SIDE * SIDE; at++) {
    const color = isSet(bits, at) ? foreground : background;
    for (let byte = 0; byte < pixel; byte++) pixels[at * pixel + byte] = color >>> (byte * 8);
  }
  return { kind: 'tiled', pixels, opaque: transparent ? bits : undefined, ...place };
}

export interface MonoColors {
  readonly foreground: number;
  readonly background: number;
  /** Bytes per pixel. */
  readonly pixel: number;
  readonly transparent: boolean;
}

/** The leftmost pixel of a row is the highest bit of its byte. */
const isSet = (bits: Uint8Array, at: number): boolean => (((bits[at >> 3] ?? 0) >> (7 - (at & 7))) & 1) !== 0;

/** Where a pattern's rows are wanted: `x` is the first pixel, `length` bytes of a row, `pixel` bytes per pixel. */
export interface PatternPlace {
  readonly x: number;
  readonly pixel: number;
  readonly length: number;
}

/** Rows of a pattern as long as a target's, each made once. */
export class PatternRows {
  readonly #pattern: SolidPattern | TiledPattern;
  readonly #place: PatternPlace;
  readonly #rows: (Row | undefined)[] = [];
  readonly #masks: (Row | undefined)[] = [];

  constructor(pattern: Pattern, place: PatternPlace, memory: PagedAccess) {
    this.#pattern = pattern.kind === 'memory' ? load(pattern, place.pixel, memory) : pattern;
    this.#place = place;
  }

  /** Which row of the pattern target row `y` shows. */
  row(y: number): Row {
    const index = this.#index(y);
    this.#rows[index] ??= this.#make(index, (_column, source) => source);
    return this.#rows[index] ?? new Row(0);
  }

  /** Ones where the pattern draws in target row `y`; undefined: everywhere. */
  mask(y: number): Row | undefined {
    const pattern = this.#pattern;
    if (pattern.kind === 'solid' || pattern.opaque === undefined) return undefined;
    const { opaque } = pattern;
    const index = this.#index(y);
    this.#masks[index] ??= this.#make(index, (column) => (isSet(opaque, index * SIDE + column) ? 0xff : 0));
    return this.#masks[index];
  }

  #index(y: number): number {
    return this.#pattern.kind === 'solid' ? 0 : (y + this.#pattern.seedY) & (SIDE - 1);
  }

  #make(index: number, pick: (column: number, source: number) => number): Row {
    const { x, pixel, length } = this.#place;
    const row = new Row(length);
    for (let at = 0; at < length; at++) {
      const column =
        this.#pattern.kind === 'solid' ? 0 : (x + Math.floor(at / pixel) + this.#pattern.seedX) & (SIDE - 1);
      row.bytes[at] = pick(column, this.#byte(index, column, at % pixel));
    }
    return row;
  }

  #byte(index: number, column: number, byte: number): number {
    const pattern = this.#pattern;
    if (pattern.kind === 'solid') return (pattern.color >>> (byte * 8)) & 0xff;
    return pattern.pixels[(index * SIDE + column) * this.#place.pixel + byte] ?? 0;
  }
}

function load({ address, seedX, seedY }: MemoryPattern, pixel: number, memory: PagedAccess): TiledPattern {
  const pixels = new Uint8Array(SIDE * SIDE * pixel);
  memory.read(address, pixels);
  return { kind: 'tiled', pixels, seedX, seedY };
}

/** Bytes of a pattern in memory. */
export const patternBytes = (pixel: number): number => SIDE * SIDE * pixel;
