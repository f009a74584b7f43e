import { PAGE_SIZE, PinionError } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { GraphicsAccess } from '../graphics-access.js';
import type { RegisterFile } from '../mmio.js';
import { Surface } from '../surface.js';
import { PALETTE } from './display-regs.js';
import type { Plane, Planes } from './plane.js';

/** What a screen shows. `pixels`: RGBA, 4 bytes each, rows without gaps. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

const PALETTE_ENTRIES = 256;
/** A picture has at most 64 MB: a guest with small pixels could ask for much more than its surface has. */
const MOST_PIXELS = 4096 * 4096;

/** The rows of a plane, one by one. */
export class PlaneReader {
  readonly #plane: Plane;
  readonly #memory: GraphicsAccess;
  readonly #surface: Surface;
  readonly #convert: (from: Uint8Array, into: Uint8Array, at: number) => void;

  /** `memory` is where the plane's graphics address leads. @throws PinionError GVT_BAD_PLANE (EINVAL) for a tiling without pixels, or too many pixels. */
  constructor(plane: Plane, memory: GraphicsAccess, palette: Uint32Array) {
    const { info, tiling, format } = plane;
    const { width, height } = info;
    if (width * height > MOST_PIXELS) throw gvtErrors.BAD_PLANE({ what: `${width} x ${height} pixels are too many` });
    if (tiling === undefined) throw gvtErrors.BAD_PLANE({ what: 'pixels of its tiling cannot be read, only exported' });
    this.#plane = plane;
    this.#memory = memory;
    this.#surface = new Surface(memory, { base: info.start, pitch: info.stride, tiling });
    this.#convert = format.converter(palette);
  }

  /** Bytes of a row in memory. */
  get rowBytes(): number {
    return this.#plane.info.width * this.#plane.format.bytes;
  }

  /** Fills `into` (`rowBytes`) with row `y` as it lies in memory. */
  readRow(y: number, into: Uint8Array): void {
    const { offset, format } = this.#plane;
    this.#surface.readRow(offset.x * format.bytes, offset.y + y, into);
  }

  /** Turns a row in memory into RGBA at byte `at` of `into`. */
  convertRow(row: Uint8Array, into: Uint8Array, at: number): void {
    this.#convert(row, into, at);
  }

  /** The surface in the order of memory, page by page: `visit` gets the page's offset and its bytes, which are not to be kept. */
  eachPage(visit: (offset: number, page: Uint8Array) => void): void {
    const { start, size } = this.#plane.info;
    const page = new Uint8Array(PAGE_SIZE);
    for (let offset = 0; offset < size; offset += PAGE_SIZE) {
      const bytes = offset + PAGE_SIZE <= size ? page : page.subarray(0, size - offset);
      this.#memory.read(start + offset, bytes);
      visit(offset, bytes);
    }
  }

  /** All rows as RGBA. */
  pixels(): Uint8Array {
    const { width, height } = this.#plane.info;
    const pixels = new Uint8Array(width * height * 4);
    const row = new Uint8Array(this.rowBytes);
    for (let y = 0; y < height; y++) {
      this.readRow(y, row);
      this.convertRow(row, pixels, y * width * 4);
    }
    return pixels;
  }
}

/** What pipe A shows: the primary plane, and the cursor on top of it. */
export class Screen {
  readonly #planes: Planes;
  readonly #registers: RegisterFile;
  readonly #memory: GraphicsAccess;

  constructor(planes: Planes, registers: RegisterFile, memory: GraphicsAccess) {
    this.#planes = planes;
    this.#registers = registers;
    this.#memory = memory;
  }

  /** The legacy palette of pipe A. */
  palette(): Uint32Array {
    return Uint32Array.from({ length: PALETTE_ENTRIES }, (_, index) => this.#registers.get(PALETTE + index * 4));
  }

  /** A reader of the plane's rows. Each access looks the table up. */
  reader(plane: Plane): PlaneReader {
    return new PlaneReader(plane, this.#memory, this.palette());
  }

  /**
   * What the screen shows now: 0 by 0 while the pipe or the plane is off. Graphics pages with no guest page behind them are black.
   * A cursor that cannot be shown is left out.
   * @throws PinionError GVT_BAD_PLANE (EINVAL) for a format or stride this screen cannot show, GVT_PLANE_START, GVT_PLANE_RANGE (EFAULT).
   */
  frame(): Frame {
    const plane = this.#planes.decode('primary');
    if (plane === undefined) return { width: 0, height: 0, pixels: new Uint8Array(0) };
    const { width, height } = plane.info;
    const frame = { width, height, pixels: this.reader(plane).pixels() };
    this.#drawCursor(frame);
    return frame;
  }

  /** The cursor's plane; undefined while it is off, and for one that cannot be shown. */
  cursor(): Plane | undefined {
    try {
      return this.#planes.decode('cursor');
    } catch (cause) {
      if (cause instanceof PinionError) return undefined;
      throw cause;
    }
  }

  #drawCursor(frame: Frame): void {
    const cursor = this.cursor();
    if (cursor !== undefined) blend(frame, cursor.info, this.reader(cursor).pixels());
  }
}

/** Lays a picture whose colours are multiplied by its alpha over a frame, clipped. */
export function blend(
  frame: Frame,
  { xPos, yPos, width, height }: { xPos: number; yPos: number; width: number; height: number },
  pixels: Uint8Array,
): void {
  for (let y = Math.max(0, -yPos); y < height && yPos + y < frame.height; y++) {
    for (let x = Math.max(0, -xPos); x < width && xPos + x < frame.width; x++) {
      const from = (y * width + x) * 4;
      const to = ((yPos + y) * frame.width + xPos + x) * 4;
      const rest = 255 - (pixels[from + 3] ?? 0);
      for (let color = 0; color < 3; color++) {
        const under = (frame.pixels[to + color] ?? 0) * rest;
        frame.pixels[to + color] = Math.min(255, (pixels[from + color] ?? 0) + Math.round(under / 255));
      }
    }
  }
}
