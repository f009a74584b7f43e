import { PAGE_SIZE } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { Ggtt } from '../ggtt.js';
import type { RegisterFile } from '../mmio.js';
import { DISPLAY, MAX_SURFACE, PIPE_ENABLE, PLANE_ENABLE, PLANE_TILING, PLANE_TILING_MASK, PVINFO } from '../regs.js';
import type { Tiling } from '../surface.js';
import { CURSOR, CURSOR_MODE_MASK, CURSOR_SIDES, PLANE_OFFSET } from './display-regs.js';
import { CURSOR_FORMAT, fourcc, type PixelFormat, planeFormat } from './pixel-formats.js';

/** What can be asked for: the picture and the cursor. A vGPU has no other planes. */
export type PlaneType = 'primary' | 'cursor';

/** A plane as a VMM is told of it. Source: struct vfio_device_gfx_plane_info. */
export interface PlaneInfo {
  readonly type: PlaneType;
  /** Graphics address of its first byte, a page's beginning; and the guest frame that the table has there. */
  readonly start: number;
  readonly startGfn: number;
  /** Bytes from there to its end. */
  readonly size: number;
  readonly width: number;
  readonly height: number;
  /** Bytes of a row. */
  readonly stride: number;
  /** DRM's number of the pixel format, and of the way pixels lie in memory. */
  readonly drmFormat: number;
  readonly drmModifier: bigint;
  /** Where the cursor is on the screen; may be negative. */
  readonly xPos: number;
  readonly yPos: number;
  /** The pixel of the cursor that points; 0xffffffff: the guest has not said. */
  readonly xHot: number;
  readonly yHot: number;
}

/** A plane with all that is needed to read its pixels. */
export interface Plane {
  readonly info: PlaneInfo;
  readonly format: PixelFormat;
  /** Undefined: a tiling that can be described and exported, but not turned into pixels here. */
  readonly tiling: Tiling | undefined;
  /** Rows of a tile; 1: no tiles. */
  readonly tileRows: number;
  /** The pixel of the surface that stands in the upper left corner. */
  readonly offset: { readonly x: number; readonly y: number };
}

/** A tiling: the unit of its stride in bytes, and rows of a tile. */
interface TilingMode {
  readonly tiling: Tiling | undefined;
  readonly unit: (format: PixelFormat) => number;
  readonly rows: number;
  readonly modifier: bigint;
}

/** Modifiers of Intel begin here. Source: drm_fourcc.h, I915_FORMAT_MOD_*. */
const INTEL = 1n << 56n;
const TILING_YF = 5 << 10;
const TILINGS: ReadonlyMap<number, TilingMode> = new Map<number, TilingMode>([
  [PLANE_TILING.LINEAR, { tiling: 'linear', unit: () => 64, rows: 1, modifier: 0n }],
  [PLANE_TILING.X, { tiling: 'x', unit: () => 512, rows: 8, modifier: INTEL + 1n }],
  [PLANE_TILING.Y, { tiling: 'y', unit: () => 128, rows: 32, modifier: INTEL + 2n }],
  [TILING_YF, { tiling: undefined, unit: ({ bytes }) => (bytes === 1 ? 64 : 128), rows: 32, modifier: INTEL + 3n }],
]);
const STRIDE_MASK = 0x3ff;
const SIZE_MASK = 0x1fff;
const NO_HOT_SPOT = 0xffffffff;

type Table = Pick<Ggtt, 'owns' | 'read'>;

/** Pipe A with its planes, as its registers describe them at the moment. Source: i915 gvt fb_decoder.c and dmabuf.c. */
export class Planes {
  readonly #registers: RegisterFile;
  readonly #table: Table;

  constructor(registers: RegisterFile, table: Table) {
    this.#registers = registers;
    this.#table = table;
  }

  /** Whether pipe A runs. */
  get on(): boolean {
    return (this.#registers.get(DISPLAY.TRANSCONF) & PIPE_ENABLE) !== 0;
  }

  /**
   * Undefined while the pipe or the plane is off.
   * @throws PinionError GVT_BAD_PLANE (EINVAL) for a format, tiling or stride that there is not; GVT_PLANE_START,
   * GVT_PLANE_RANGE (EFAULT) for a surface inside a page, not the vGPU's own, or larger than 36 MB.
   */
  decode(type: PlaneType): Plane | undefined {
    if (!this.on) return undefined;
    return type === 'primary' ? this.#primary() : this.#cursor();
  }

  #primary(): Plane | undefined {
    const registers = this.#registers;
    const control = registers.get(DISPLAY.PLANE_CTL);
    if ((control & PLANE_ENABLE) === 0) return undefined;
    const format = planeFormat(control);
    if (format === undefined)
      throw gvtErrors.BAD_PLANE({ what: `pixel format ${(control >>> 24) & 0xf} is not supported` });
    const mode = TILINGS.get(control & PLANE_TILING_MASK);
    if (mode === undefined) throw gvtErrors.BAD_PLANE({ what: 'its tiling is not supported' });
    const source = registers.get(DISPLAY.PIPESRC);
    const width = ((source >>> 16) & SIZE_MASK) + 1;
    const height = (source & SIZE_MASK) + 1;
    const place = registers.get(PLANE_OFFSET);
    const offset = { x: place & SIZE_MASK, y: (place >>> 16) & SIZE_MASK };
    const stride = (registers.get(DISPLAY.PLANE_STRIDE) & STRIDE_MASK) * mode.unit(format);
    const row = (offset.x + width) * format.bytes;
    if (stride < row) throw gvtErrors.BAD_PLANE({ what: `a stride of ${stride} bytes is less than a row of ${row}` });
    const size = stride * Math.ceil((offset.y + height) / mode.rows) * mode.rows;
    const surface = this.#surface(registers.get(DISPLAY.PLANE_SURF), size);
    const about = { width, height, stride, drmFormat: fourcc(format.name), drmModifier: mode.modifier };
    const info: PlaneInfo = { type: 'primary', ...surface, ...about, xPos: 0, yPos: 0, xHot: 0, yHot: 0 };
    return { info: Object.freeze(info), format, tiling: mode.tiling, tileRows: mode.rows, offset };
  }

  #cursor(): Plane | undefined {
    const registers = this.#registers;
    const mode = registers.get(CURSOR.CONTROL) & CURSOR_MODE_MASK;
    if (mode === 0) return undefined;
    const side = CURSOR_SIDES.get(mode);
    if (side === undefined) throw gvtErrors.BAD_PLANE({ what: `cursor mode ${mode} is not supported` });
    const position = registers.get(CURSOR.POSITION);
    const stride = side * CURSOR_FORMAT.bytes;
    const about = { width: side, height: side, stride, drmFormat: fourcc(CURSOR_FORMAT.name), drmModifier: 0n };
    const place = { xPos: signed(position & 0xffff), yPos: signed(position >>> 16) };
    const surface = this.#surface(registers.get(CURSOR.BASE), stride * side);
    const info: PlaneInfo = { type: 'cursor', ...surface, ...about, ...place, ...this.#hotSpot(side) };
    return { info: Object.freeze(info), format: CURSOR_FORMAT, tiling: 'linear', tileRows: 1, offset: { x: 0, y: 0 } };
  }

  #surface(start: number, size: number): { start: number; startGfn: number; size: number } {
    const last = start + size - 1;
    if (start % PAGE_SIZE !== 0) throw gvtErrors.PLANE_START({ address: start });
    if (size > MAX_SURFACE || !this.#table.owns(start, last)) throw gvtErrors.PLANE_RANGE({ first: start, last });
    return { start, startGfn: guestFrame(this.#table, start / PAGE_SIZE), size };
  }

  #hotSpot(side: number): { xHot: number; yHot: number } {
    const [xHot, yHot] = [this.#registers.get(PVINFO.CURSOR_X_HOT), this.#registers.get(PVINFO.CURSOR_Y_HOT)];
    return xHot <= side && yHot <= side ? { xHot, yHot } : { xHot: NO_HOT_SPOT, yHot: NO_HOT_SPOT };
  }
}

/** The guest frame that the guest's entry of the graphics page `frame` names, present or not. */
export function guestFrame(table: Pick<Ggtt, 'read'>, frame: number): number {
  const entry = new Uint8Array(8);
  table.read(frame * 8, entry);
  const view = new DataView(entry.buffer);
  return (view.getUint32(4, true) & 0x3fff) * 2 ** 20 + (view.getUint32(0, true) >>> 12);
}

/** Sign and magnitude of 16 bits. */
const signed = (value: number): number => ((value & 0x8000) === 0 ? value : -(value & 0x7fff));
