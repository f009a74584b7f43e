import { gvtErrors } from './errors.js';
import type { GraphicsAccess } from './graphics-access.js';
import type { RegisterFile } from './mmio.js';
import {
  DISPLAY,
  MAX_SURFACE,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PLANE_FORMAT_MASK,
  PLANE_ORDER_RGBX,
  PLANE_TILING,
  PLANE_TILING_MASK,
} from './regs.js';
import { Surface, type Tiling } from './surface.js';

/** What a screen shows. `pixels`: RGBA, 4 bytes each, rows without gaps. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** A tiling's unit of stride in bytes, and its rows of a tile. */
const TILINGS: ReadonlyMap<number, { readonly tiling: Tiling; readonly unit: number; readonly rows: number }> = new Map(
  [
    [PLANE_TILING.LINEAR, { tiling: 'linear', unit: 64, rows: 1 }],
    [PLANE_TILING.X, { tiling: 'x', unit: 512, rows: 8 }],
    [PLANE_TILING.Y, { tiling: 'y', unit: 128, rows: 32 }],
  ],
);

/** Turns `count` pixels of `from` into RGBA at `at` of `into`. */
type Converter = (from: Uint8Array, into: Uint8Array, at: number) => void;

const bytesInOrder =
  (red: number, blue: number): Converter =>
  (from, into, at) => {
    for (let byte = 0; byte < from.length; byte += 4) {
      into[at + byte] = from[byte + red] ?? 0;
      into[at + byte + 1] = from[byte + 1] ?? 0;
      into[at + byte + 2] = from[byte + blue] ?? 0;
      into[at + byte + 3] = 0xff;
    }
  };

const rgb565: Converter = (from, into, at) => {
  for (let byte = 0; byte < from.length; byte += 2) {
    const pixel = (from[byte] ?? 0) | ((from[byte + 1] ?? 0) << 8);
    const out = at + byte * 2;
    into[out] = widen(pixel >> 11, 5);
    into[out + 1] = widen((pixel >> 5) & 0x3f, 6);
    into[out + 2] = widen(pixel & 0x1f, 5);
    into[out + 3] = 0xff;
  }
};

/** A colour of `bits` bits as 8 bits, so that all ones stay all ones. */
const widen = (value: number, bits: number): number => (value << (8 - bits)) | (value >> (2 * bits - 8));

function formatOf(control: number): { readonly pixel: number; readonly convert: Converter } {
  const format = control & PLANE_FORMAT_MASK;
  if (format === PLANE_FORMAT.RGB565) return { pixel: 2, convert: rgb565 };
  if (format !== PLANE_FORMAT.XRGB8888)
    throw gvtErrors.BAD_PLANE({ what: `pixel format ${format >>> 24} is not supported` });
  return { pixel: 4, convert: (control & PLANE_ORDER_RGBX) === 0 ? bytesInOrder(2, 0) : bytesInOrder(0, 2) };
}

interface Plane {
  readonly surface: Surface;
  readonly width: number;
  readonly height: number;
  readonly pixel: number;
  readonly convert: Converter;
}

/** Pipe A with its primary plane. */
export class Display {
  readonly #registers: RegisterFile;
  readonly #memory: GraphicsAccess;

  constructor(registers: RegisterFile, memory: GraphicsAccess) {
    this.#registers = registers;
    this.#memory = memory;
  }

  /**
   * What the screen shows now: 0 by 0 while the pipe or the plane is off. Graphics pages with no guest page behind them are black.
   * @throws PinionError GVT_BAD_PLANE (EINVAL) for a format or stride this screen cannot show, GVT_PLANE_RANGE (EFAULT).
   */
  frame(): Frame {
    const plane = this.#plane();
    if (plane === undefined) return { width: 0, height: 0, pixels: new Uint8Array(0) };
    const { width, height, pixel } = plane;
    const pixels = new Uint8Array(width * height * 4);
    const row = new Uint8Array(width * pixel);
    for (let y = 0; y < height; y++) {
      plane.surface.readRow(0, y, row);
      plane.convert(row, pixels, y * width * 4);
    }
    return { width, height, pixels };
  }

  #plane(): Plane | undefined {
    const registers = this.#registers;
    const control = registers.get(DISPLAY.PLANE_CTL);
    const on = (registers.get(DISPLAY.TRANSCONF) & PIPE_ENABLE) !== 0 && (control & PLANE_ENABLE) !== 0;
    if (!on) return undefined;
    const size = registers.get(DISPLAY.PIPESRC);
    const width = ((size >>> 16) & 0x1fff) + 1;
    const height = (size & 0x1fff) + 1;
    const format = formatOf(control);
    return { ...format, width, height, surface: this.#surface(control, width * format.pixel, height) };
  }

  #surface(control: number, rowBytes: number, height: number): Surface {
    const layout = TILINGS.get(control & PLANE_TILING_MASK);
    if (layout === undefined) throw gvtErrors.BAD_PLANE({ what: 'its tiling is not supported' });
    const base = this.#registers.get(DISPLAY.PLANE_SURF);
    const pitch = (this.#registers.get(DISPLAY.PLANE_STRIDE) & 0x3ff) * layout.unit;
    if (pitch < rowBytes)
      throw gvtErrors.BAD_PLANE({ what: `a stride of ${pitch} bytes is less than a row of ${rowBytes}` });
    if ((base & 0xfff) !== 0) throw gvtErrors.BAD_PLANE({ what: 'its surface does not begin at a page' });
    const bytes = pitch * Math.ceil(height / layout.rows) * layout.rows;
    const last = base + bytes - 1;
    if (bytes > MAX_SURFACE || !this.#memory.owns(base, last)) throw gvtErrors.PLANE_RANGE({ first: base, last });
    return new Surface(this.#memory, { base, pitch, tiling: layout.tiling });
  }
}
