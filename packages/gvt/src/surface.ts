import type { GraphicsAccess } from './graphics-access.js';
import { PagedAccess } from './paged-access.js';

/** How pixels lie in memory. */
export type Tiling = 'linear' | 'x' | 'y';

/** A rectangle of memory. `base` and `pitch` in bytes; a tiled surface begins at a page and its pitch is whole tiles. */
export interface SurfaceLayout {
  readonly base: number;
  readonly pitch: number;
  readonly tiling: Tiling;
}

const TILE = 4096;
/** Bytes of a row, rows of a tile, and bytes of a row that lie together. */
export const TILES = {
  x: { width: 512, rows: 8, together: 512 },
  y: { width: 128, rows: 32, together: 16 },
} as const;
const { x: X_TILE, y: Y_TILE } = TILES;
/** Bytes of a column of a Y tile. */
const Y_COLUMN = Y_TILE.together * Y_TILE.rows;

const below = (value: number, unit: number): number => Math.floor(value / unit);
/** `value` modulo `unit`, never negative. */
export const inside = (value: number, unit: number): number => value - below(value, unit) * unit;
/** Where the tile begins that holds `value`. */
export const tileOrigin = (value: number, unit: number): number => below(value, unit) * unit;

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
  below(inside(x, Y_TILE.width), Y_TILE.together) * Y_COLUMN +
  inside(y, Y_TILE.rows) * Y_TILE.together +
  inside(x, Y_TILE.together);

const OFFSETS: Readonly<Record<Tiling, (x: number, y: number, pitch: number) => number>> = {
  linear: (x, y, pitch) => y * pitch + x,
  x: xTileOffset,
  y: yTileOffset,
};

/** Rows of a surface in graphics memory. `x` in bytes, `y` in rows; both may be negative. */
export class Surface<Memory extends GraphicsAccess = GraphicsAccess> {
  readonly layout: SurfaceLayout;
  readonly memory: Memory;
  readonly #offset: (x: number, y: number, pitch: number) => number;

  constructor(memory: Memory, layout: SurfaceLayout) {
    this.memory = memory;
    this.layout = layout;
    this.#offset = OFFSETS[layout.tiling];
  }

  /** Graphics address of a byte. */
  address(x: number, y: number): number {
    return this.layout.base + this.#offset(x, y, this.layout.pitch);
  }

  readRow(x: number, y: number, into: Uint8Array): void {
    const { memory } = this;
    for (let done = 0; done < into.length; ) {
      const count = this.#run(x + done, into.length - done);
      const part = into.subarray(done, done + count);
      const at = this.address(x + done, y);
      if (this.layout.tiling !== 'y') memory.read(at, part);
      else if (memory instanceof PagedAccess) gather(memory.page(at, false), at, part);
      else eachColumn(at, count, (address, first, last) => memory.read(address, part.subarray(first, last)));
      done += count;
    }
  }

  writeRow(x: number, y: number, from: Uint8Array): void {
    const { memory } = this;
    for (let done = 0; done < from.length; ) {
      const count = this.#run(x + done, from.length - done);
      const part = from.subarray(done, done + count);
      const at = this.address(x + done, y);
      if (this.layout.tiling !== 'y') memory.write(at, part);
      else if (memory instanceof PagedAccess) scatter(memory.page(at, true), at, part);
      else eachColumn(at, count, (address, first, last) => memory.write(address, part.subarray(first, last)));
      done += count;
    }
  }

  /** Bytes of a row up to the end of a tile. */
  #run(x: number, left: number): number {
    const { tiling } = this.layout;
    return tiling === 'linear' ? left : Math.min(TILES[tiling].width - inside(x, TILES[tiling].width), left);
  }
}

/** The pieces of a row of a Y tile that lie together, from the graphics address `at`: their address, and which bytes of the row they are. */
function eachColumn(at: number, count: number, visit: (address: number, first: number, last: number) => void): void {
  let address = at;
  for (let done = 0; done < count; ) {
    const length = Math.min(Y_TILE.together - inside(address, Y_TILE.together), count - done);
    visit(address, done, done + length);
    done += length;
    address = tileOrigin(address, Y_TILE.together) + Y_COLUMN;
  }
}

/** A row of a Y tile out of its page; zeros if there is none. */
function gather(page: Uint8Array | undefined, at: number, into: Uint8Array): void {
  if (page === undefined) {
    into.fill(0);
    return;
  }
  let offset = at & (TILE - 1);
  for (let done = 0; done < into.length; offset += Y_COLUMN - Y_TILE.together) {
    const end = Math.min(done + Y_TILE.together - (offset & (Y_TILE.together - 1)), into.length);
    while (done < end) into[done++] = page[offset++] ?? 0;
  }
}

function scatter(page: Uint8Array | undefined, at: number, from: Uint8Array): void {
  let offset = at & (TILE - 1);
  if (page === undefined) return;
  for (let done = 0; done < from.length; offset += Y_COLUMN - Y_TILE.together) {
    const end = Math.min(done + Y_TILE.together - (offset & (Y_TILE.together - 1)), from.length);
    while (done < end) page[offset++] = from[done++] ?? 0;
  }
}
