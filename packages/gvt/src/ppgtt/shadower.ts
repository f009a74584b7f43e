import type { Log } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import { type MapOwner, ppgttOwner } from '../hypervisor/owner.js';
import type { Quirks } from '../quirks.js';
import {
  ENTRIES,
  frame2M,
  frame64K,
  frameOf,
  IPS,
  type Level,
  PAGE_SIZE_BIT,
  PAGES_2M,
  PAGES_64K,
  PRESENT,
  WRITABLE,
} from './entry-format.js';
import { GuestTables, type TableKey } from './guest-tables.js';
import { NO_PAGE, PageMapper } from './page-mapper.js';
import { KIND, NO_GFN, type ShadowTable } from './shadow-table.js';
import { TablePool } from './table-pool.js';

/** What shadows are made with. */
export interface ShadowerParts {
  readonly backend: HypervisorBackend;
  readonly log: Log;
  readonly quirks: Quirks;
  /** Whether the guest has switched 64 KiB pages on, so that a directory entry's IPS bit means something. */
  readonly ipsEnabled: () => boolean;
  /** Tables at most. */
  readonly maxTables: number;
  /** Gives tables back that are not needed now. @returns whether there were any. */
  readonly reclaim: () => boolean;
}

/**
 * Turns guest tables into shadow tables and keeps single entries in step. A guest page may be read as a table of several levels (a table
 * that points at itself is): each level has a shadow of its own, so a walk always ends after as many steps as there are levels, and
 * every shadow says exactly what hardware would read. Source: i915 gvt gtt.c, ppgtt_populate_spt and its family.
 */
export class Shadower {
  readonly tables: GuestTables;
  readonly pool: TablePool;
  readonly pages: PageMapper;
  /** Tables that are to be compared with the guest's before the next dispatch. */
  readonly stale = new Set<ShadowTable>();
  /** Changes with every change of a shadow: what was looked up before may be gone. */
  generation = 0;
  readonly #parts: ShadowerParts;
  readonly #olds = new Float64Array(PAGES_64K);
  readonly #page = new Uint8Array(ENTRIES * 8);
  readonly #words = new Uint32Array(this.#page.buffer);
  readonly #whole = Buffer.from(this.#page.buffer);

  constructor(parts: ShadowerParts) {
    this.#parts = parts;
    this.tables = new GuestTables(parts.backend);
    this.pool = new TablePool(parts.maxTables, parts.reclaim);
    this.pages = new PageMapper(parts.backend, parts.log);
  }

  /**
   * A reference on the shadow of a guest table, which is made with everything below it if there is none. Undefined if the guest has no
   * memory there. @throws PinionError GVT_NO_TABLES (ENOMEM), GVT_HUGE_ENTRY (EINVAL); nothing is held then.
   */
  take(key: TableKey): ShadowTable | undefined {
    const known = this.tables.find(key);
    if (known !== undefined) {
      known.refs += 1;
      return known;
    }
    if (!this.pages.isValid(key.gfn)) return undefined;
    const table = this.#begin(key);
    if (table === undefined) return undefined;
    try {
      this.#populate(table);
      return table;
    } catch (cause) {
      this.put(table);
      throw cause;
    }
  }

  /** Drops a reference; the last one gives back all that the table holds. */
  put(table: ShadowTable): void {
    table.refs -= 1;
    if (table.refs > 0) return;
    this.generation += 1;
    for (let index = 0; index < ENTRIES; index++) if (table.kinds[index] !== KIND.SCRATCH) this.#release(table, index);
    this.tables.remove(table);
    this.stale.delete(table);
    this.pool.give(table);
  }

  /**
   * The guest's entry at `index` is now this one. What the new entry needs is taken before what the old one held is given back.
   * @throws PinionError GVT_NO_TABLES (ENOMEM), GVT_HUGE_ENTRY (EINVAL): the entry leads to scratch and is tried again at the next pin.
   */
  write(table: ShadowTable, index: number, entry: { low: number; high: number }): void {
    const { low, high } = entry;
    this.generation += 1;
    table.guest[index * 2] = low;
    table.guest[index * 2 + 1] = high;
    if (table.ips) this.#write64K(table, index);
    else if (table.level === 1) this.#writeSmall(table, index);
    else this.#writeDirectory(table, index);
  }

  /** One half of an entry was written: it leads to scratch until the whole of it is read at the next pin. */
  suspend(table: ShadowTable, index: number): void {
    this.write(table, index, { low: 0, high: 0 });
    this.stale.add(table);
  }

  /**
   * Brings a table in step with the guest's. Entries that are refused lead to scratch, the rest is done.
   * @returns the first refusal; the table is then still stale.
   */
  compare(table: ShadowTable): unknown {
    table.refs += 1; // what a new entry needs may be reclaimed from the very table's owner
    try {
      return this.#compare(table);
    } finally {
      this.put(table);
    }
  }

  #compare(table: ShadowTable): unknown {
    table.writes = 0;
    this.stale.delete(table);
    if (!this.#readTable(table) || this.#whole.equals(table.guestBytes)) return undefined;
    const words = this.#words;
    let refusal: unknown;
    for (let index = 0; index < ENTRIES; index++) {
      const low = words[index * 2] ?? 0;
      const high = words[index * 2 + 1] ?? 0;
      if (low === table.guest[index * 2] && high === table.guest[index * 2 + 1]) continue;
      try {
        this.write(table, index, { low, high });
      } catch (cause) {
        refusal ??= cause;
      }
    }
    return refusal;
  }

  /** The page at `index` goes away with its memory: whoever owns the memory releases the mapping. */
  forget(table: ShadowTable, index: number): void {
    this.generation += 1;
    this.pages.forget();
    table.setScratch(index);
  }

  /** The table below `index` goes away; the guest's entry stays as it is and is not looked at again until it is written. */
  detach(table: ShadowTable, index: number): void {
    this.generation += 1;
    this.#release(table, index);
  }

  #begin({ gfn, level, ips }: TableKey): ShadowTable | undefined {
    const table = this.pool.take();
    table.start({ gfn, level, ips, owner: ppgttOwner(gfn) });
    try {
      this.tables.add(table);
      this.#parts.backend.readGuest(BigInt(gfn) << 12n, table.guestBytes);
      return table;
    } catch (cause) {
      this.put(table);
      this.pages.refuse('table', gfn, cause);
      return undefined;
    }
  }

  /** The guest's table as it is now, in `#words`. A table whose page cannot be read any more leads nowhere. */
  #readTable(table: ShadowTable): boolean {
    try {
      this.#parts.backend.readGuest(BigInt(table.gfn) << 12n, this.#page);
      return true;
    } catch (cause) {
      this.pages.refuse('table', table.gfn, cause);
      for (let index = 0; index < ENTRIES; index++) if (table.kinds[index] !== KIND.SCRATCH) this.detach(table, index);
      table.guest.fill(0);
      return false;
    }
  }

  #populate(table: ShadowTable): void {
    const { guest, level, ips } = table;
    for (let index = 0; index < ENTRIES; index += ips ? PAGES_64K : 1) {
      if (((guest[index * 2] ?? 0) & PRESENT) === 0) continue;
      if (ips) this.#fill64K(table, index);
      else if (level === 1) this.#fillSmall(table, index);
      else this.#fillDirectory(table, index);
    }
  }

  #writeSmall(table: ShadowTable, index: number): void {
    const old = table.pageAt(index);
    const oldGfn = table.frames[index] ?? 0;
    this.#fillSmall(table, index);
    if (old !== undefined) this.pages.unmap(old, oldGfn);
  }

  #fillSmall(table: ShadowTable, index: number): void {
    const low = table.guest[index * 2] ?? 0;
    const gfn = frameOf(low, table.guest[index * 2 + 1] ?? 0);
    const dma = (low & PRESENT) === 0 ? NO_PAGE : this.pages.small(gfn, table.owner);
    if (dma === NO_PAGE) table.setScratch(index);
    else table.setPage(index, { kind: KIND.SMALL, dma, gfn, writable: low & WRITABLE });
  }

  /** Entries between two 64 KiB entries mean nothing, so writes to them are ignored. */
  #write64K(table: ShadowTable, index: number): void {
    if (index % PAGES_64K !== 0) return;
    const olds = this.#olds;
    const frames = table.frames.slice(index, index + PAGES_64K);
    for (let piece = 0; piece < PAGES_64K; piece++) olds[piece] = table.pageAt(index + piece) ?? NO_PAGE;
    this.#fill64K(table, index);
    const given = this.#parts.quirks.has('split-64k-unmaps-one') ? 1 : PAGES_64K;
    for (const [piece, old] of olds.entries()) {
      if (old === NO_PAGE) continue;
      if (piece < given) this.pages.unmap(old, frames[piece] ?? 0);
      else this.pages.forget();
    }
  }

  #fill64K(table: ShadowTable, index: number): void {
    const low = table.guest[index * 2] ?? 0;
    const first = frame64K(low, table.guest[index * 2 + 1] ?? 0);
    for (let piece = 0; piece < PAGES_64K; piece++) {
      const gfn = first + piece;
      const dma = (low & PRESENT) === 0 ? NO_PAGE : this.pages.small(gfn, table.owner);
      if (dma === NO_PAGE) table.setScratch(index + piece);
      else table.setPage(index + piece, { kind: KIND.PIECE, dma, gfn, writable: low & WRITABLE });
    }
  }

  #writeDirectory(table: ShadowTable, index: number): void {
    const child = table.child(index);
    const old = table.pageAt(index);
    const oldGfn = table.frames[index] ?? 0;
    try {
      this.#fillDirectory(table, index);
    } catch (cause) {
      table.setScratch(index);
      table.guest[index * 2] = 0;
      table.guest[index * 2 + 1] = 0;
      this.stale.add(table);
      throw cause;
    } finally {
      if (old !== undefined) this.pages.unmap(old, oldGfn);
      if (child !== undefined) this.put(child);
    }
  }

  #fillDirectory(table: ShadowTable, index: number): void {
    const low = table.guest[index * 2] ?? 0;
    const high = table.guest[index * 2 + 1] ?? 0;
    if ((low & PRESENT) === 0) table.setScratch(index);
    else if (table.level === 4 || (low & PAGE_SIZE_BIT) === 0) this.#fillTable(table, index);
    else if (table.level === 2) this.#fillLarge(table, index);
    else throw gvtErrors.HUGE_ENTRY({ table: table.gfn, index, gfn: frameOf(low, high) });
  }

  #fillTable(table: ShadowTable, index: number): void {
    const low = table.guest[index * 2] ?? 0;
    const gfn = frameOf(low, table.guest[index * 2 + 1] ?? 0);
    const ips = table.level === 2 && (low & IPS) !== 0 && this.#parts.ipsEnabled();
    const child = this.take({ gfn, level: below(table.level), ips });
    if (child === undefined) table.setScratch(index);
    else table.setChild(index, KIND.TABLE, child);
  }

  #fillLarge(table: ShadowTable, index: number): void {
    const low = table.guest[index * 2] ?? 0;
    const gfn = frame2M(low, table.guest[index * 2 + 1] ?? 0);
    const writable = low & WRITABLE;
    if (!this.pages.isValid(gfn)) {
      table.setScratch(index);
      return;
    }
    const dma = this.pages.large(gfn, table.owner);
    if (dma !== NO_PAGE) table.setPage(index, { kind: KIND.LARGE, dma, gfn, writable });
    else table.setChild(index, KIND.SPLIT, this.#split(gfn, writable, table.owner));
  }

  /** A 2 MiB page as 512 small ones, for a backend that cannot have it in one piece. */
  #split(first: number, writable: number, owner: MapOwner): ShadowTable {
    const table = this.pool.take();
    table.start({ gfn: NO_GFN, level: 1, ips: false, owner });
    for (let index = 0; index < PAGES_2M; index++) {
      const gfn = first + index;
      const dma = this.pages.small(gfn, owner);
      if (dma !== NO_PAGE) table.setPage(index, { kind: KIND.SMALL, dma, gfn, writable });
    }
    return table;
  }

  #release(table: ShadowTable, index: number): void {
    const kind = table.kinds[index] ?? KIND.SCRATCH;
    const child = table.child(index);
    const page = table.pageAt(index);
    table.setScratch(index);
    if (child !== undefined) this.put(child);
    if (page === undefined) return;
    if (kind === KIND.LARGE && this.#parts.quirks.has('large-leaf-skipped')) this.pages.forget();
    else this.pages.unmap(page, table.frames[index] ?? 0);
  }
}

/** Level of the tables that a table of `level` (2 to 4) leads to. */
const below = (level: Level): Level => (level === 4 ? 3 : level === 3 ? 2 : 1);
