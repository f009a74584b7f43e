import { type BlitSurface, type GraphicsBuffer, type Rect, xyColorBlt, xySrcCopyBlt } from '@pinion/vm';
import { textRuns } from './font.js';

/** 32-bit pixels in memory that the GPU sees. */
export interface Bitmap {
  readonly buffer: GraphicsBuffer;
  readonly width: number;
  readonly height: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** 0xRRGGBB */
export type Color = number;

const surfaceOf = ({ buffer, width }: Bitmap): BlitSurface => ({ address: buffer.address, pitch: width * 4 });

/** Mixes two colours channel by channel. */
export function mixColors(from: Color, to: Color, share: number): Color {
  const channel = (shift: number): number => {
    const a = (from >> shift) & 0xff;
    const b = (to >> shift) & 0xff;
    return Math.round(a + (b - a) * share) << shift;
  };
  return channel(16) | channel(8) | channel(0);
}

/** Writes blitter commands; nothing is drawn before they run. */
export class Canvas {
  readonly commands: number[][] = [];
  readonly #target: Bitmap;

  constructor(target: Bitmap) {
    this.#target = target;
  }

  get width(): number {
    return this.#target.width;
  }

  fill(rect: Rect, color: Color): void {
    this.commands.push(xyColorBlt({ target: surfaceOf(this.#target), rect, color: (0xff00_0000 | color) >>> 0 }));
  }

  /** Horizontal bands from one colour to another. */
  gradient({ x1, y1, x2, y2 }: Rect, [from, to]: readonly [Color, Color], bands: number): void {
    for (let band = 0; band < bands; band++) {
      const edge = (index: number): number => Math.round(y1 + ((y2 - y1) * index) / bands);
      this.fill({ x1, y1: edge(band), x2, y2: edge(band + 1) }, mixColors(from, to, band / (bands - 1)));
    }
  }

  /** A frame of `width` pixels around the outside of a rectangle. */
  frame({ x1, y1, x2, y2 }: Rect, width: number, color: Color): void {
    this.fill({ x1: x1 - width, y1: y1 - width, x2: x2 + width, y2: y1 }, color);
    this.fill({ x1: x1 - width, y1: y2, x2: x2 + width, y2: y2 + width }, color);
    this.fill({ x1: x1 - width, y1, x2: x1, y2 }, color);
    this.fill({ x1: x2, y1, x2: x2 + width, y2 }, color);
  }

  text(at: Point, text: string, { scale, color }: { scale: number; color: Color }): void {
    for (const { x, y, length } of textRuns(text)) {
      const left = at.x + x * scale;
      const top = at.y + y * scale;
      this.fill({ x1: left, y1: top, x2: left + length * scale, y2: top + scale }, color);
    }
  }

  /** Copies a whole bitmap. `rop`: raster operation, default: a plain copy. */
  copy(source: Bitmap, at: Point, rop = 0xcc): void {
    const rect = { x1: at.x, y1: at.y, x2: at.x + source.width, y2: at.y + source.height };
    this.commands.push(xySrcCopyBlt({ target: surfaceOf(this.#target), rect, source: surfaceOf(source), rop }));
  }

  /**
   * Copies `source` at 1/`factor` of its size. The blitter cannot scale, so it takes every n-th column into `narrow`
   * (as wide as the result, as high as the source), then every n-th row of that.
   */
  static shrink(source: Bitmap, narrow: Bitmap, target: Bitmap, factor: number): number[][] {
    const commands: number[][] = [];
    for (let x = 0; x < narrow.width; x++) {
      const rect = { x1: x, y1: 0, x2: x + 1, y2: source.height };
      const from = { x: x * factor, y: 0 };
      commands.push(xySrcCopyBlt({ target: surfaceOf(narrow), rect, source: surfaceOf(source), from }));
    }
    for (let y = 0; y < target.height; y++) {
      const rect = { x1: 0, y1: y, x2: target.width, y2: y + 1 };
      const from = { x: 0, y: y * factor };
      commands.push(xySrcCopyBlt({ target: surfaceOf(target), rect, source: surfaceOf(narrow), from }));
    }
    return commands;
  }
}
