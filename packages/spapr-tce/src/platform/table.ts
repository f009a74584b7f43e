import { asPfn, PAGE_SHIFT, PAGE_SIZE, type Pfn, type Prot } from '@pinion/core';
import { tceErrors } from '../errors.js';
import type { TceTable, WindowShape } from '../hardware.js';

interface Entry {
  readonly pfn: Pfn;
  readonly prot: Prot;
}

/** A table in the firmware's hands. It takes no more memory than it has entries that lead somewhere. */
export class FirmwareTable implements TceTable {
  readonly start: bigint;
  readonly pageShift: number;
  readonly entries: number;
  readonly #entries = new Map<number, Entry>();

  constructor(start: bigint, { pageShift, size }: WindowShape) {
    this.start = start;
    this.pageShift = pageShift;
    this.entries = Number(size >> BigInt(pageShift));
  }

  set(index: number, pfn: Pfn, prot: Prot): void {
    if (index < 0 || index >= this.entries) throw tceErrors.FIRMWARE({ index, entries: this.entries });
    this.#entries.set(index, { pfn, prot });
  }

  clear(index: number): void {
    this.#entries.delete(index);
  }

  /** The host page and offset (bytes) behind an iova for such an access, undefined where the device gets an error. */
  translate(iova: bigint, wanted: Prot): { readonly pfn: Pfn; readonly offset: number } | undefined {
    if (iova < this.start) return undefined;
    const inside = iova - this.start;
    const entry = this.#entries.get(Number(inside >> BigInt(this.pageShift)));
    if (entry === undefined || (entry.prot & wanted) !== wanted) return undefined;
    const within = Number(inside & ((1n << BigInt(this.pageShift)) - 1n));
    return { pfn: asPfn(entry.pfn + Math.floor(within / PAGE_SIZE)), offset: within % PAGE_SIZE };
  }
}

/** log2 of the bytes of an entry: a table takes its window's size divided by this much. */
const ENTRY_SHIFT = 3;

/** Bytes of a table with one level. */
export const flatTableBytes = ({ pageShift, size }: WindowShape): bigint =>
  pageShift < PAGE_SHIFT ? 0n : size >> BigInt(pageShift - ENTRY_SHIFT);
