/** Registers of the display engine and the PCH. Source: Intel PRM (Skylake), "Display"; i915 register headers. */

/** Pipe A beyond its source size and configuration. */
export const PIPE = {
  /** The line that is shown now. */
  SCANLINE: 0x70000,
  /** Frames since the pipe was switched on. */
  FRAME_COUNT: 0x70040,
} as const;
/** TRANSCONF: the pipe runs; follows the enable bit. */
export const PIPE_ACTIVE = 0x40000000;

/** Plane offset: y << 16 | x, in pixels of the surface. */
export const PLANE_OFFSET = 0x701a4;
/** The legacy palette of pipe A: 256 entries 0x00RRGGBB. */
export const PALETTE = 0x4a000;

/** Cursor of pipe A. */
export const CURSOR = {
  CONTROL: 0x70080,
  /** Graphics address, page aligned. */
  BASE: 0x70084,
  /** Sign and magnitude: y in 31:16, x in 15:0. */
  POSITION: 0x70088,
} as const;
export const CURSOR_MODE_MASK = 0x3f;
/** Cursor modes: side in pixels, all 32-bit ARGB. */
export const CURSOR_SIDES: ReadonlyMap<number, number> = new Map([
  [0x07, 64],
  [0x22, 128],
  [0x23, 256],
  [0x27, 64],
]);

/** Which ports something is plugged into. Bit 0: port D, 1: C, 2: B. */
export const SFUSE_STRAP = 0xc2014;
export const STRAP_PORT_D = 1;
/** South display engine: state of the hotplug lines, and which of them changed. */
export const SDE_ISR = 0xc4000;
export const SDE_PORT_D = 1 << 23;
export const PCH_HOTPLUG = 0xc4030;
export const HOTPLUG_PORT_D = 3 << 16;

/** The I2C controller of the PCH. */
export const GMBUS = { SELECT: 0xc5100, COMMAND: 0xc5104, STATUS: 0xc5108, DATA: 0xc510c } as const;

/** DisplayPort AUX channel of port A; the others follow 0x100 apart. DATA: five registers. */
export const DP_AUX = { CONTROL: 0x64010, DATA: 0x64014, STRIDE: 0x100, CHANNELS: 4 } as const;
