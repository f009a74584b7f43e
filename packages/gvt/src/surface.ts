import type { GraphicsAccess } from './graphics-access.js';

/** How pixels lie in memory. */
export type Tiling = 'linear' | 'x' | 'y';

/** A rectangle of memory. `base` and `pitch` in bytes; a tiled surface begins at a page and its pitch is whole tiles. */
export interface SurfaceLayout {
  readonly base: number;
  readonly pitch: number;
  readonly tiling: Tiling;
}

const TILE = 4096;
/** Bytes of a row, rows of a tile. */
export const X_TILE = { width: 512, rows: 8 };
const Y_TILE = { width: 128, rows: 32, column: 16 };

const below = (value: number, unit: number): number => Math.floor(value / unit);
/** `value` modulo `unit`, never negative. */
export const inside = (value: number, unit: number): number => value - below(value, unit) * unit;

/**
 * Offset in bytes of the byte `x` of row `y` in an X-tiled surface: tiles of 512 bytes by 8 rows, rows one after the other. Bit-6
 * swizzling is off. Source: Intel PRM, "Tile formats".
 */
export const xTileOffset = (x: number, y: number, pitch: number): number =>
  below(y, X_TILE.rows) * X_TILE.rows * pitch +
  below(x, X_TILE.width) * TILE +
  inside(y, X_TILE.rows) * X_TILE.width +
  inside(x, X_TILE.width);

/** The same in a Y-tiled surface: tiles of 128 bytes by 32 rows, in columns of 16 bytes. */
export const yTileOffset = (x: number, y: number, pitch: number): number =>
  below(y, Y_TILE.rows) * Y_TILE.rows * pitch +
  below(x, Y_TILE.width) * TILE +
  below(inside(x, Y_TILE.width), Y_TILE.column) * Y_TILE.column * Y_TILE.rows +
  inside(y, Y_TILE.rows) * Y_TILE.column +
  inside(x, Y_TILE.column);

/** A layout's byte offset, and how many bytes from there lie together (counted from a multiple of that). */
const LAYOUTS = {
  linear: { offset: (x: number, y: number, pitch: number) => y * pitch + x, together: Number.POSITIVE_INFINITY },
  x: { offset: xTileOffset, together: X_TILE.width },
  y: { offset: yTileOffset, together: Y_TILE.column },
} as const;

/** Rows of a surface in graphics memory. `x` in bytes, `y` in rows; both may be negative. */
export class Surface {
  readonly layout: SurfaceLayout;
  readonly #memory: GraphicsAccess;
  readonly #offset: (x: number, y: number, pitch: number) => number;
  readonly #together: number;

  constructor(memory: GraphicsAccess, layout: SurfaceLayout) {
    this.#memory = memory;
    this.layout = layout;
    this.#offset = LAYOUTS[layout.tiling].offset;
    this.#together = LAYOUTS[layout.tiling].together;
  }

  /** Graphics address of a byte. */
  address(x: number, y: number): number {
    return this.layout.base + this.#offset(x, y, this.layout.pitch);
  }

  readRow(x: number, y: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const count = this.#run(x + done, into.length - done);
      this.#memory.read(this.address(x + done, y), into.subarray(done, done + count));
      done += count;
    }
  }

  writeRow(x: number, y: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const count = this.#run(x + done, from.length - done);
      this.#memory.write(this.address(x + done, y), from.subarray(done, done + count));
      done += count;
    }
  }

  #run(x: number, left: number): number {
    return this.layout.tiling === 'linear' ? left : Math.min(this.#together - inside(x, this.#together), left);
  }
}
