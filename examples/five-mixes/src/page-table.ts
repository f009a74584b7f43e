import type { PciFunction } from '@pinion/vm';

/** Where a vGPU says which part of the graphics address space is its own, and where the translation table begins; bytes in BAR0. */
const OWN_BASE = 0x78040;
const TABLE = 0x80_0000;
const BAR0 = 0;
const PAGE = 4096;
const PRESENT = 1n;

/** A guest's hand on the vGPU's translation table. Every present entry makes the driver pin the page it leads to. */
export class PageTable {
  readonly #pci: PciFunction;

  constructor(pci: PciFunction) {
    this.#pci = pci;
  }

  /** Points `count` entries from number `entry` to guest pages from `page` on. */
  point(page: number, count: number, entry = page): void {
    for (let index = 0; index < count; index++)
      this.#write(entry + index, (BigInt(page + index) * BigInt(PAGE)) | PRESENT);
  }

  /** Makes `count` entries from number `entry` lead nowhere. */
  clear(count: number, entry = 0): void {
    for (let index = 0; index < count; index++) this.#write(entry + index, 0n);
  }

  #write(entry: number, value: bigint): void {
    const base = this.#pci.read32(BAR0, OWN_BASE) / PAGE;
    this.#pci.write64(BAR0, TABLE + (base + entry) * 8, value);
  }
}
