import { asGfn } from '@pinion/core';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import type { Level } from './entry-format.js';
import { NO_GFN, type ShadowTable } from './shadow-table.js';

/** One guest page as a table of one level. The same page may stand at several levels at once; each has a shadow of its own. */
export interface TableKey {
  readonly gfn: number;
  readonly level: Level;
  readonly ips: boolean;
}

/** Which shadow tables stand for which guest page, and which of those pages are protected against unseen writes. */
export class GuestTables {
  readonly #backend: HypervisorBackend;
  readonly #byGfn = new Map<number, ShadowTable>();
  /** Tables whose page the guest may write to unseen, longest first. */
  readonly #unprotected = new Set<ShadowTable>();

  constructor(backend: HypervisorBackend) {
    this.#backend = backend;
  }

  /** Guest pages that are tables. */
  get pages(): number {
    return this.#byGfn.size;
  }

  get unprotected(): number {
    return this.#unprotected.size;
  }

  find({ gfn, level, ips }: TableKey): ShadowTable | undefined {
    let table = this.#byGfn.get(gfn);
    while (table !== undefined && (table.level !== level || table.ips !== ips)) table = table.sibling;
    return table;
  }

  /** All shadows of a guest page, and its `sibling`s. */
  first(gfn: number): ShadowTable | undefined {
    return this.#byGfn.get(gfn);
  }

  /** Protects the table's page if that has not been done. @throws PinionError when the backend cannot; the table is not added then. */
  add(table: ShadowTable): void {
    const first = this.#byGfn.get(table.gfn);
    if (first === undefined) this.#track(table.gfn);
    else if (first.unprotected) this.protect(first);
    table.sibling = first;
    this.#byGfn.set(table.gfn, table);
  }

  /** The counterpart; a table that is not here is left alone. */
  remove(table: ShadowTable): void {
    if (table.gfn === NO_GFN || this.find(table) !== table) return;
    this.#unlink(table);
    this.#unprotected.delete(table);
    if (!table.unprotected && !this.#byGfn.has(table.gfn)) this.untrack(table.gfn);
  }

  /** Lets the guest write to the table's page unseen; the oldest such table is protected again when there are `most`. */
  unprotect(table: ShadowTable, most: number): void {
    const oldest = this.#unprotected.values().next().value;
    if (oldest !== undefined && this.#unprotected.size >= most) this.protect(oldest);
    this.#unprotected.add(table);
    table.unprotected = true;
    this.untrack(table.gfn);
  }

  protect(table: ShadowTable): void {
    this.#track(table.gfn);
    this.#unprotected.delete(table);
    table.unprotected = false;
  }

  untrack(gfn: number): void {
    if (this.#backend.capabilities.pageTrack) this.#backend.disablePageTrack(asGfn(gfn));
  }

  #track(gfn: number): void {
    if (this.#backend.capabilities.pageTrack) this.#backend.enablePageTrack(asGfn(gfn));
  }

  #unlink(table: ShadowTable): void {
    const first = this.#byGfn.get(table.gfn);
    if (first === table) {
      if (table.sibling === undefined) this.#byGfn.delete(table.gfn);
      else this.#byGfn.set(table.gfn, table.sibling);
      return;
    }
    let before = first;
    while (before !== undefined && before.sibling !== table) before = before.sibling;
    if (before !== undefined) before.sibling = table.sibling;
  }
}
