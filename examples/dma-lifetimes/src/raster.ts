import { encodePng } from '@pinion/vm';
import { dotsOf } from './font.js';
import type { Colour, Drawing, Shape } from './shapes.js';

/** Pixels per dot of a letter. */
const DOT = 2;
/** Pixels that a dash and a gap take together, and of the dash alone. */
const PERIOD = 10;
const DASH = 6;

/** A white picture that shapes are drawn on. */
class Raster {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;

  constructor({ width, height }: Drawing) {
    this.width = width;
    this.height = height;
    this.pixels = new Uint8Array(width * height * 4).fill(255);
  }

  square(left: number, top: number, look: { readonly size: number; readonly colour: Colour }): void {
    for (let dy = 0; dy < look.size; dy += 1) {
      for (let dx = 0; dx < look.size; dx += 1) {
        const [x, y] = [Math.round(left) + dx, Math.round(top) + dy];
        if (x >= 0 && y >= 0 && x < this.width && y < this.height)
          this.pixels.set(look.colour, (y * this.width + x) * 4);
      }
    }
  }
}

function drawLine(raster: Raster, shape: Extract<Shape, { kind: 'line' }>): void {
  let walked = 0;
  for (const [index, [x, y]] of shape.points.entries()) {
    const [fromX, fromY] = shape.points[index - 1] ?? [x, y];
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(x - fromX), Math.abs(y - fromY))));
    for (let step = 0; step < steps; step += 1, walked += 1) {
      if (shape.dashed && walked % PERIOD >= DASH) continue;
      const part = step / steps;
      raster.square(fromX + (x - fromX) * part, fromY + (y - fromY) * part, {
        size: shape.width,
        colour: shape.colour,
      });
    }
  }
}

function drawText(raster: Raster, { at: [left, top], text, colour }: Extract<Shape, { kind: 'text' }>): void {
  for (const [index, character] of [...text].entries()) {
    for (const [column, row] of dotsOf(character)) {
      raster.square(left + (index * 4 + column) * DOT, top + row * DOT, { size: DOT, colour });
    }
  }
}

/** The drawing as a PNG file. */
export function toPng(drawing: Drawing): Uint8Array {
  const raster = new Raster(drawing);
  for (const shape of drawing.shapes) {
    if (shape.kind === 'line') drawLine(raster, shape);
    else drawText(raster, shape);
  }
  return encodePng(raster);
}
