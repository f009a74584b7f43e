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
    if (this.layout.tiling === 'y' && memory instanceof PagedAccess) {
      moveYRow(memory, this.address(x, y), { bytes: into, toRow: true });
      return;
    }
    for (let done = 0; done < into.length; ) {
      const count = this.#run(x + done, into.length - done);
      memory.read(this.address(x + done, y), into.subarray(done, done + count));
      done += count;
    }
  }

  writeRow(x: number, y: number, from: Uint8Array): void {
    const { memory } = this;
    if (this.layout.tiling === 'y' && memory instanceof PagedAccess) {
      moveYRow(memory, this.address(x, y), { bytes: from, toRow: false });
      return;
    }
    for (let done = 0; done < from.length; ) {
      const count = this.#run(x + done, from.length - done);
      memory.write(this.address(x + done, y), from.subarray(done, done + count));
      done += count;
    }
  }

  /** Bytes of a row that lie together. */
  #run(x: number, left: number): number {
    const { tiling } = this.layout;
    return tiling === 'linear' ? left : Math.min(TILES[tiling].together - inside(x, TILES[tiling].together), left);
  }
}

/** A row and which way it goes. */
interface RowMove {
  readonly bytes: Uint8Array;
  readonly toRow: boolean;
}

/** A row of a Y-tiled surface from the graphics address `at`: one page after the other, in words where everything is a multiple of four. */
function moveYRow(memory: PagedAccess, at: number, { bytes, toRow }: RowMove): void {
  const words = ((at | bytes.byteOffset | bytes.length) & 3) === 0 ? wordsOf(bytes) : undefined;
  const first = (at & (Y_COLUMN - 1)) - (at & (Y_TILE.together - 1));
  let address = at;
  for (let done = 0; done < bytes.length; ) {
    const offset = address & (TILE - 1);
    const left = (Y_TILE.width / Y_TILE.together - Math.floor(offset / Y_COLUMN)) * Y_TILE.together;
    const count = Math.min(left - (offset & (Y_TILE.together - 1)), bytes.length - done);
    const page = memory.page(address, !toRow);
    const aligned = words !== undefined && page !== undefined && (page.byteOffset & 3) === 0;
    if (aligned)
      spread(
        { row: words, page: wordsOf(page), toRow },
        { unit: 4, offset: offset / 4, first: done / 4, last: (done + count) / 4 },
      );
    else if (page !== undefined)
      spread({ row: bytes, page, toRow }, { unit: 16, offset, first: done, last: done + count });
    else if (toRow) bytes.fill(0, done, done + count);
    done += count;
    address += TILE - offset + first;
  }
}

const wordsOf = ({ buffer, byteOffset, length }: Uint8Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, length / 4);

/** A row against the page of a tile, both in bytes or both in words. */
interface Spread {
  readonly row: Uint8Array | Uint32Array;
  readonly page: Uint8Array | Uint32Array;
  readonly toRow: boolean;
}

/** Elements `first`..`last` - 1 of the row, which begin at `offset` of the page; `unit` of them lie together. */
interface SpreadPart {
  readonly unit: number;
  readonly offset: number;
  readonly first: number;
  readonly last: number;
}

function spread({ row, page, toRow }: Spread, part: SpreadPart): void {
  const { unit, last } = part;
  const skip = unit * (Y_TILE.rows - 1);
  let { offset } = part;
  for (let done = part.first; done < last; offset += skip) {
    const end = Math.min(done + unit - (offset & (unit - 1)), last);
    if (toRow) while (done < end) row[done++] = page[offset++] ?? 0;
    else while (done < end) page[offset++] = row[done++] ?? 0;
  }
}
