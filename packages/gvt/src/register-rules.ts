import { MMIO_SIZE } from './regs.js';

/** What holds for a run of registers before any behaviour: data, so that a table for another generation is another list. */
export interface RegisterRule {
  /** Offsets in bytes, multiples of 4; both inside. */
  readonly first: number;
  readonly last: number;
  /** Bits that a guest cannot change; all of them: its writes are ignored. */
  readonly readOnly?: number;
  /** The upper half of what is written says which bits of the lower half change; of registers without a behaviour. */
  readonly masked?: true;
  /** May be accessed at any offset. */
  readonly unaligned?: true;
}

const ALL = 0xffffffff;
/** Where the registers of RCS, VCS, VECS, VCS2 and BCS begin. */
const ENGINE_BASES = [0x2000, 0x12000, 0x1a000, 0x1c000, 0x22000];

const one = (offset: number): RegisterRule => ({ first: offset, last: offset });
const masked = (offset: number): RegisterRule => ({ ...one(offset), masked: true });

/** INSTPM, MI_MODE, the mode, a chicken register, the status buffer's pointer; what the device alone writes. */
const ofEngine = (base: number): readonly RegisterRule[] => [
  ...[0x9c, 0xc0, 0xd4, 0x29c, 0x3a0].map((offset) => masked(base + offset)),
  { ...one(base + 0xd0), readOnly: 0xfffefffe },
  { first: base + 0x234, last: base + 0x238, readOnly: ALL },
  { first: base + 0x370, last: base + 0x39c, readOnly: ALL },
];

/** Registers of the render engine and of its caches that are written with a mask. */
const MASKED = [
  [0x2088, 0x2090, 0x20dc, 0x20e0, 0x20e4, 0x20ec, 0x2120, 0x2124, 0x2470, 0x2580],
  [0x4030, 0x5588, 0x7000, 0x7004, 0x7008, 0x7010, 0x7014, 0x7018, 0x7300, 0x7304],
  [0xe100, 0xe180, 0xe184, 0xe188, 0xe194, 0xe4f0, 0xe4f4],
].flat();

/** Generation 9. Source: F_RO, F_MODE_MASK and F_UNALIGN entries of i915 gvt handlers.c. */
export const GEN9_RULES: readonly RegisterRule[] = Object.freeze([
  ...ENGINE_BASES.flatMap(ofEngine),
  ...MASKED.map(masked),
  /** PCH GPIO. */
  { first: 0xc5010, last: 0xc5024, unaligned: true },
  /** Hot plug status of ports A to D. */
  { ...one(0xc4030), readOnly: 0x03030303 },
]);

const MASKED_FLAG = 1;
const UNALIGNED_FLAG = 2;
const READ_ONLY_FLAG = 4;

/** Rules looked up by offset. */
export class RegisterRules {
  readonly #flags = new Uint8Array(MMIO_SIZE / 4);
  readonly #readOnly = new Map<number, number>();

  constructor(rules: readonly RegisterRule[]) {
    for (const { first, last, readOnly = 0, masked, unaligned } of rules) {
      const flags =
        (masked ? MASKED_FLAG : 0) | (unaligned ? UNALIGNED_FLAG : 0) | (readOnly === 0 ? 0 : READ_ONLY_FLAG);
      for (let offset = first; offset <= last; offset += 4) {
        this.#flags[offset >>> 2] = flags;
        if (readOnly !== 0) this.#readOnly.set(offset, readOnly);
      }
    }
  }

  masked(offset: number): boolean {
    return ((this.#flags[offset >>> 2] ?? 0) & MASKED_FLAG) !== 0;
  }

  unaligned(offset: number): boolean {
    return ((this.#flags[offset >>> 2] ?? 0) & UNALIGNED_FLAG) !== 0;
  }

  /** Bits that a guest cannot change. */
  readOnly(offset: number): number {
    return ((this.#flags[offset >>> 2] ?? 0) & READ_ONLY_FLAG) === 0 ? 0 : (this.#readOnly.get(offset) ?? 0);
  }
}

/** One for all vGPUs: rules do not change. */
export const GEN9: RegisterRules = new RegisterRules(GEN9_RULES);
