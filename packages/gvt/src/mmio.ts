import { MMIO_SIZE } from './regs.js';

/** A register with a behaviour. Values are unsigned 32 bit. One without `read` answers what is stored. */
export interface Register {
  read?(): number;
  /** Called instead of storing; stores itself what it wants stored. */
  write?(value: number): void;
}

/** A register that a guest cannot change; writes are ignored. */
export const READ_ONLY: Register = Object.freeze({ write: () => {} });

/**
 * The 2 MB of registers of a vGPU. A register that nobody defined behaves as memory, as in GVT-g, so a driver that
 * saves and restores registers this model does not know is not disturbed.
 */
export class RegisterFile {
  readonly #bytes = new Uint8Array(MMIO_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #defined = new Map<number, Register>();

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

  /** What a guest's read of the whole register answers. */
  readDword(offset: number): number {
    const register = this.#defined.get(offset);
    if (register?.read !== undefined) this.set(offset, register.read());
    return this.get(offset);
  }

  /** A guest's read of 1, 2 or 4 aligned bytes. */
  read(offset: number, into: Uint8Array): void {
    const register = this.#defined.get(offset & ~3);
    if (register?.read !== undefined) this.set(offset & ~3, register.read());
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** A guest's write of 1, 2 or 4 aligned bytes; a part of a register is merged with the rest before it takes effect. */
  write(offset: number, from: Uint8Array): void {
    const at = offset & ~3;
    const register = this.#defined.get(at);
    if (register?.write === undefined) {
      this.#bytes.set(from, offset);
      return;
    }
    const merged = new DataView(new ArrayBuffer(4));
    merged.setUint32(0, this.get(at), true);
    for (const [index, byte] of from.entries()) merged.setUint8(offset - at + index, byte);
    register.write(merged.getUint32(0, true));
  }

  /** All zero, or those below `end` (bytes). Behaviours stay. */
  clear(end = MMIO_SIZE): void {
    this.#bytes.fill(0, 0, end);
  }
}
