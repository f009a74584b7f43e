/**
 * Commands of the Gen8/9 engines: their bits, and how to write those that drivers need most. A dword is an unsigned 32-bit
 * number; a graphics address is a number of bytes below 2^48 and takes two dwords. Source: Intel PRM volume "Command reference".
 */

/** Bits 31:29 of a header. */
export const CLIENT = { BLITTER: 2 } as const;

/** MI opcodes, bits 28:23. Below 0x10 a command is one dword. */
export const MI = {
  NOOP: 0x00,
  SET_PREDICATE: 0x01,
  USER_INTERRUPT: 0x02,
  ARB_CHECK: 0x05,
  ARB_ON_OFF: 0x08,
  BATCH_BUFFER_END: 0x0a,
  DISPLAY_FLIP: 0x14,
  MATH: 0x1a,
  SEMAPHORE_WAIT: 0x1c,
  STORE_DWORD_IMM: 0x20,
  LOAD_REGISTER_IMM: 0x22,
  STORE_REGISTER_MEM: 0x24,
  FLUSH_DW: 0x26,
  LOAD_REGISTER_MEM: 0x29,
  LOAD_REGISTER_REG: 0x2a,
  ATOMIC: 0x2f,
  BATCH_BUFFER_START: 0x31,
  CONDITIONAL_BATCH_BUFFER_END: 0x36,
} as const;

/** Blitter opcodes, bits 28:22. */
export const XY = {
  SETUP: 0x01,
  SETUP_CLIP: 0x03,
  PIXEL: 0x24,
  SCANLINES: 0x25,
  FAST_COPY: 0x42,
  COLOR: 0x50,
  PATTERN: 0x51,
  MONO_PATTERN: 0x52,
  SRC_COPY: 0x53,
  PATTERN_IMMEDIATE: 0x72,
} as const;

/** Header bits. */
export const BIT = {
  /** MI_BATCH_BUFFER_START: returns to the next command of the batch that started it. */
  SECOND_LEVEL: 1 << 22,
  STORE_GGTT: 1 << 22,
  STORE_QWORD: 1 << 21,
  /** MI_STORE_REGISTER_MEM and MI_LOAD_REGISTER_MEM. */
  REGISTER_GGTT: 1 << 22,
  ATOMIC_GGTT: 1 << 22,
  ATOMIC_INLINE: 1 << 18,
  /** MI_BATCH_BUFFER_START: the batch is in the context's own address space. */
  START_PPGTT: 1 << 8,
  /** MI_SEMAPHORE_WAIT and MI_CONDITIONAL_BATCH_BUFFER_END. */
  WAIT_GGTT: 1 << 22,
  /** PIPE_CONTROL, second dword. */
  PIPE_GGTT: 1 << 24,
  PIPE_REGISTER: 1 << 23,
  PIPE_STORE_INDEX: 1 << 21,
  PIPE_POST_SYNC: 3 << 14,
  PIPE_WRITE: 1 << 14,
  PIPE_TIMESTAMP: 3 << 14,
  PIPE_NOTIFY: 1 << 8,
  /** MI_FLUSH_DW: the address is an offset into the hardware status page. */
  FLUSH_STORE_INDEX: 1 << 21,
  FLUSH_NOTIFY: 1 << 8,
  FLUSH_POST_SYNC: 3 << 14,
  FLUSH_WRITE: 1 << 14,
  FLUSH_TIMESTAMP: 3 << 14,
  WRITE_ALPHA: 1 << 21,
  WRITE_RGB: 1 << 20,
  SRC_TILED: 1 << 15,
  DST_TILED: 1 << 11,
} as const;
/** Bit of the second dword of a blit. */
export const BLIT_CLIP = 1 << 30;
/** The same of a mono pattern: its zeros draw nothing. */
export const BLIT_TRANSPARENT = 1 << 28;
/** Bit of the second dword of MI_FLUSH_DW. */
export const FLUSH_GGTT = 4;

export const miOpcode = (header: number): number => (header >>> 23) & 0x3f;
export const blitterOpcode = (header: number): number => (header >>> 22) & 0x7f;

const mi = (opcode: number): number => opcode << 23;
const blitter = (opcode: number, length: number): number =>
  ((CLIENT.BLITTER << 29) | (opcode << 22) | (length - 2)) >>> 0;
const low = (address: number): number => address >>> 0;
const high = (address: number): number => Math.floor(address / 2 ** 32);
const point = (x: number, y: number): number => (((y & 0xffff) << 16) | (x & 0xffff)) >>> 0;

export const miNoop = (): number[] => [0];
export const miUserInterrupt = (): number[] => [mi(MI.USER_INTERRUPT)];
export const miBatchBufferEnd = (): number[] => [mi(MI.BATCH_BUFFER_END)];

/** `secondLevel`: comes back after the batch's end; otherwise it is a jump. */
export const miBatchBufferStart = (address: number, secondLevel = false): number[] => [
  mi(MI.BATCH_BUFFER_START) | (secondLevel ? BIT.SECOND_LEVEL : 0) | 1,
  low(address),
  high(address),
];

/** Stores one dword at a multiple of 4. */
export const miStoreDword = (address: number, value: number): number[] => [
  mi(MI.STORE_DWORD_IMM) | BIT.STORE_GGTT | 2,
  low(address),
  high(address),
  value >>> 0,
];

/** Waits for the blits before it, then stores one dword at a multiple of 8. */
export const miFlushStore = (address: number, value: number): number[] => [
  mi(MI.FLUSH_DW) | BIT.FLUSH_WRITE | 2,
  (low(address) | FLUSH_GGTT) >>> 0,
  high(address),
  value >>> 0,
];

/** Bytes per pixel and the depth field (25:24) of a blit: 8 bpp, 565, 1555, 32 bpp. */
export const DEPTHS = [1, 2, 2, 4] as const;
export type Depth = 0 | 1 | 2 | 3;

/** Pixels, left and top inside, right and bottom outside; signed 16 bit. */
export interface Rect {
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

/** One surface of a blit; `pitch` in bytes. Tiled means X tiles. */
export interface BlitSurface {
  readonly address: number;
  readonly pitch: number;
  readonly tiled?: boolean;
}

interface BlitRequest {
  readonly target: BlitSurface;
  readonly rect: Rect;
  /** Default 32 bpp. */
  readonly depth?: Depth;
  /** Default: the plain operation of the command (pattern, or source). */
  readonly rop?: number;
  /** Obey the clip rectangle. */
  readonly clip?: boolean;
}

const pitchField = ({ pitch, tiled }: BlitSurface): number => (tiled ? pitch / 4 : pitch) & 0xffff;
const control = ({ target, depth = 3, clip = false }: BlitRequest, rop: number): number =>
  ((clip ? BLIT_CLIP : 0) | (depth << 24) | (rop << 16) | pitchField(target)) >>> 0;
const writeMask = BIT.WRITE_ALPHA | BIT.WRITE_RGB;

/** The rectangle that blits with the clip bit obey. */
export const xySetupClip = ({ x1, y1, x2, y2 }: Rect): number[] => [
  blitter(XY.SETUP_CLIP, 3),
  point(x1, y1),
  point(x2, y2),
];

/** Fills a rectangle with a colour. */
export const xyColorBlt = (request: BlitRequest & { readonly color: number }): number[] => [
  (blitter(XY.COLOR, 7) | writeMask | (request.target.tiled ? BIT.DST_TILED : 0)) >>> 0,
  control(request, request.rop ?? 0xf0),
  point(request.rect.x1, request.rect.y1),
  point(request.rect.x2, request.rect.y2),
  low(request.target.address),
  high(request.target.address),
  request.color >>> 0,
];

/** Copies a rectangle from `source`, whose top left corner is at pixel `from`. */
export const xySrcCopyBlt = (
  request: BlitRequest & { readonly source: BlitSurface; readonly from?: { readonly x: number; readonly y: number } },
): number[] => [
  (blitter(XY.SRC_COPY, 10) |
    writeMask |
    (request.target.tiled ? BIT.DST_TILED : 0) |
    (request.source.tiled ? BIT.SRC_TILED : 0)) >>>
    0,
  control(request, request.rop ?? 0xcc),
  point(request.rect.x1, request.rect.y1),
  point(request.rect.x2, request.rect.y2),
  low(request.target.address),
  high(request.target.address),
  point(request.from?.x ?? 0, request.from?.y ?? 0),
  pitchField(request.source),
  low(request.source.address),
  high(request.source.address),
];
