/** ACCES PCI-IDIO-16: 16 outputs, 16 isolated inputs, an interrupt when an input changes. */
import { defineDriver, definePlugin, type Plugin, type VendorDriver } from '@pinion/core';
import { byteBar, type Identity, PciDevice } from '@pinion/pci';

/** Ports of BAR 2. Reading and writing one port are two different functions. Source: what Linux's gpio-pci-idio-16 uses. */
export const PORT = {
  OUT_LOW: 0,
  /** Read: inputs 0-7. Write: clear the interrupt. */
  IN_LOW: 1,
  /** Read: enable the interrupt. Write: disable it. */
  IRQ_CONTROL: 2,
  /** Read: input filters on. Write: off. */
  FILTER: 3,
  OUT_HIGH: 4,
  IN_HIGH: 5,
  IRQ_STATUS: 6,
} as const;
/** Bits of the status port: which half changed, and that the interrupt is up. */
export const IRQ_STATUS = { LOW: 1, HIGH: 2, PENDING: 4 } as const;

const BAR = 2;
const PORTS = 256;
const WORD = 0xffff;

export const IDENTITY: Identity = { vendor: 0x494f, device: 0x0dc8, classCode: 0x118000, interruptPin: 'A' };

/** One board, from the side of its terminals. */
export interface GpioBoard {
  readonly name: string;
  /** Levels of the outputs, bit n is OUTn. */
  readonly outputs: number;
  /** Changes the levels at the inputs, bit n is IINn. */
  setInputs(levels: number): void;
}

export interface GpioOptions {
  /**
   * What is connected: called when a board is made and whenever its outputs change; may call `setInputs`.
   * Default: every output is wired to the input of the same number.
   */
  readonly wiring?: (board: GpioBoard) => void;
}

const loopback = (board: GpioBoard): void => board.setInputs(board.outputs);

/** The registers behind the ports. */
class Board implements GpioBoard {
  readonly name: string;
  readonly pci: PciDevice;
  readonly #wiring: (board: GpioBoard) => void;
  outputs = 0;
  #inputs = 0;
  #enabled = false;
  #status = 0;

  constructor(name: string, wiring: (board: GpioBoard) => void) {
    this.name = name;
    this.#wiring = wiring;
    const handler = byteBar({
      read: (port) => this.#read(port),
      write: (port, value) => this.#write(port, value),
    });
    this.pci = new PciDevice({
      name,
      identity: IDENTITY,
      bars: [{ index: BAR, kind: 'io', size: PORTS, handler }],
      reset: () => this.#reset(),
    });
    wiring(this);
  }

  setInputs(levels: number): void {
    const changed = (this.#inputs ^ levels) & WORD;
    this.#inputs = levels & WORD;
    if (changed === 0 || !this.#enabled) return;
    const halves = ((changed & 0xff) !== 0 ? IRQ_STATUS.LOW : 0) | (changed > 0xff ? IRQ_STATUS.HIGH : 0);
    this.#signal(this.#status | halves | IRQ_STATUS.PENDING);
  }

  #read(port: number): number {
    if (port === PORT.OUT_LOW) return this.outputs & 0xff;
    if (port === PORT.OUT_HIGH) return this.outputs >> 8;
    if (port === PORT.IN_LOW) return this.#inputs & 0xff;
    if (port === PORT.IN_HIGH) return this.#inputs >> 8;
    if (port === PORT.IRQ_STATUS) return this.#status;
    if (port === PORT.IRQ_CONTROL) this.#enabled = true;
    return port === PORT.IRQ_CONTROL || port === PORT.FILTER ? 0 : 0xff;
  }

  #write(port: number, value: number): void {
    if (port === PORT.OUT_LOW) this.#drive((this.outputs & 0xff00) | value);
    if (port === PORT.OUT_HIGH) this.#drive((this.outputs & 0xff) | (value << 8));
    if (port === PORT.IRQ_CONTROL) this.#enabled = false;
    if (port === PORT.IN_LOW || port === PORT.IRQ_CONTROL) this.#signal(0);
  }

  #drive(outputs: number): void {
    this.outputs = outputs;
    this.#wiring(this);
  }

  #signal(status: number): void {
    this.#status = status;
    this.pci.setIntx((status & IRQ_STATUS.PENDING) !== 0);
  }

  #reset(): void {
    this.#enabled = false;
    this.#drive(0);
    this.#signal(0);
  }
}

/** The board: vendor driver `gpio-idio-16`, type `board`. It does no DMA, so it pins nothing. */
export const gpioDriver = (options: GpioOptions = {}): VendorDriver =>
  defineDriver({
    name: 'gpio-idio-16',
    deviceApi: 'vfio-pci',
    types: [{ id: 'board', prettyName: 'ACCES PCI-IDIO-16 digital I/O board' }],
    pins: false,
    create: ({ name }) => new Board(name, options.wiring ?? loopback).pci.ops(),
  });

/** The plugin with that driver. */
export const gpioIdio16 = (options: GpioOptions = {}): Plugin =>
  definePlugin({ name: 'gpio-idio-16', core: '^0.1', register: (scope) => scope.vendorDriver(gpioDriver(options)) });
