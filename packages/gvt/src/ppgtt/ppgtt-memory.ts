import { asPfn, PAGE_SIZE } from '@pinion/core';
import type { FaultLog, Source } from '../faults.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import { PagedAccess } from '../paged-access.js';
import { indexAt, PAGES_2M } from './entry-format.js';
import type { Mm } from './mm.js';
import { KIND, type ShadowTable } from './shadow-table.js';
import type { Shadower } from './shadower.js';

/** Pages whose bytes are at hand without a walk. A power of two. */
const AT_HAND = 256;
/** Equal to no page at all. */
const NO_PAGE = Number.NaN;

/** Bytes of the address space of a table with so many levels. */
const SPACE = { 3: 2 ** 32, 4: 2 ** 48 } as const;

/** Where a walk ended: at an entry that is a page, or at one that leads nowhere (`table` undefined: above all tables). */
export interface WalkEnd {
  table: ShadowTable | undefined;
  index: number;
  /** Level of the last entry that was read. */
  level: number;
}

/** Follows the shadow from the root to the entry for a graphics page (address / 4096). At most four steps. */
export function walk(mm: Mm, page: number, end: WalkEnd): void {
  const { levels } = mm.root;
  end.level = levels;
  end.index = levels === 4 ? 0 : page >>> 18;
  end.table = mm.tables[end.index];
  let table = end.table;
  while (table !== undefined) {
    const index = indexAt(table.level, page);
    end.table = table;
    end.index = index;
    end.level = table.level;
    table = table.child(index);
  }
}

/** What an access is made with. */
export interface PpgttMemoryParts {
  readonly mm: Mm;
  readonly shadower: Shadower;
  readonly backend: HypervisorBackend;
  readonly faults: FaultLog;
  readonly source: Source;
}

/**
 * Graphics memory through the shadow of a per-process table, into the real pages. A page that was looked up stays at hand until any
 * shadow changes. A write to a page whose entry is read-only is a fault and vanishes.
 */
export class PpgttMemory extends PagedAccess {
  readonly #parts: PpgttMemoryParts;
  readonly #size: number;
  readonly #pages = new Float64Array(AT_HAND).fill(NO_PAGE);
  readonly #writable = new Uint8Array(AT_HAND);
  readonly #views = new Array<Uint8Array | undefined>(AT_HAND);
  readonly #end: WalkEnd = { table: undefined, index: 0, level: 0 };
  #generation = -1;

  constructor(parts: PpgttMemoryParts) {
    super();
    this.#parts = parts;
    this.#size = SPACE[parts.mm.root.levels];
  }

  owns(first: number, last: number): boolean {
    return first >= 0 && first <= last && last < this.#size;
  }

  page(address: number, write: boolean): Uint8Array | undefined {
    const { shadower } = this.#parts;
    if (this.#generation !== shadower.generation) {
      this.#pages.fill(NO_PAGE);
      this.#generation = shadower.generation;
    }
    const page = Math.floor(address / PAGE_SIZE);
    const slot = page & (AT_HAND - 1);
    if (this.#pages[slot] !== page && !this.#lookUp(page, slot)) return this.#fault(address, write);
    if (write && this.#writable[slot] === 0) return this.#fault(address, write);
    return this.#views[slot];
  }

  #lookUp(page: number, slot: number): boolean {
    const { mm } = this.#parts;
    const end = this.#end;
    end.level = mm.root.levels;
    if (mm.pins === 0 || page < 0 || page >= this.#size / PAGE_SIZE) return false;
    walk(mm, page, end);
    const view = end.table === undefined ? undefined : this.#bytes(end.table, page);
    if (view === undefined) return false;
    this.#pages[slot] = page;
    this.#writable[slot] = end.table?.writable[end.index] ?? 0;
    this.#views[slot] = view;
    return true;
  }

  #bytes(table: ShadowTable, page: number): Uint8Array | undefined {
    const { index } = this.#end;
    const dma = table.pageAt(index);
    if (dma === undefined) return undefined;
    const { backend } = this.#parts;
    if (table.kinds[index] === KIND.LARGE) return backend.bytes(asPfn(dma + (page % PAGES_2M)));
    const known = table.view(index);
    if (known !== undefined) return known;
    const view = backend.bytes(asPfn(dma));
    table.keepView(index, view);
    return view;
  }

  #fault(address: number, write: boolean): undefined {
    const { faults, source } = this.#parts;
    faults.record({ source, address, write, table: 'ppgtt', level: this.#end.level });
  }
}
