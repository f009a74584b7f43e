import type { Gfn } from '@pinion/core';
import type { Source } from '../faults.js';
import type { PagedAccess } from '../paged-access.js';
import type { ShadowTable } from './shadow-table.js';

/** What names a guest's per-process table. */
export interface PpgttRoot {
  /** 4: `pdps[0]` is the page of the top level, 48-bit addresses. 3: four pages of directories, 32-bit addresses. */
  readonly levels: 3 | 4;
  /** Guest physical addresses, bytes; one for 4 levels, four for 3, where 0 is none. */
  readonly pdps: readonly number[];
}

/**
 * One guest's per-process table and its shadow. Whoever uses it holds a reference (`Ppgtt.acquire`), and a pin while an engine
 * runs on it: what is pinned is in step with the guest's table as it was at `pin`, and is not reclaimed.
 */
export interface PpgttMm {
  readonly root: PpgttRoot;
  /**
   * Before dispatch: shadows the table if that has not been done, brings tables that the guest wrote to unseen up to date, and
   * finishes entries that were written by halves. Nests.
   * @throws PinionError GVT_PPGTT_ROOT (EFAULT), GVT_HUGE_ENTRY (EINVAL), GVT_NO_TABLES (ENOMEM), GVT_MM_GONE (ENOENT); nothing is
   * pinned then.
   */
  pin(): void;
  /** Undoes one `pin`. */
  unpin(): void;
  /** What `source` reaches through the shadow. Meaningful while pinned; otherwise every access is a fault. */
  memory(source: Source): PagedAccess;
  /** The guest page that the shadow leads to at a graphics address (bytes), pinned or not; undefined where none stands. */
  translate(address: number): Gfn | undefined;
}

/** What an mm asks of the tables it belongs to. */
export interface MmOwner {
  pin(mm: Mm): void;
  unpin(mm: Mm): void;
  memory(mm: Mm, source: Source): PagedAccess;
  translate(mm: Mm, address: number): Gfn | undefined;
}

/** The state of an mm; what happens to it is `Ppgtt`'s. */
export class Mm implements PpgttMm {
  readonly root: PpgttRoot;
  readonly key: string;
  /** Top level (4 levels) or directories (3 levels); absent where a root is zero, all absent while not shadowed. */
  tables: readonly (ShadowTable | undefined)[] = [];
  shadowed = false;
  /** References: those that the guest's notifications took, and those of workloads. */
  guestRefs = 0;
  refs = 0;
  pins = 0;
  /** No longer known by its root. */
  gone = false;
  readonly #owner: MmOwner;
  readonly #accesses = new Map<Source, PagedAccess>();

  constructor(owner: MmOwner, root: PpgttRoot) {
    this.#owner = owner;
    this.root = Object.freeze({ levels: root.levels, pdps: Object.freeze([...root.pdps]) });
    this.key = rootKey(root);
  }

  pin(): void {
    this.#owner.pin(this);
  }

  unpin(): void {
    this.#owner.unpin(this);
  }

  memory(source: Source): PagedAccess {
    const known = this.#accesses.get(source);
    if (known !== undefined) return known;
    const access = this.#owner.memory(this, source);
    this.#accesses.set(source, access);
    return access;
  }

  translate(address: number): Gfn | undefined {
    return this.#owner.translate(this, address);
  }
}

/** Equal for equal roots: a 4-level table is named by its first address alone. */
export const rootKey = ({ levels, pdps }: PpgttRoot): string =>
  levels === 4 ? `4:${pdps[0] ?? 0}` : `3:${[0, 1, 2, 3].map((at) => pdps[at] ?? 0).join()}`;
