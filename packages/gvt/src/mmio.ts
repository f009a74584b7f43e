import { gvtErrors } from './errors.js';
import { GEN9, type RegisterRules } from './register-rules.js';
import { MMIO_SIZE } from './regs.js';

/** A register with a behaviour. Values are unsigned 32 bit. One without `read` answers what is stored. */
export interface Register {
  read?(): number;
  /** Called instead of storing; stores itself what it wants stored. Bits that the rules call read-only keep their value. */
  write?(value: number): void;
  /** A bit that is written is an order, not a value: of a write of some bytes the others count as zero, not as what is stored. */
  readonly orders?: true;
}

/** A register that a guest cannot change; writes are ignored. */
export const READ_ONLY: Register = Object.freeze({ write: () => {} });

const ALL = 0xffffffff;
const MOST = 8;

/**
 * The 2 MB of registers of a vGPU: what a register does is its behaviour, defined by whoever looks after it, under the rules of its
 * generation. A register that nobody defined and no rule names behaves as memory, as in GVT-g, so a driver that saves and restores
 * registers this model does not know is not disturbed. Source: i915 gvt mmio.c, intel_vgpu_emulate_mmio_read/write.
 */
export class RegisterFile {
  readonly #rules: RegisterRules;
  readonly #bytes = new Uint8Array(MMIO_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #defined = new Map<number, Register>();
  readonly #merged = new DataView(new ArrayBuffer(4));

  constructor(rules: RegisterRules = GEN9) {
    this.#rules = rules;
  }

  /** `offset`: bytes, a multiple of 4. */
  define(offset: number, register: Register): void {
    this.#defined.set(offset, register);
  }

  /** What is stored, past any behaviour. */
  get(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /** Stores, past any behaviour. */
  set(offset: number, value: number): void {
    this.#view.setUint32(offset, value >>> 0, true);
  }

  /** Reads what is stored, past any behaviour. */
  load(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** Stores bytes, past any behaviour. */
  store(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }

  /** What a guest's read of the whole register answers. @throws what the behaviour throws. */
  readDword(offset: number): number {
    const register = this.#defined.get(offset);
    if (register?.read !== undefined) this.set(offset, register.read());
    return this.get(offset);
  }

  /** A guest's write of the whole register. @throws what the behaviour throws. */
  writeDword(offset: number, value: number): void {
    const fixed = this.#rules.readOnly(offset);
    if (fixed === ALL) return;
    const old = this.get(offset);
    const allowed = fixed === 0 ? value : ((value & ~fixed) | (old & fixed)) >>> 0;
    const register = this.#defined.get(offset);
    if (register?.write !== undefined) register.write(allowed);
    else this.set(offset, this.#rules.masked(offset) ? maskedWrite(old, allowed) : allowed);
  }

  /**
   * A guest's read of 1, 2, 4 or 8 bytes, aligned unless the register's rule says otherwise. Zeros when it throws.
   * @throws PinionError GVT_MMIO_ACCESS (EINVAL), and what the behaviours throw.
   */
  read(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    try {
      for (let at = offset & ~3; at < offset + into.length; at += 4) this.readDword(at);
      this.load(offset, into);
    } catch (cause) {
      into.fill(0);
      throw cause;
    }
  }

  /**
   * A guest's write of 1, 2, 4 or 8 bytes; a part of a register is merged with the rest (of one that takes orders: with zeros) before it takes effect, of two registers the lower
   * one is first. @throws PinionError GVT_MMIO_ACCESS (EINVAL), and what the behaviours throw.
   */
  write(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length);
    const merged = this.#merged;
    for (let at = offset & ~3; at < offset + from.length; at += 4) {
      merged.setUint32(0, this.#defined.get(at)?.orders ? 0 : this.get(at), true);
      const last = Math.min(at + 4, offset + from.length);
      for (let byte = Math.max(at, offset); byte < last; byte++) merged.setUint8(byte - at, from[byte - offset] ?? 0);
      this.writeDword(at, merged.getUint32(0, true));
    }
  }

  /** All zero, or those below `end` (bytes). Behaviours stay. */
  clear(end = MMIO_SIZE): void {
    this.#bytes.fill(0, 0, end);
  }

  #check(offset: number, length: number): void {
    const whole = length === 1 || length === 2 || length === 4 || length === MOST;
    const inside = offset >= 0 && offset + length <= MMIO_SIZE;
    if (whole && inside && (offset % length === 0 || this.#rules.unaligned(offset))) return;
    throw gvtErrors.MMIO_ACCESS({ offset, length });
  }
}

/** The upper half says which bits of the lower half change; the upper half itself is not stored. */
const maskedWrite = (old: number, value: number): number => {
  const mask = value >>> 16;
  return (old & ~mask) | (value & mask);
};
