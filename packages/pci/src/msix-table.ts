import { memoryBar } from './bar-handlers.js';
import type { BarHandler } from './bars.js';
import { MSIX } from './capabilities.js';

/** What a message-signalled interrupt writes, and where. */
export interface MsiMessage {
  readonly address: bigint;
  readonly data: number;
}

const CONTROL = 12;
const MASKED = 1;

/**
 * MSI-X table and pending bits. Source: PCI 3.0 section 6.8.2.6-6.8.2.9.
 *
 * A VMM that keeps the table to itself (QEMU does: reference vfio-user 1.18) never writes ours, masks on its own and only
 * reads the pending bits. So a table that nobody wrote since reset masks nothing; the first write makes it the law.
 */
export class MsixTable {
  readonly vectors: number;
  readonly #entries: Uint8Array;
  readonly #view: DataView;
  readonly #pending: Uint8Array;
  readonly #changed: () => void;
  #used = false;
  #pendingCount = 0;

  /** `changed` is called after each write by software. */
  constructor(vectors: number, changed: () => void) {
    this.vectors = vectors;
    this.#entries = new Uint8Array(vectors * MSIX.ENTRY_SIZE);
    this.#view = new DataView(this.#entries.buffer);
    this.#pending = new Uint8Array(Math.ceil(vectors / 64) * 8);
    this.#changed = changed;
    this.reset();
  }

  /** Bytes of the table and of the pending bit array. */
  get tableSize(): number {
    return this.#entries.length;
  }

  get pbaSize(): number {
    return this.#pending.length;
  }

  /** Every entry masked and empty, nothing pending. */
  reset(): void {
    this.#entries.fill(0);
    this.#pending.fill(0);
    this.#pendingCount = 0;
    this.#used = false;
    for (let vector = 0; vector < this.vectors; vector += 1) this.#view.setUint8(this.#controlOf(vector), MASKED);
  }

  masked(vector: number): boolean {
    return this.#used && (this.#view.getUint8(this.#controlOf(vector)) & MASKED) !== 0;
  }

  message(vector: number): MsiMessage {
    const at = vector * MSIX.ENTRY_SIZE;
    return { address: this.#view.getBigUint64(at, true), data: this.#view.getUint32(at + 8, true) };
  }

  get anyPending(): boolean {
    return this.#pendingCount > 0;
  }

  pending(vector: number): boolean {
    return ((this.#pending[vector >> 3] ?? 0) & (1 << (vector & 7))) !== 0;
  }

  setPending(vector: number, pending: boolean): void {
    if (pending === this.pending(vector)) return;
    this.#pendingCount += pending ? 1 : -1;
    const bit = 1 << (vector & 7);
    const byte = this.#pending[vector >> 3] ?? 0;
    this.#pending[vector >> 3] = pending ? byte | bit : byte & ~bit;
  }

  /** The table as software sees it: accesses of whole aligned 4 or 8 bytes, others do not reach it. */
  readonly table: BarHandler = {
    read: (offset, bytes) => memoryBar(this.#entries).read(offset, bytes),
    write: (offset, bytes) => {
      if ((bytes.length !== 4 && bytes.length !== 8) || offset % bytes.length !== 0) return;
      this.#entries.set(bytes, offset);
      this.#used = true;
      for (let vector = offset >> 4; vector <= (offset + bytes.length - 1) >> 4; vector += 1) {
        this.#view.setUint32(
          this.#controlOf(vector),
          this.#view.getUint32(this.#controlOf(vector), true) & MASKED,
          true,
        );
      }
      this.#changed();
    },
  };

  /** The pending bits: read-only. */
  readonly pba: BarHandler = {
    read: (offset, bytes) => memoryBar(this.#pending).read(offset, bytes),
    write: () => {},
  };

  #controlOf(vector: number): number {
    return vector * MSIX.ENTRY_SIZE + CONTROL;
  }
}
