import type { RegisterFile } from './mmio.js';
import { INTERRUPT, MASTER_BCS, MASTER_ENABLE, MASTER_RCS } from './regs.js';

const RCS_BITS = 0x0000ffff;
const BCS_BITS = 0xffff0000;

/**
 * The interrupt tree of generation 8 and 9, with its GT0 bank: an event that IMR does not mask sets its IIR bit and stays; IIR bits
 * that IER enables show in the master register and, while that is enabled, send the MSI. Source: i915 gvt interrupt.c.
 */
export class Interrupts {
  readonly #registers: RegisterFile;
  readonly #send: () => void;

  /** `send` is the vGPU's MSI. */
  constructor(registers: RegisterFile, send: () => void) {
    this.#registers = registers;
    this.#send = send;
    registers.define(INTERRUPT.MASTER, { write: (value) => this.#writeMaster(value) });
    registers.define(INTERRUPT.IIR, { write: (value) => this.#acknowledge(value) });
    for (const offset of [INTERRUPT.IMR, INTERRUPT.IER]) {
      registers.define(offset, { write: (value) => this.#store(offset, value) });
    }
  }

  /** Everything masked, nothing pending. */
  reset(): void {
    for (const offset of [INTERRUPT.MASTER, INTERRUPT.ISR, INTERRUPT.IIR, INTERRUPT.IER])
      this.#registers.set(offset, 0);
    this.#registers.set(INTERRUPT.IMR, 0xffffffff);
  }

  /** Events of the GT0 bank. */
  raise(bits: number): void {
    const open = bits & ~this.#registers.get(INTERRUPT.IMR);
    if (open === 0) return;
    this.#store(INTERRUPT.IIR, this.#registers.get(INTERRUPT.IIR) | open);
  }

  #store(offset: number, value: number): void {
    this.#registers.set(offset, value);
    this.#propagate();
  }

  #acknowledge(bits: number): void {
    this.#store(INTERRUPT.IIR, this.#registers.get(INTERRUPT.IIR) & ~bits);
  }

  /** Only the enable bit is the guest's. */
  #writeMaster(value: number): void {
    const status = this.#registers.get(INTERRUPT.MASTER) & ~MASTER_ENABLE;
    this.#store(INTERRUPT.MASTER, (value & MASTER_ENABLE) | status);
  }

  #propagate(): void {
    if ((this.#registers.get(INTERRUPT.MASTER) & MASTER_ENABLE) === 0) return;
    const pending = this.#registers.get(INTERRUPT.IIR) & this.#registers.get(INTERRUPT.IER);
    const status = ((pending & RCS_BITS) === 0 ? 0 : MASTER_RCS) | ((pending & BCS_BITS) === 0 ? 0 : MASTER_BCS);
    this.#registers.set(INTERRUPT.MASTER, MASTER_ENABLE | status);
    if (status !== 0) this.#send();
  }
}
