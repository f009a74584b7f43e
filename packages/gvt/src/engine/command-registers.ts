import { gvtErrors } from '../errors.js';
import type { RegisterFile } from '../mmio.js';
import { MMIO_SIZE } from '../regs.js';
import { BCS_SWCTRL, ENGINES, type Engine, FORCE_NONPRIV_SLOTS, GPR_COUNT, maskedWrite, RING } from './engines.js';

/** What a register does to a command that names it. */
export type RegisterAccess =
  /** Commands may read and write it. */
  | 'open'
  /** Its upper half says which bits of its lower half a write changes. */
  | 'masked'
  /** Commands may read it. */
  | 'read'
  /** A write is lost, without harm: another guest's power or display is behind it. */
  | 'ignored'
  /** Names a register that batches without privilege may write. */
  | 'non-privileged-slot'
  | 'forbidden';

interface Span {
  readonly first: number;
  readonly last: number;
  readonly access: RegisterAccess;
}

const one = (offset: number, access: RegisterAccess): Span => ({ first: offset, last: offset, access });
const array = (first: number, dwords: number, access: RegisterAccess): Span => ({
  first,
  last: first + (dwords - 1) * 4,
  access,
});
const INSTPM = 0xc0;
const NOPID = 0x94;
const PDP_DWORDS = 8;

/** What every engine has, at its base. */
const ofEngine = ({ base }: Engine): readonly Span[] => [
  one(base + NOPID, 'open'),
  one(base + RING.MI_MODE, 'masked'),
  one(base + INSTPM, 'masked'),
  one(base + RING.CTX_CTL, 'masked'),
  array(base + RING.PDP, PDP_DWORDS, 'open'),
  array(base + RING.TIMESTAMP, 2, 'read'),
  array(base + RING.FORCE_NONPRIV, FORCE_NONPRIV_SLOTS, 'non-privileged-slot'),
  array(base + RING.GPR, GPR_COUNT * 2, 'open'),
];

/** The render engine's own, and what all share. Source: F_CMD_ACCESS entries of i915 gvt handlers.c. */
const SHARED: readonly Span[] = [
  one(0x2088, 'masked'),
  one(0x2090, 'masked'),
  one(0x20dc, 'masked'),
  one(0x2120, 'masked'),
  one(0x2124, 'masked'),
  one(0x2470, 'masked'),
  one(0x4030, 'masked'),
  one(0x5588, 'masked'),
  one(BCS_SWCTRL, 'masked'),
  one(0x20d8, 'masked'),
  one(0x20e0, 'masked'),
  one(0x20e4, 'masked'),
  one(0x20ec, 'masked'),
  one(0x2248, 'open'),
  array(0x2290, 26, 'open'),
  array(0x2310, 24, 'open'),
  one(0x2360, 'open'),
  array(0x2400, 18, 'open'),
  one(0x2580, 'masked'),
  array(0x5200, 40, 'open'),
  array(0x7000, 8, 'masked'),
  one(0x7034, 'open'),
  one(0x7300, 'masked'),
  one(0x7304, 'masked'),
  one(0x731c, 'open'),
  one(0xb100, 'open'),
  one(0xb118, 'open'),
  array(0xb020, 32, 'open'),
  array(0xc800, 64, 'open'),
  one(0xe100, 'masked'),
  one(0xe180, 'masked'),
  one(0xe184, 'masked'),
  one(0xe188, 'masked'),
  one(0xe18c, 'masked'),
  one(0xe194, 'masked'),
  one(0xe49c, 'masked'),
  one(0xe4f0, 'masked'),
  one(0xe4f4, 'masked'),
  /** DERRMR and the forcewake of older generations. */
  one(0x44050, 'ignored'),
  one(0xa188, 'ignored'),
];

/** What a guest may put into a slot: registers of a context that harm nobody else. */
const SLOT_VALUES: ReadonlySet<number> = new Set([
  0x20ec, 0x2248, 0x2340, 0x2348, 0x2350, 0x2580, 0x7010, 0x7014, 0x7300, 0x7304, 0xe184,
]);
/** What batches without privilege may write anyway: general purpose, predicate and draw parameter registers. */
const ALWAYS_OPEN: readonly Span[] = [
  ...ENGINES.map(({ base }) => array(base + RING.GPR, GPR_COUNT * 2, 'open')),
  array(0x2400, 18, 'open'),
  array(0x5280, 4, 'open'),
];

const ACCESS: ReadonlyMap<number, RegisterAccess> = new Map(
  [...ENGINES.flatMap(ofEngine), ...SHARED].flatMap(({ first, last, access }) =>
    Array.from({ length: (last - first) / 4 + 1 }, (_, at) => [first + at * 4, access] as const),
  ),
);

/**
 * What commands may do with registers. @throws PinionError GVT_BAD_REGISTER (EFAULT) for an offset that is none.
 */
export function registerAccess(offset: number): RegisterAccess {
  if (offset % 4 !== 0 || offset + 4 > MMIO_SIZE) throw gvtErrors.BAD_REGISTER({ offset });
  return ACCESS.get(offset) ?? 'forbidden';
}

/** Whether a guest may put this into a FORCE_NONPRIV slot. */
export const isSlotValue = (engine: Engine, value: number): boolean =>
  SLOT_VALUES.has(value) || value === engine.base + NOPID;

/** The registers of a vGPU as the commands of one engine reach them. */
export class CommandRegisters {
  readonly #registers: RegisterFile;
  readonly #engine: Engine;

  constructor(registers: RegisterFile, engine: Engine) {
    this.#registers = registers;
    this.#engine = engine;
  }

  /** Whether a batch without privilege may write the register. */
  isOpenToAll(offset: number): boolean {
    if (ALWAYS_OPEN.some(({ first, last }) => offset >= first && offset <= last)) return true;
    const slots = this.#engine.base + RING.FORCE_NONPRIV;
    for (let slot = 0; slot < FORCE_NONPRIV_SLOTS; slot++) {
      if (this.#registers.get(slots + slot * 4) === offset) return true;
    }
    return false;
  }

  /** What a command reads; zero from a register that commands may not read. */
  read(offset: number): number {
    const access = registerAccess(offset);
    if (access === 'forbidden' || access === 'ignored') return 0;
    return this.#registers.readDword(offset);
  }

  /** A command's write; one that commands may not make is lost. */
  write(offset: number, value: number): void {
    const access = registerAccess(offset);
    if (access === 'masked') this.#registers.set(offset, maskedWrite(this.#registers.get(offset), value));
    else if (access === 'open' || access === 'non-privileged-slot') this.#registers.set(offset, value);
  }
}
