import type { Prot } from '@pinion/core';
import { FANOUT, TablePool } from './table-pool.js';

/** Frames that one entry covers, per level: 4 KiB, 2 MiB, 1 GiB, and the levels above, which hold no leaves. */
const SPAN = [1, 512, 512 ** 2, 512 ** 3, 512 ** 4] as const;
/** Frames below this bit are split off first, because bit operators work on 32 bits and a frame has up to 45. */
const LOW = 2 ** 18;
const LAST_SLOT = FANOUT - 1;
const LEAF_LEVELS = 3;

/** A leaf in one number: pfn * 4 + prot. 0 is no leaf. */
export type PackedLeaf = number;
/** The host frame of a packed leaf. */
export const leafFrame = (leaf: PackedLeaf): number => Math.floor(leaf / 4);
/** The rights of a packed leaf. */
export const leafProt = (leaf: PackedLeaf): Prot => leaf - Math.floor(leaf / 4) * 4;

/** One entry of the tables: `frames` (1, 512 or 262144) frames from `first` lead to the host frames from `pfn`. */
export interface Leaf {
  readonly first: number;
  readonly pfn: number;
  readonly frames: number;
  readonly prot: Prot;
}

/** Which frames go where; every number is whole, `prot` is 1..3, and the range lies inside the tables' width. */
export interface TableMapping {
  readonly first: number;
  readonly count: number;
  readonly pfn: number;
  readonly prot: Prot;
}

/** The form of a page table. Source: struct io_pgtable_cfg. */
export interface PageTableOptions {
  /** 1..5 levels of 512 entries: 21, 30, 39, 48, 57 bits of address. */
  readonly levels: number;
  /** Whether leaves of 4 KiB, 2 MiB, 1 GiB exist. The first must. */
  readonly leaves: readonly [true, boolean, boolean];
  /** Asked once per table that a map needs, before the table is made; a throw refuses the map. */
  readonly admit?: () => void;
}

/**
 * A radix tree of I/O page tables. Leaves are as large as the alignment of both sides allows; part of a large leaf can be
 * unmapped, which splits it; a table without entries is given back at once. Source: the common form of VT-d second level
 * (spec section 3.7), AMD-Vi and Arm LPAE tables.
 */
export class PageTable {
  readonly #pool = new TablePool();
  readonly #top: number;
  readonly #leaves: readonly [true, boolean, boolean];
  readonly #admit: () => void;
  readonly #leafCounts = [0, 0, 0];
  /** Where the last descent ended: the level and, per level from the top down to it, the table that was entered. */
  #level = 0;
  readonly #path = new Int32Array(SPAN.length);
  #mapped = 0;

  constructor(options: PageTableOptions) {
    this.#top = options.levels - 1;
    this.#leaves = options.leaves;
    this.#admit = options.admit ?? (() => {});
  }

  /** Tables in use, the root included. */
  get tables(): number {
    return this.#pool.tables;
  }

  /** Frames that are mapped. */
  get mapped(): number {
    return this.#mapped;
  }

  /** Bytes of memory that the tables hold. */
  get bytes(): number {
    return this.#pool.bytes;
  }

  /** Leaves of 4 KiB, 2 MiB and 1 GiB. */
  get leafCounts(): readonly number[] {
    return this.#leafCounts;
  }

  /** The leaf entry that covers `frame`, adjusted to this very frame; 0 where nothing is mapped. */
  walk(frame: number): PackedLeaf {
    const entries = this.#pool.entries;
    if (entries.length === 0) return 0;
    const high = Math.floor(frame / LOW);
    const low = frame - high * LOW;
    let table = 0;
    for (let level = this.#top; level >= 2; level -= 1) {
      const entry = entries[table * FANOUT + ((high >>> (9 * (level - 2))) & LAST_SLOT)] ?? 0;
      if (entry >= 0) return entry === 0 ? 0 : entry + low * 4;
      table = -entry;
    }
    if (this.#top >= 1) {
      const entry = entries[table * FANOUT + (low >>> 9)] ?? 0;
      if (entry >= 0) return entry === 0 ? 0 : entry + (low & LAST_SLOT) * 4;
      table = -entry;
    }
    return entries[table * FANOUT + (low & LAST_SLOT)] ?? 0;
  }

  /** The first mapped frame of first..last, or -1. Skips what an absent entry covers in one step. */
  firstMapped(first: number, last: number): number {
    let frame = first;
    while (frame <= last) {
      const entry = this.#descend(frame, 0);
      if (entry > 0) return frame;
      const span = SPAN[this.#level] ?? 1;
      frame = (Math.floor(frame / span) + 1) * span;
    }
    return -1;
  }

  /** Maps; the caller has seen that nothing is mapped there. A refused table undoes what was done and is thrown on. */
  map(mapping: TableMapping): void {
    this.#pool.open();
    let done = 0;
    try {
      while (done < mapping.count) done += this.#fill(mapping, done);
    } catch (refused) {
      if (done > 0) this.unmap(mapping.first, mapping.first + done - 1);
      throw refused;
    }
  }

  /** Unmaps first..last, splitting leaves that stand out of the range. @returns frames that were mapped. */
  unmap(first: number, last: number): number {
    const before = this.#mapped;
    if (before === 0) return 0;
    let frame = first;
    while (frame <= last) {
      const entry = this.#descend(frame, 0);
      const level = this.#level;
      const span = SPAN[level] ?? 1;
      const start = frame - (frame % span);
      if (entry === 0 && level > 0) frame = start + span;
      else if (start < frame || start + span - 1 > last) this.#split(level, frame);
      else frame = this.#clear(frame, last);
    }
    return before - this.#mapped;
  }

  /** All leaves, ascending. Must not be held over a map or unmap. */
  *leaves(): Generator<Leaf> {
    if (this.#pool.entries.length > 0) yield* this.#leavesOf(0, this.#top, 0);
  }

  /** Drops everything. */
  clear(): void {
    this.#pool.clear();
    this.#mapped = 0;
    this.#leafCounts.fill(0);
  }

  *#leavesOf(table: number, level: number, base: number): Generator<Leaf> {
    const frames = SPAN[level] ?? 1;
    for (let slot = 0; slot < FANOUT; slot += 1) {
      const entry = this.#pool.entries[table * FANOUT + slot] ?? 0;
      const first = base + slot * frames;
      if (entry > 0) yield { first, pfn: leafFrame(entry), frames, prot: leafProt(entry) };
      else if (entry < 0) yield* this.#leavesOf(-entry, level - 1, first);
    }
  }

  /** Goes down to the entry of `frame`: a leaf, an absent entry, or the one at level `floor`. Leaves #level and #path behind. */
  #descend(frame: number, floor: number): number {
    const entries = this.#pool.entries;
    let table = 0;
    let level = this.#top;
    for (;;) {
      this.#path[level] = table;
      const entry = entries[table * FANOUT + slotOf(frame, level)] ?? 0;
      if (entry >= 0 || level === floor) {
        this.#level = level;
        return entry;
      }
      table = -entry;
      level -= 1;
    }
  }

  /** The largest leaf that can begin at `done` frames into the mapping. */
  #leafLevel(mapping: TableMapping, done: number): number {
    if (mapping.count - done < FANOUT) return 0;
    const frame = mapping.first + done;
    const pfn = mapping.pfn + done;
    for (let level = Math.min(LEAF_LEVELS - 1, this.#top); level > 0; level -= 1) {
      const span = SPAN[level] ?? 1;
      const aligned = frame % span === 0 && pfn % span === 0;
      if (this.#leaves[level] === true && aligned && mapping.count - done >= span) return level;
    }
    return 0;
  }

  /** Writes leaves of one size up to the end of one table. @returns frames that are mapped now. */
  #fill(mapping: TableMapping, done: number): number {
    const level = this.#leafLevel(mapping, done);
    const span = SPAN[level] ?? 1;
    const table = this.#tableFor(mapping.first + done, level);
    const slot = slotOf(mapping.first + done, level);
    const run = Math.min(FANOUT - slot, Math.floor((mapping.count - done) / span));
    const entries = this.#pool.entries;
    const from = table * FANOUT + slot;
    let leaf = (mapping.pfn + done) * 4 + mapping.prot;
    for (let index = from; index < from + run; index += 1) {
      entries[index] = leaf;
      leaf += span * 4;
    }
    this.#count(table, level, run);
    return run * span;
  }

  /** The table of that level over `frame`; made with those above it if absent. All of them are admitted before any is made. */
  #tableFor(frame: number, level: number): number {
    this.#descend(frame, level);
    const stop = this.#level;
    for (let missing = stop; missing > level; missing -= 1) this.#admit();
    for (let above = stop; above > level; above -= 1) {
      this.#path[above - 1] = this.#makeTable(this.#path[above] ?? 0, slotOf(frame, above));
    }
    return this.#path[level] ?? 0;
  }

  /** Puts an empty table into an absent slot. */
  #makeTable(parent: number, slot: number): number {
    const table = this.#pool.take();
    this.#pool.entries[parent * FANOUT + slot] = -table;
    this.#pool.used[parent] = (this.#pool.used[parent] ?? 0) + 1;
    return table;
  }

  /** Books `leaves` more (negative: fewer) leaves of a level in a table. */
  #count(table: number, level: number, leaves: number): void {
    this.#pool.used[table] = (this.#pool.used[table] ?? 0) + leaves;
    this.#leafCounts[level] = (this.#leafCounts[level] ?? 0) + leaves;
    this.#mapped += leaves * (SPAN[level] ?? 1);
  }

  /**
   * Turns the leaf over `frame` at `level` into a table of smaller ones. Needs no admission: unmap never fails.
   * A leaf size that does not exist is split further at once.
   */
  #split(level: number, frame: number): void {
    const parent = this.#path[level] ?? 0;
    const slot = slotOf(frame, level);
    const leaf = this.#pool.entries[parent * FANOUT + slot] ?? 0;
    this.#pool.entries[parent * FANOUT + slot] = 0;
    this.#count(parent, level, -1);
    this.#expand({ parent, slot, level: level - 1, leaf });
  }

  #expand(part: { parent: number; slot: number; level: number; leaf: PackedLeaf }): void {
    const { level, leaf } = part;
    const table = this.#makeTable(part.parent, part.slot);
    const step = (SPAN[level] ?? 1) * 4;
    const exists = this.#leaves[level] === true;
    for (let slot = 0; slot < FANOUT; slot += 1) {
      if (exists) this.#pool.entries[table * FANOUT + slot] = leaf + slot * step;
      else this.#expand({ parent: table, slot, level: level - 1, leaf: leaf + slot * step });
    }
    if (exists) this.#count(table, level, FANOUT);
  }

  /** Clears whole leaves from `frame` to the end of the table that the last descent reached. @returns where to go on. */
  #clear(frame: number, last: number): number {
    const level = this.#level;
    const span = SPAN[level] ?? 1;
    const table = this.#path[level] ?? 0;
    const entries = this.#pool.entries;
    const base = table * FANOUT;
    let cleared = 0;
    let slot = slotOf(frame, level);
    let next = frame;
    for (; slot < FANOUT && next + span - 1 <= last; slot += 1) {
      const entry = entries[base + slot] ?? 0;
      if (entry < 0) break;
      if (entry > 0) {
        entries[base + slot] = 0;
        cleared += 1;
      }
      next += span;
    }
    this.#count(table, level, -cleared);
    this.#prune(level, frame);
    return next;
  }

  /** Gives back the tables that became empty on the way to `frame`. */
  #prune(from: number, frame: number): void {
    for (let level = from; level < this.#top; level += 1) {
      const table = this.#path[level] ?? 0;
      if (this.#pool.used[table] !== 0) return;
      const parent = this.#path[level + 1] ?? 0;
      this.#pool.entries[parent * FANOUT + slotOf(frame, level + 1)] = 0;
      this.#pool.used[parent] = (this.#pool.used[parent] ?? 1) - 1;
      this.#pool.give(table);
    }
  }
}

/** Which of the 512 entries of a table of that level is over `frame`. */
function slotOf(frame: number, level: number): number {
  const high = Math.floor(frame / LOW);
  return level >= 2 ? (high >>> (9 * (level - 2))) & LAST_SLOT : ((frame - high * LOW) >>> (9 * level)) & LAST_SLOT;
}
