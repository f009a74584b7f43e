import type { Log } from '@pinion/core';
import { BAR_COUNT, COMMAND, CONFIG, IRQ, REGION, STATUS } from '@pinion/pci';
import { type BarWindow, openWindows } from './bar-windows.js';
import type { BusFunction } from './bus-function.js';
import type { InterruptLines } from './interrupt-lines.js';
import { messageOf, vectorOf } from './message-signals.js';

/** What a slot is wired to. */
export interface SlotWiring {
  readonly lines: InterruptLines;
  /** The line of the interrupt controller that this slot's pin leads to. */
  readonly line: number;
  /** A message for the local APIC. */
  message(vector: number): void;
  readonly log: Log;
}

/** Different warnings that one function is good for while it is plugged in. */
const MOST_COMPLAINTS = 16;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * A function in a slot of the bus: what it answers to, and how its interrupts reach the CPU. The guest cannot hurt the VMM through
 * it: what a device throws is logged, and the guest reads ones.
 */
export class PciSlot {
  readonly #pci: BusFunction;
  readonly #wiring: SlotWiring;
  readonly #sizes: ReadonlyMap<number, number>;
  #windows: readonly BarWindow[] = [];
  /** What was said already: a guest can cause the same again and again. */
  readonly #complaints = new Set<string>();
  #pinUp = false;
  #gone = false;

  constructor(pci: BusFunction, wiring: SlotWiring) {
    this.#pci = pci;
    this.#wiring = wiring;
    const bars = pci.regions.filter(({ index }) => index < BAR_COUNT);
    this.#sizes = new Map(bars.map(({ index, size }) => [index, size]));
    this.writeConfig(CONFIG.INTERRUPT_LINE, Uint8Array.of(wiring.line));
    pci.deliverTo(({ index, vector }) => this.#interrupted(index, vector));
  }

  get windows(): readonly BarWindow[] {
    return this.#windows;
  }

  readConfig(offset: number, length: number): Uint8Array {
    return this.read(REGION.CONFIG, offset, length);
  }

  /** Any write may move windows: an address, a decode bit, a power state, a reset. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    this.write(REGION.CONFIG, offset, bytes);
    this.#windows = this.#gone
      ? []
      : openWindows((at) => viewOf(this.readConfig(at, 4)).getUint32(0, true), this.#sizes);
  }

  read(region: number, offset: number, length: number): Uint8Array {
    const bytes = this.#attempt('read', () => this.#pci.read(region, offset, length));
    if (region !== REGION.CONFIG) this.#lookAtPin();
    return bytes ?? new Uint8Array(length).fill(0xff);
  }

  write(region: number, offset: number, bytes: Uint8Array): void {
    this.#attempt('write', () => this.#pci.write(region, offset, bytes));
    this.#lookAtPin();
  }

  /** The function was taken out: it answers to nothing and holds no line. */
  leave(): void {
    this.#gone = true;
    this.#windows = [];
    this.#setPin(false);
  }

  #interrupted(index: number, vector: number): void {
    if (this.#gone) return;
    if (index === IRQ.INTX) this.#setPin(true);
    if (index !== IRQ.MSI && index !== IRQ.MSIX) return;
    const message = this.#attempt('message', () => messageOf(this.#pci, index, vector));
    const target = message === undefined ? 'it has no such capability' : vectorOf(message);
    if (typeof target === 'number') this.#wiring.message(target);
    else this.#complain(`message ${vector} is lost: ${target}`);
  }

  /** VFIO tells when a pin goes up, and STATUS whether it still is: it goes down because the guest did something with the device. */
  #lookAtPin(): void {
    if (!this.#pinUp) return;
    const registers = this.#attempt('read', () => viewOf(this.#pci.read(REGION.CONFIG, CONFIG.COMMAND, 4)));
    const command = registers?.getUint16(0, true) ?? 0;
    const status = registers?.getUint16(2, true) ?? 0;
    if ((status & STATUS.INTERRUPT) === 0 || (command & COMMAND.INTX_DISABLE) !== 0) this.#setPin(false);
  }

  #setPin(up: boolean): void {
    this.#pinUp = up;
    this.#wiring.lines.set(this.#wiring.line, this, up);
  }

  #attempt<T>(what: string, action: () => T): T | undefined {
    if (this.#gone) return undefined;
    try {
      return action();
    } catch (cause) {
      this.#complain(`a ${what} failed`, cause);
      return undefined;
    }
  }

  /** Once for each thing to say, and not without end. */
  #complain(what: string, cause?: unknown): void {
    if (this.#complaints.has(what) || this.#complaints.size >= MOST_COMPLAINTS) return;
    this.#complaints.add(what);
    this.#wiring.log.warn(`${this.#pci.name}: ${what}`, cause);
  }
}
