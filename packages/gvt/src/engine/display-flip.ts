/** MI_DISPLAY_FLIP: a ring command that lets a plane show another surface. Source: Intel PRM (Skylake); i915 gvt cmd_parser.c. */
import type { GvtEvent } from '../interrupt-tables.js';
import type { RegisterFile } from '../mmio.js';

const PLANE = 0x1f00;
/** A plane: distance of its registers from those of pipe A's primary plane, and what tells that it flipped. */
interface FlipPlane {
  readonly offset: number;
  readonly event: GvtEvent;
}
const PLANES: ReadonlyMap<number, FlipPlane> = new Map([
  [0x0000, { offset: 0x0000, event: 'pipe-a-primary-flip' }],
  [0x0100, { offset: 0x1000, event: 'pipe-b-primary-flip' }],
  [0x0200, { offset: 0x2000, event: 'pipe-c-primary-flip' }],
  [0x0400, { offset: 0x0100, event: 'pipe-a-sprite-flip' }],
  [0x0500, { offset: 0x1100, event: 'pipe-b-sprite-flip' }],
  [0x0600, { offset: 0x2100, event: 'pipe-c-sprite-flip' }],
]);
const CTL = 0x70180;
const STRIDE = 0x70188;
const SURFACE = 0x7019c;
const STRIDE_MASK = 0x3ff;
const TILING_MASK = 0x1c00;
const SURFACE_MASK = 0xfffff000;

/** A flip that was decoded. `stride` and `tiling` are values of the plane's register fields, `surface` a graphics address. */
export interface DisplayFlip extends FlipPlane {
  readonly stride: number;
  readonly tiling: number;
  readonly surface: number;
}

/** The flip of a command of three dwords; undefined for a plane that there is not. */
export function decodeFlip(words: Uint32Array): DisplayFlip | undefined {
  const [header = 0, layout = 0, surface = 0] = words;
  const plane = PLANES.get(header & PLANE);
  if (plane === undefined) return undefined;
  return {
    ...plane,
    stride: (layout >>> 6) & STRIDE_MASK,
    tiling: layout & 7,
    surface: (surface & SURFACE_MASK) >>> 0,
  };
}

/** Lets the plane's registers say what it shows now. Telling the guest (`event`) is the caller's. */
export function flip({ offset, ...values }: DisplayFlip, registers: RegisterFile): void {
  const merge = (register: number, mask: number, value: number) =>
    registers.set(register + offset, (registers.get(register + offset) & ~mask) | value);
  merge(STRIDE, STRIDE_MASK, values.stride);
  merge(CTL, TILING_MASK, values.tiling << 10);
  merge(SURFACE, SURFACE_MASK, values.surface);
}
