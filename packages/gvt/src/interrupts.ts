import {
  BANK_REGISTER,
  EVENTS,
  type EventPlace,
  type GvtEvent,
  INTERRUPT_BANKS,
  UPSTREAM,
} from './interrupt-tables.js';
import { READ_ONLY, type RegisterFile } from './mmio.js';
import { INTERRUPT, MASTER_ENABLE } from './regs.js';

const NOTHING = 0;
const EVERYTHING = 0xffffffff;
const BANKS = Object.values(INTERRUPT_BANKS);

/**
 * The interrupt tree of generation 8 and 9. An event that its bank's IMR does not mask sets its IIR bit and stays; IIR bits that
 * IER enables show in the master register and, while that is enabled, send the MSI. An acknowledgement (a one written to IIR)
 * never sends; writes to IMR, IER and the master register do, if something is pending. Source: i915 gvt interrupt.c.
 */
export class Interrupts {
  /** Runs after a guest has written an IMR or IER: what `passes` says may be different now. */
  onMaskChange: (() => void) | undefined;
  readonly #registers: RegisterFile;
  readonly #send: () => void;

  /** `send` is the vGPU's MSI. */
  constructor(registers: RegisterFile, send: () => void) {
    this.#registers = registers;
    this.#send = send;
    registers.define(INTERRUPT.MASTER, { write: (value) => this.#writeMaster(value) });
    for (const bank of BANKS) this.#defineBank(bank);
  }

  /** Everything masked, nothing pending. */
  reset(): void {
    const registers = this.#registers;
    registers.set(INTERRUPT.MASTER, NOTHING);
    for (const bank of BANKS) {
      for (const register of Object.values(BANK_REGISTER)) registers.set(bank + register, NOTHING);
      registers.set(bank + BANK_REGISTER.IMR, EVERYTHING);
    }
  }

  /** These things happened, at once: however many there are, at most one MSI is sent. */
  raise(...events: readonly GvtEvent[]): void {
    let open = false;
    for (const event of events) open = this.#latch(EVENTS[event]) || open;
    if (open) this.#evaluate();
  }

  /** Whether the event would leave a trace: its IMR lets it through. */
  passes(event: GvtEvent): boolean {
    const [name, bit] = EVENTS[event];
    return (this.#registers.get(INTERRUPT_BANKS[name] + BANK_REGISTER.IMR) & (2 ** bit)) === 0;
  }

  #defineBank(bank: number): void {
    const registers = this.#registers;
    registers.define(bank + BANK_REGISTER.ISR, READ_ONLY);
    registers.define(bank + BANK_REGISTER.IIR, { orders: true, write: (bits) => this.#acknowledge(bank, bits) });
    for (const offset of [bank + BANK_REGISTER.IMR, bank + BANK_REGISTER.IER]) {
      registers.define(offset, {
        write: (value) => {
          registers.set(offset, value);
          this.onMaskChange?.();
          this.#evaluate();
        },
      });
    }
  }

  /** @returns whether the event was let through. */
  #latch([name, bit]: EventPlace): boolean {
    const bank = INTERRUPT_BANKS[name];
    const mask = 2 ** bit;
    if ((this.#registers.get(bank + BANK_REGISTER.IMR) & mask) !== 0) return false;
    this.#registers.set(bank + BANK_REGISTER.IIR, this.#registers.get(bank + BANK_REGISTER.IIR) | mask);
    return true;
  }

  #acknowledge(bank: number, bits: number): void {
    this.#registers.set(bank + BANK_REGISTER.IIR, this.#registers.get(bank + BANK_REGISTER.IIR) & ~bits);
    this.#propagate();
  }

  /** Only the enable bit is the guest's. */
  #writeMaster(value: number): void {
    const status = this.#registers.get(INTERRUPT.MASTER) & ~MASTER_ENABLE;
    this.#registers.set(INTERRUPT.MASTER, (value & MASTER_ENABLE) | status);
    this.#evaluate();
  }

  /** While the master is off nothing moves up: its status bits are those of the moment in which it was switched off. */
  #evaluate(): void {
    if ((this.#registers.get(INTERRUPT.MASTER) & MASTER_ENABLE) === 0) return;
    if (this.#propagate() !== 0) this.#send();
  }

  /** Shows in the master register what pends in the banks. @returns those bits. */
  #propagate(): number {
    const registers = this.#registers;
    let status = 0;
    for (const { master, bank, bits } of UPSTREAM) {
      const first = INTERRUPT_BANKS[bank];
      const pending = registers.get(first + BANK_REGISTER.IIR) & registers.get(first + BANK_REGISTER.IER) & bits;
      if (pending !== 0) status |= 2 ** master;
    }
    registers.set(INTERRUPT.MASTER, (registers.get(INTERRUPT.MASTER) & MASTER_ENABLE) | status);
    return status;
  }
}
