/** The engines of a generation 9 GPU, by a table of their register bases. Source: Intel PRM (Skylake), i915 register headers. */
import type { EngineName } from '../faults.js';
import type { GvtEvent } from '../interrupt-tables.js';

/** Clients of the command format, bits 31:29 of a header. */
export type CommandClient = 'mi' | 'blitter' | 'render' | 'media';

export interface Engine {
  /** RCS renders, BCS blits, VCS and VCS2 decode video, VECS enhances it. */
  readonly name: EngineName;
  /** Offset of its registers in BAR0. */
  readonly base: number;
  /** Its bit in GDRST. */
  readonly resetBit: number;
  /** Pages of a context image: the status page, the register state, and what the engine alone understands. */
  readonly contextPages: number;
  /** What a header's client field (0, 2, 3) means here. */
  readonly clients: Readonly<Partial<Record<number, CommandClient>>>;
  readonly events: Readonly<Record<'user' | 'error' | 'flush' | 'contextSwitch', GvtEvent>>;
}

const BLITTER_CLIENTS = Object.freeze({ 0: 'mi', 2: 'blitter' } as const);
const RENDER_CLIENTS = Object.freeze({ 0: 'mi', 3: 'render' } as const);
const MEDIA_CLIENTS = Object.freeze({ 0: 'mi', 3: 'media' } as const);

const eventsOf = (name: EngineName): Engine['events'] =>
  Object.freeze({
    user: `${name}-user`,
    error: `${name}-error`,
    flush: `${name}-flush`,
    contextSwitch: `${name}-context-switch`,
  } as const);

const engine = (row: Omit<Engine, 'events'>): Engine => Object.freeze({ ...row, events: eventsOf(row.name) });

/** All engines, in the order of their numbers in GVT-g's masks. */
export const ENGINES: readonly Engine[] = Object.freeze([
  engine({ name: 'rcs', base: 0x2000, resetBit: 1, contextPages: 22, clients: RENDER_CLIENTS }),
  engine({ name: 'bcs', base: 0x22000, resetBit: 3, contextPages: 2, clients: BLITTER_CLIENTS }),
  engine({ name: 'vcs', base: 0x12000, resetBit: 2, contextPages: 2, clients: MEDIA_CLIENTS }),
  engine({ name: 'vcs2', base: 0x1c000, resetBit: 7, contextPages: 2, clients: MEDIA_CLIENTS }),
  engine({ name: 'vecs', base: 0x1a000, resetBit: 4, contextPages: 2, clients: MEDIA_CLIENTS }),
]);

/** Registers of an engine, as offsets from its base. */
export const RING = {
  TAIL: 0x30,
  HEAD: 0x34,
  START: 0x38,
  CTL: 0x3c,
  /** Upper half of ACTHD. */
  ACTHD_HIGH: 0x5c,
  IPEIR: 0x64,
  /** Header of the command that stopped the engine. */
  IPEHR: 0x68,
  /** Graphics address of the command that stopped the engine. */
  ACTHD: 0x74,
  /** Hardware status page, graphics address. */
  HWS_PGA: 0x80,
  MI_MODE: 0x9c,
  EIR: 0xb0,
  RESET_CTL: 0xd0,
  /** Execlist submit port: four writes. */
  ELSP: 0x230,
  /** Two dwords. */
  EXECLIST_STATUS: 0x234,
  CTX_CTL: 0x244,
  /** Roots of the running context: PDP n, lower half at + 8n, upper half behind it. */
  PDP: 0x270,
  MODE: 0x29c,
  /** 36 bits of 12 MHz ticks, in two dwords. */
  TIMESTAMP: 0x358,
  /** Context status buffer: six entries of two dwords. */
  CSB: 0x370,
  CSB_POINTER: 0x3a0,
  /** Twelve registers that name others which batches without privilege may write. */
  FORCE_NONPRIV: 0x4d0,
  /** Sixteen general purpose registers of two dwords. */
  GPR: 0x600,
} as const;

/** The blitter's choice of tiles, a masked register: source and target of a copy are Y tiles where they say that they are tiled. */
export const BCS_SWCTRL = 0x22200;
export const SWCTRL = { SOURCE_Y: 1, TARGET_Y: 2 } as const;

/** RING_MODE: bits that a guest sets, each with its mask bit 16 above. */
export const MODE = { GUC: 1 << 0, LEGACY: 1 << 2, PPGTT: 1 << 9, EXECLIST: 1 << 15 } as const;
export const FORCE_NONPRIV_SLOTS = 12;
export const GPR_COUNT = 16;

/** A masked register after a write: bits of the upper half of `value` say which bits of the lower half count. */
export const maskedWrite = (old: number, value: number): number => {
  const mask = value >>> 16;
  return (old & ~mask & 0xffff) | (value & mask);
};
