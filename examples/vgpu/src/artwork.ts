import { type Rect, xyColorBlt, xySrcCopyBlt } from '@pinion/vm';

/** Width and height of what each guest shows, pixels of 4 bytes. */
export const SIZE = 512;
export const PITCH = SIZE * 4;
export const FRAME_BYTES = PITCH * SIZE;
const WHOLE: Rect = { x1: 0, y1: 0, x2: SIZE, y2: SIZE };
/** Raster operations: source AND destination, source OR destination. */
const AND = 0x88;
const OR = 0xee;
const WHITE = 0xffffff;
const NIGHT = 0x0b0d1e;
/** Edge of the smallest triangle, pixels. */
const SEED = 4;
/** The curve visits 2^ORDER squared cells. */
const ORDER = 6;
const CELL = SIZE / 2 ** ORDER;
const STROKE = 3;

export type Commands = readonly (readonly number[])[];

const surface = (address: number) => ({ address, pitch: PITCH });
const fill = (address: number, rect: Rect, color: number): number[] =>
  xyColorBlt({ target: surface(address), rect, color });

/** A colour of the rainbow at `turn` (0..1, wraps), 24 bits. */
function rainbow(turn: number): number {
  const channel = (shift: number): number => Math.round(127.5 * (1 + Math.cos(2 * Math.PI * (turn - shift))));
  return (channel(0) << 16) | (channel(1 / 3) << 8) | channel(2 / 3);
}

/**
 * A triangle of triangles, made by copying alone: each step puts two copies of what there is below it. Its colours are a gradient that the
 * triangle is cut out of.
 */
export function triangle(screen: number, scratch: number, phase: number): Commands {
  const commands = [fill(screen, WHOLE, 0), fill(screen, { x1: 0, y1: 0, x2: SEED, y2: SEED }, WHITE)];
  const copy = (edge: number, x: number, y: number): number[] =>
    xySrcCopyBlt({
      target: surface(screen),
      rect: { x1: x, y1: y, x2: x + edge, y2: y + edge },
      source: surface(screen),
    });
  for (let edge = SEED; edge < SIZE; edge *= 2) commands.push(copy(edge, 0, edge), copy(edge, edge, edge));
  for (let y = 0; y < SIZE; y += 4)
    commands.push(fill(scratch, { x1: 0, y1: y, x2: SIZE, y2: y + 4 }, rainbow(y / SIZE + phase)));
  const cut = { target: surface(screen), rect: WHOLE, source: surface(scratch) };
  return [...commands, xySrcCopyBlt({ ...cut, rop: AND }), ...ground(screen, scratch)];
}

/** What is black becomes night. */
const ground = (screen: number, scratch: number): Commands => [
  fill(scratch, WHOLE, NIGHT),
  xySrcCopyBlt({ target: surface(screen), rect: WHOLE, source: surface(scratch), rop: OR }),
];

/** A line through all cells of a square that never crosses itself (Hilbert's curve), in the colours of the rainbow from end to end. */
export function curve(screen: number, _scratch: number, phase: number): Commands {
  const commands = [fill(screen, WHOLE, NIGHT)];
  const cells = 4 ** ORDER;
  let [x, y] = place(0);
  for (let index = 1; index < cells; index += 1) {
    const [nextX, nextY] = place(index);
    commands.push(fill(screen, stroke(x, y, nextX, nextY), rainbow(index / cells + phase)));
    [x, y] = [nextX, nextY];
  }
  return commands;
}

/** From the middle of one cell to that of its neighbour. */
const stroke = (x: number, y: number, nextX: number, nextY: number): Rect => {
  const middle = CELL / 2 - Math.floor(STROKE / 2);
  return {
    x1: Math.min(x, nextX) * CELL + middle,
    y1: Math.min(y, nextY) * CELL + middle,
    x2: Math.max(x, nextX) * CELL + middle + STROKE,
    y2: Math.max(y, nextY) * CELL + middle + STROKE,
  };
};

/** Cell number `index` of the curve. */
function place(index: number): [x: number, y: number] {
  let [x, y, rest] = [0, 0, index];
  for (let edge = 1; edge < 2 ** ORDER; edge *= 2) {
    const right = (rest >> 1) & 1;
    const up = (rest ^ right) & 1;
    if (up === 0) {
      if (right === 1) [x, y] = [edge - 1 - x, edge - 1 - y];
      [x, y] = [y, x];
    }
    x += edge * right;
    y += edge * up;
    rest >>= 2;
  }
  return [x, y];
}
