import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import { GMBUS } from './display-regs.js';
import { EDID_SIZE } from './edid.js';
import type { Monitor } from './monitor.js';

const PIN_MASK = 7;
const PIN_PORT_D = 6;
/** GMBUS1. */
const CLEAR_INTERRUPT = 0x80000000;
const SOFTWARE_READY = 0x40000000;
const CYCLE_SHIFT = 25;
const CYCLE_WAIT = 1;
const CYCLE_INDEX = 2;
const CYCLE_STOP = 4;
const COUNT_SHIFT = 16;
const COUNT_MASK = 0x1ff;
const INDEX_SHIFT = 8;
const READ = 1;
/** GMBUS2. */
const IN_USE = 1 << 15;
const WAIT_PHASE = 1 << 14;
const INTERRUPT = 1 << 12;
const HARDWARE_READY = 1 << 11;
const NO_ANSWER = 1 << 10;
const ACTIVE = 1 << 9;
/** Which transitions give an interrupt. */
const GMBUS_INTERRUPTS = 0xc5110;
/** The I2C address of an EDID. */
const EDID_ADDRESS = 0x50;

/**
 * The I2C controller of the PCH, as far as reading an EDID needs it: pin, index cycle, data cycles, stop. Only an HDMI monitor
 * answers here. Source: i915 gvt edid.c; Intel PRM, "GMBUS".
 */
export class Gmbus {
  readonly #registers: RegisterFile;
  readonly #monitor: Monitor;
  readonly #interrupts: Pick<Interrupts, 'raise'>;
  /** Bytes of this transfer that are still to come, and the next one's place in the block. */
  #left = 0;
  #position = 0;
  #stops = false;
  #selected = false;
  #inUse = false;

  constructor(registers: RegisterFile, monitor: Monitor, interrupts: Pick<Interrupts, 'raise'>) {
    this.#registers = registers;
    this.#monitor = monitor;
    this.#interrupts = interrupts;
    registers.define(GMBUS.SELECT, { write: (value) => this.#select(value) });
    registers.define(GMBUS.COMMAND, { write: (value) => this.#command(value) });
    registers.define(GMBUS.STATUS, { read: () => this.#readStatus(), write: (value) => this.#writeStatus(value) });
    registers.define(GMBUS.DATA, { read: () => this.#readData(), write: () => {} });
  }

  /** Nothing selected, idle. */
  reset(): void {
    this.#end();
    this.#inUse = false;
    this.#registers.set(GMBUS.STATUS, HARDWARE_READY);
  }

  #select(value: number): void {
    this.#registers.set(GMBUS.SELECT, value);
    this.#end();
    const pin = value & PIN_MASK;
    if (pin === 0) return;
    const { connected, link } = this.#monitor;
    this.#selected = pin === PIN_PORT_D && connected && link === 'hdmi';
    this.#status({ on: HARDWARE_READY | WAIT_PHASE | (this.#selected ? 0 : NO_ANSWER), off: ACTIVE | NO_ANSWER });
  }

  #command(value: number): void {
    const clearing = (this.#registers.get(GMBUS.COMMAND) & CLEAR_INTERRUPT) !== 0;
    if (clearing) {
      if ((value & CLEAR_INTERRUPT) === 0) this.#finishClearing();
      return;
    }
    if ((value & CLEAR_INTERRUPT) !== 0) this.#status({ on: HARDWARE_READY, off: INTERRUPT });
    this.#cycle(value);
    this.#registers.set(GMBUS.COMMAND, value & ~SOFTWARE_READY);
    if (this.#registers.get(GMBUS_INTERRUPTS) !== 0) this.#interrupts.raise('gmbus');
  }

  #finishClearing(): void {
    this.#registers.set(GMBUS.COMMAND, this.#registers.get(GMBUS.COMMAND) & ~CLEAR_INTERRUPT);
    this.#registers.set(GMBUS.STATUS, HARDWARE_READY | (this.#selected ? 0 : NO_ANSWER));
    this.#left = 0;
  }

  #cycle(value: number): void {
    const cycle = (value >>> CYCLE_SHIFT) & 7;
    if (cycle === CYCLE_STOP) this.#stop();
    if ((cycle & CYCLE_WAIT) === 0) return;
    const addressed = (value & 0xff) >>> 1 === EDID_ADDRESS;
    if (!addressed || !this.#selected) {
      this.#status({ on: NO_ANSWER, off: 0 });
      return;
    }
    if ((cycle & CYCLE_INDEX) !== 0) this.#position = (value >>> INDEX_SHIFT) & 0xff;
    this.#left = (value >>> COUNT_SHIFT) & COUNT_MASK;
    this.#stops = (cycle & CYCLE_STOP) !== 0;
    this.#status({ on: ACTIVE, off: 0 });
  }

  #stop(): void {
    this.#left = 0;
    this.#position = 0;
    this.#status({ on: 0, off: ACTIVE });
  }

  /** The next four bytes, the first one lowest; what was there last when nothing is left. */
  #readData(): number {
    const last = this.#registers.get(GMBUS.DATA);
    if (this.#left === 0 || (this.#registers.get(GMBUS.COMMAND) & READ) === 0) return last;
    let value = 0;
    for (let byte = 0; byte < 4 && this.#left > 0; byte++, this.#left--) value |= this.#nextByte() << (8 * byte);
    if (this.#left === 0 && this.#stops) this.#stop();
    return value >>> 0;
  }

  #nextByte(): number {
    const byte = this.#position < EDID_SIZE ? this.#monitor.edid[this.#position] : 0;
    this.#position += 1;
    return byte ?? 0;
  }

  /** A semaphore between drivers: the first read takes it, a write of a one gives it back. */
  #readStatus(): number {
    const value = this.#registers.get(GMBUS.STATUS) & ~IN_USE;
    const taken = this.#inUse;
    this.#inUse = true;
    return (taken ? value | IN_USE : value) >>> 0;
  }

  #writeStatus(value: number): void {
    if ((value & IN_USE) !== 0) this.#inUse = false;
  }

  #status({ on, off }: { readonly on: number; readonly off: number }): void {
    this.#registers.set(GMBUS.STATUS, (this.#registers.get(GMBUS.STATUS) & ~off) | on);
  }

  #end(): void {
    this.#left = 0;
    this.#position = 0;
    this.#stops = false;
    this.#selected = false;
  }
}
