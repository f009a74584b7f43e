/** Entries per table, as in every 64-bit I/O page table format (AMD-Vi, VT-d, Arm 4 KiB granule). */
export const FANOUT = 512;

const SMALLEST_POOL = 4;

/**
 * Tables of 512 entries in one typed array, addressed by number: entry `slot` of table `t` is `entries[t * 512 + slot]`.
 * An entry is 0 (absent), positive (a leaf: pfn * 4 + prot) or negative (minus the number of the next table). Table 0 is
 * the root and never freed. Nothing is allocated before the first `take`, so that a domain that is never used costs nothing.
 */
export class TablePool {
  entries = new Float64Array(0);
  /** Entries in use per table. */
  used = new Uint16Array(0);
  /** Tables in use, the root included even before it has memory. */
  tables = 1;
  #next = 0;
  readonly #free: number[] = [];

  /** Makes room for the root. Idempotent. */
  open(): void {
    if (this.#next > 0) return;
    this.#grow(SMALLEST_POOL);
    this.#next = 1;
  }

  /** A table of absent entries. The arrays may have moved afterwards. */
  take(): number {
    this.tables += 1;
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#next === this.used.length) this.#grow(this.#next * 2);
    this.#next += 1;
    return this.#next - 1;
  }

  /** Gives back a table whose entries are all absent. */
  give(table: number): void {
    this.tables -= 1;
    this.#free.push(table);
  }

  /** Bytes that the arrays hold. */
  get bytes(): number {
    return this.entries.byteLength + this.used.byteLength;
  }

  /** Forgets every table. */
  clear(): void {
    this.entries = new Float64Array(0);
    this.used = new Uint16Array(0);
    this.tables = 1;
    this.#next = 0;
    this.#free.length = 0;
  }

  #grow(tables: number): void {
    const entries = new Float64Array(tables * FANOUT);
    entries.set(this.entries);
    this.entries = entries;
    const used = new Uint16Array(tables);
    used.set(this.used);
    this.used = used;
  }
}
