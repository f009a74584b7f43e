import type { BarSpec } from './bars.js';
import { MSIX, walkCapabilities } from './capabilities.js';
import { BAR_COUNT, CAPABILITY, COMMAND, CONFIG, REGION } from './registers.js';

/** A device as its user has it: an open device file, or the driver's own operations. */
export interface RegionAccess {
  readRegion(index: number, offset: number, bytes: Uint8Array): void;
  writeRegion(index: number, offset: number, bytes: Uint8Array): void;
}

/** A BAR as sizing found it. */
export interface SizedBar {
  readonly index: number;
  readonly kind: BarSpec['kind'];
  readonly size: bigint;
  readonly prefetchable: boolean;
}

/** What one message is to write, and where. */
export interface MsixEntry {
  readonly vector: number;
  readonly address: bigint;
  readonly data: number;
}

const ONES = 0xffff_ffff;
const width = (kind: BarSpec['kind']): number => (kind === 'memory64' ? 2 : 1);

/**
 * The other side of the bus: what firmware and an operating system do with a function before its driver takes over, and the accesses
 * a driver makes. For embedded guests and tests. Source: PCI 3.0 section 6.2.5.1 (sizing), Linux drivers/pci (order of steps).
 */
export class PciSoftware {
  readonly #device: RegionAccess;

  constructor(device: RegionAccess) {
    this.#device = device;
  }

  /** Unsigned value of `size` bytes (1, 2 or 4) of a region. */
  read(region: number, offset: number, size = 4): number {
    return Number(this.read64(region, offset, size));
  }

  /** `size`: at most 8 bytes. */
  read64(region: number, offset: number, size = 8): bigint {
    const bytes = new Uint8Array(8);
    this.#device.readRegion(region, offset, bytes.subarray(0, size));
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  write(region: number, offset: number, value: number | bigint, size = 4): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    this.#device.writeRegion(region, offset, bytes.subarray(0, size));
  }

  config(offset: number, size = 4): number {
    return this.read(REGION.CONFIG, offset, size);
  }

  setConfig(offset: number, value: number, size = 4): void {
    this.write(REGION.CONFIG, offset, value >>> 0, size);
  }

  /** Finds out kind and size of every BAR, decoding off meanwhile; the registers keep their values. */
  sizeBars(): readonly SizedBar[] {
    const command = this.config(CONFIG.COMMAND, 2);
    this.setConfig(CONFIG.COMMAND, command & ~(COMMAND.IO | COMMAND.MEMORY), 2);
    const bars: SizedBar[] = [];
    for (let index = 0; index < BAR_COUNT; ) {
      const bar = this.#sizeBar(index);
      if (bar !== undefined) bars.push(bar);
      index += bar === undefined ? 1 : width(bar.kind);
    }
    this.setConfig(CONFIG.COMMAND, command, 2);
    return bars;
  }

  /** Gives every BAR an address: memory and I/O each from its start upward, aligned to the BAR's size, 64-bit BARs last. */
  assignBars(from: { readonly memory: bigint; readonly io: bigint }): ReadonlyMap<number, bigint> {
    const next = { memory: from.memory, io: from.io };
    const addresses = new Map<number, bigint>();
    const wideLast = [...this.sizeBars()].sort((a, b) => width(a.kind) - width(b.kind));
    for (const { index, kind, size } of wideLast) {
      const space = kind === 'io' ? 'io' : 'memory';
      const address = ((next[space] + size - 1n) / size) * size;
      next[space] = address + size;
      addresses.set(index, address);
      this.write(REGION.CONFIG, CONFIG.BAR0 + index * 4, address, width(kind) * 4);
    }
    return addresses;
  }

  /** Sets bits of the command register. */
  enable(bits: number = COMMAND.IO | COMMAND.MEMORY | COMMAND.BUS_MASTER): void {
    this.setConfig(CONFIG.COMMAND, this.config(CONFIG.COMMAND, 2) | bits, 2);
  }

  /** Offset of the first capability with this id; undefined if there is none. */
  capability(id: number): number | undefined {
    return walkCapabilities((offset) => this.config(offset, 1)).find((found) => found.id === id)?.offset;
  }

  /**
   * Switches MSI-X on in the order Linux does: on with everything masked, table written, function mask off.
   * @returns how many vectors the function has; 0 if it has no MSI-X.
   */
  enableMsix(entries: readonly MsixEntry[]): number {
    const at = this.capability(CAPABILITY.MSIX);
    if (at === undefined) return 0;
    this.setConfig(at + MSIX.CONTROL, MSIX.ENABLE | MSIX.FUNCTION_MASK, 2);
    const table = this.config(at + MSIX.TABLE);
    for (const { vector, address, data } of entries) {
      const entry = (table & ~7) + vector * MSIX.ENTRY_SIZE;
      this.write(table & 7, entry, address, 8);
      this.write(table & 7, entry + 8, data);
      this.write(table & 7, entry + 12, 0);
    }
    this.setConfig(at + MSIX.CONTROL, MSIX.ENABLE, 2);
    return (this.config(at + MSIX.CONTROL, 2) & 0x7ff) + 1;
  }

  #sizeBar(index: number): SizedBar | undefined {
    const at = CONFIG.BAR0 + index * 4;
    const old = this.config(at);
    this.setConfig(at, ONES);
    const low = this.config(at);
    this.setConfig(at, old);
    if (low === 0) return undefined;
    if ((low & 1) !== 0) return { index, kind: 'io', size: BigInt(-(low & ~3) >>> 0), prefetchable: false };
    const prefetchable = (low & 8) !== 0;
    if ((low & 4) === 0) return { index, kind: 'memory32', size: BigInt(-(low & ~15) >>> 0), prefetchable };
    const oldHigh = this.config(at + 4);
    this.setConfig(at + 4, ONES);
    const high = this.config(at + 4);
    this.setConfig(at + 4, oldHigh);
    const mask = (BigInt(high) << 32n) | BigInt((low & ~15) >>> 0);
    return { index, kind: 'memory64', size: (1n << 64n) - mask, prefetchable };
  }
}
