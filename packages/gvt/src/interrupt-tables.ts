/**
 * The interrupt tree of generation 8 and 9 in tables: which banks of registers there are, which bits of the master register stand
 * for them, and which bit of which bank an event sets. Source: Intel PRM (Skylake), "Interrupts"; i915 gvt interrupt.c.
 */

/** Offsets from a bank's first register. */
export const BANK_REGISTER = { ISR: 0x0, IMR: 0x4, IIR: 0x8, IER: 0xc } as const;

/** Offset of the first register (ISR) of each bank. */
export const INTERRUPT_BANKS = {
  /** Render (15:0) and blitter (31:16). */
  gt0: 0x44300,
  /** First (15:0) and second (31:16) video engine. */
  gt1: 0x44310,
  /** Power management. */
  gt2: 0x44320,
  /** Video enhancement engine. */
  gt3: 0x44330,
  'pipe-a': 0x44400,
  'pipe-b': 0x44410,
  'pipe-c': 0x44420,
  port: 0x44440,
  misc: 0x44460,
  pcu: 0x444e0,
  /** South display engine: the PCH. */
  south: 0xc4000,
} as const;

export type InterruptBank = keyof typeof INTERRUPT_BANKS;

/** A bit of the master register stands for these bits of a bank. */
export interface Upstream {
  readonly master: number;
  readonly bank: InterruptBank;
  readonly bits: number;
}

const LOW = 0x0000ffff;
const HIGH = 0xffff0000;
const ALL = 0xffffffff;

export const UPSTREAM: readonly Upstream[] = Object.freeze([
  { master: 0, bank: 'gt0', bits: LOW },
  { master: 1, bank: 'gt0', bits: HIGH },
  { master: 2, bank: 'gt1', bits: LOW },
  { master: 3, bank: 'gt1', bits: HIGH },
  { master: 4, bank: 'gt2', bits: LOW },
  { master: 6, bank: 'gt3', bits: LOW },
  { master: 16, bank: 'pipe-a', bits: ALL },
  { master: 17, bank: 'pipe-b', bits: ALL },
  { master: 18, bank: 'pipe-c', bits: ALL },
  { master: 20, bank: 'port', bits: ALL },
  { master: 22, bank: 'misc', bits: ALL },
  { master: 23, bank: 'south', bits: ALL },
  { master: 30, bank: 'pcu', bits: ALL },
]);

/** Where an event shows: a bank and the number of its bit. */
export type EventPlace = readonly [bank: InterruptBank, bit: number];

/**
 * Events by name. `user`: MI_USER_INTERRUPT; `error`: something stands in the engine's EIR; `flush`: the notify bit of MI_FLUSH_DW,
 * or of PIPE_CONTROL on the render engine; `context-switch`: the context status buffer has a new entry.
 */
export const EVENTS = {
  'rcs-user': ['gt0', 0],
  'rcs-error': ['gt0', 3],
  'rcs-flush': ['gt0', 4],
  'rcs-context-switch': ['gt0', 8],
  'bcs-user': ['gt0', 16],
  'bcs-error': ['gt0', 19],
  'bcs-flush': ['gt0', 20],
  'bcs-context-switch': ['gt0', 24],
  'vcs-user': ['gt1', 0],
  'vcs-error': ['gt1', 3],
  'vcs-flush': ['gt1', 4],
  'vcs-context-switch': ['gt1', 8],
  'vcs2-user': ['gt1', 16],
  'vcs2-error': ['gt1', 19],
  'vcs2-flush': ['gt1', 20],
  'vcs2-context-switch': ['gt1', 24],
  'vecs-user': ['gt3', 0],
  'vecs-error': ['gt3', 3],
  'vecs-flush': ['gt3', 4],
  'vecs-context-switch': ['gt3', 8],
  'pipe-a-vblank': ['pipe-a', 0],
  'pipe-a-primary-flip': ['pipe-a', 3],
  'pipe-a-sprite-flip': ['pipe-a', 4],
  'pipe-b-vblank': ['pipe-b', 0],
  'pipe-b-primary-flip': ['pipe-b', 3],
  'pipe-b-sprite-flip': ['pipe-b', 4],
  'pipe-c-vblank': ['pipe-c', 0],
  'pipe-c-primary-flip': ['pipe-c', 3],
  'pipe-c-sprite-flip': ['pipe-c', 4],
  'aux-a': ['port', 0],
  'hotplug-a': ['port', 3],
  'aux-b': ['port', 25],
  'aux-c': ['port', 26],
  'aux-d': ['port', 27],
  'opregion-gse': ['misc', 27],
  gmbus: ['south', 17],
  'hotplug-crt': ['south', 19],
  'hotplug-b': ['south', 21],
  'hotplug-c': ['south', 22],
  'hotplug-d': ['south', 23],
  'pcu-thermal': ['pcu', 24],
  'pcu-mailbox': ['pcu', 25],
} as const satisfies Readonly<Record<string, EventPlace>>;

/** Something that a vGPU may tell its guest by an interrupt. */
export type GvtEvent = keyof typeof EVENTS;
