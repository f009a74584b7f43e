import { type Log, silentLog } from '@pinion/core';
import { CONFIG_SIZE, ConfigSpace } from '@pinion/pci';
import type { BarWindow } from './bar-windows.js';
import type { BusFunction } from './bus-function.js';
import { v86Errors } from './errors.js';
import { InterruptLines } from './interrupt-lines.js';
import { PciSlot } from './pci-slot.js';

/** Configuration mechanism 1. Source: PCI 3.0 section 3.2.2.3.2. */
const PORT = { ADDRESS: 0xcf8, DATA: 0xcfc, LAST: 0xcff } as const;
const ENABLE = 0x8000_0000;
const SLOTS = 32;
/** Slot 0 is the host bridge. */
const FIRST_SLOT = 1;
/** Interrupt lines that slots lead to, in turn: shared, as on a PC. */
const LINES = [10, 11] as const;
/** An i440FX by name: operating systems look for a host bridge before they believe in mechanism 1. */
const HOST_BRIDGE = [0x86, 0x80, 0x37, 0x12, 0, 0, 0, 0, 2, 0, 0, 6];

/** The side of a CPU that devices pull at. */
export interface InterruptPins {
  setIrq(line: number, up: boolean): void;
  deliverMessage(vector: number): void;
}

interface Hit {
  readonly slot: PciSlot;
  readonly window: BarWindow;
}

/**
 * PCI bus 0 of a PC: 31 slots of one function each, configuration mechanism 1, windows where the guest puts them. Windows over each
 * other: the lowest slot answers. A window over RAM: RAM answers.
 */
export class PciRoot {
  readonly #lines: InterruptLines;
  readonly #pins: InterruptPins;
  readonly #log: Log;
  readonly #slots: (PciSlot | undefined)[] = new Array<PciSlot | undefined>(SLOTS).fill(undefined);
  /** Those with a function, ascending. */
  #present: readonly PciSlot[] = [];
  readonly #names = new Map<string, number>();
  readonly #bridge = new ConfigSpace(false);
  #address = 0;

  constructor(pins: InterruptPins, log: Log = silentLog) {
    this.#pins = pins;
    this.#log = log;
    this.#lines = new InterruptLines((line, up) => pins.setIrq(line, up));
    this.#bridge.define(0, { value: Uint8Array.from(HOST_BRIDGE) });
  }

  /** Puts a function into the slot it had before, else the first that nobody had. @returns the undo. @throws V86_NO_SLOT (ENOSPC). */
  plug(pci: BusFunction): () => void {
    const number = this.#numberOf(pci.name);
    const line = LINES[number % LINES.length] ?? LINES[0];
    const message = (vector: number): void => this.#pins.deliverMessage(vector);
    const slot = new PciSlot(pci, { lines: this.#lines, line, message, log: this.#log });
    this.#fill(number, slot);
    return () => {
      slot.leave();
      if (this.#slots[number] === slot) this.#fill(number, undefined);
    };
  }

  /** The slot of a function that is or was plugged in. */
  slotOf(name: string): number | undefined {
    return this.#names.get(name);
  }

  /** @returns undefined where no window is. */
  load(space: BarWindow['space'], address: number, length: number): Uint8Array | undefined {
    const hit = this.#find(space, address);
    if (hit === undefined) return undefined;
    const bytes = new Uint8Array(length).fill(0xff);
    const inside = Math.min(length, hit.window.last - address + 1);
    bytes.set(hit.slot.read(hit.window.region, address - hit.window.first, inside));
    return bytes;
  }

  /** @returns false where no window is. */
  store(space: BarWindow['space'], address: number, bytes: Uint8Array): boolean {
    const hit = this.#find(space, address);
    if (hit === undefined) return false;
    const inside = bytes.subarray(0, hit.window.last - address + 1);
    hit.slot.write(hit.window.region, address - hit.window.first, inside);
    return true;
  }

  /** Whether a port is one of configuration mechanism 1. */
  ownsPort(port: number): boolean {
    return port >= PORT.ADDRESS && port <= PORT.LAST;
  }

  portIn(port: number, size: number): Uint8Array {
    const ones = new Uint8Array(size).fill(0xff);
    if (port >= PORT.DATA) return this.#readConfig(port - PORT.DATA, size);
    if (port !== PORT.ADDRESS || size !== 4) return ones;
    new DataView(ones.buffer).setUint32(0, this.#address, true);
    return ones;
  }

  /** Only whole writes reach the address register. */
  portOut(port: number, bytes: Uint8Array): void {
    if (port >= PORT.DATA) this.#writeConfig(port - PORT.DATA, bytes);
    else if (port === PORT.ADDRESS && bytes.length === 4)
      this.#address = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  #fill(number: number, slot: PciSlot | undefined): void {
    this.#slots[number] = slot;
    this.#present = this.#slots.filter((each) => each !== undefined);
  }

  #numberOf(name: string): number {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    const taken = new Set(this.#names.values());
    for (let number = FIRST_SLOT; number < SLOTS; number += 1) {
      if (taken.has(number)) continue;
      this.#names.set(name, number);
      return number;
    }
    throw v86Errors.NO_SLOT({ name, slots: SLOTS - FIRST_SLOT });
  }

  #find(space: BarWindow['space'], address: number): Hit | undefined {
    for (const slot of this.#present) {
      for (const window of slot.windows) {
        if (window.space === space && window.first <= address && address <= window.last) return { slot, window };
      }
    }
    return undefined;
  }

  /** What the address register points to: bus 0, function 0. */
  get #selected(): { readonly number: number; readonly offset: number } | undefined {
    if (this.#address < ENABLE || (this.#address & 0xff_0700) !== 0) return undefined;
    return { number: (this.#address >> 11) & 0x1f, offset: this.#address & 0xfc };
  }

  #readConfig(from: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size).fill(0xff);
    const selected = this.#selected;
    if (selected === undefined) return bytes;
    const { number, offset } = selected;
    const at = offset + from;
    if (number === 0) this.#bridge.read(at, bytes);
    else bytes.set(this.#slots[number]?.readConfig(at, Math.min(size, CONFIG_SIZE - at)) ?? []);
    return bytes;
  }

  #writeConfig(from: number, bytes: Uint8Array): void {
    const selected = this.#selected;
    if (selected === undefined) return;
    const at = selected.offset + from;
    this.#slots[selected.number]?.writeConfig(at, bytes.subarray(0, CONFIG_SIZE - at));
  }
}
