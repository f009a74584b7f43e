import { asGfn, type FrameRange, type Gfn, type Log, PinionError, rangeHolds, rangesOverlap } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { FaultLog, Source } from '../faults.js';
import { FewWarnings } from '../few-warnings.js';
import type { HypervisorBackend } from '../hypervisor/backend.js';
import type { PagedAccess } from '../paged-access.js';
import type { Quirks } from '../quirks.js';
import { ENTRIES, PAGES_2M, rootFrame } from './entry-format.js';
import { Mm, type MmOwner, type PpgttMm, type PpgttRoot, rootKey } from './mm.js';
import { PpgttMemory, type WalkEnd, walk } from './ppgtt-memory.js';
import { KIND, type ShadowTable } from './shadow-table.js';
import { Shadower } from './shadower.js';
import { onGuestWrite } from './write-trap.js';

/** Tables of one vGPU; 4096 lead to 8 GiB of small pages. A guest that fills all of them keeps everybody waiting for about a second. */
const MAX_TABLES = 4096;
/** Roots that a guest uses at once, shadowed or not. */
const MAX_MMS = 16384;

/** How per-process tables are shadowed. */
export interface PpgttOptions {
  /** Shadow tables at most, of 14 KiB each; default 4096. When they run out, the table used longest ago gives up its shadow. */
  readonly maxTables?: number;
  /**
   * Lets the guest write to a table of pages unseen once it was trapped there `after` times; it is compared before the next dispatch.
   * At most `most` tables at once. Default: every write is trapped.
   */
  readonly outOfSync?: { readonly after: number; readonly most: number };
}

/** What the tables of a vGPU work with. */
export interface PpgttParts {
  readonly backend: HypervisorBackend;
  readonly faults: FaultLog;
  readonly log: Log;
  readonly quirks: Quirks;
  /** Whether the guest has switched 64 KiB pages on. */
  readonly ipsEnabled: () => boolean;
  /** Whether the vGPU emulates nothing any more; trapped pages are then let go. */
  readonly failsafe: () => boolean;
  readonly options?: PpgttOptions | undefined;
}

/** Counters for printouts and tests. */
export interface PpgttStats {
  readonly mms: number;
  /** Those that have a shadow now. */
  readonly shadowed: number;
  /** Shadow tables in use, and the guest pages they stand for. */
  readonly tables: number;
  readonly guestPages: number;
  /** Of these, the ones that the guest may write to unseen. */
  readonly unprotected: number;
  /** Mappings held by shadow entries; one of 2 MiB counts once. */
  readonly mapped: number;
}

/**
 * The per-process tables of one vGPU: what a guest's tables say, as shadow tables that lead to held pages. A guest announces a table by
 * its root, or a context names it; equal roots are one mm. Shadows follow the guest by trapped writes where the hypervisor has
 * them, else every table of an mm is compared when it is pinned. Whatever a guest writes, the worst is an entry that leads to scratch.
 * Source: i915 gvt gtt.c.
 */
export class Ppgtt implements MmOwner {
  readonly #parts: PpgttParts;
  readonly #shadower: Shadower;
  readonly #warnings: FewWarnings;
  readonly #mms = new Map<string, Mm>();
  /** Those with a shadow, pinned longest ago first. */
  readonly #recent = new Set<Mm>();
  /** Counts the pins that compared tables. */
  #epoch = 0;
  readonly #end: WalkEnd = { table: undefined, index: 0, level: 0 };

  constructor(parts: PpgttParts) {
    this.#parts = parts;
    this.#warnings = new FewWarnings(parts.log);
    this.#shadower = new Shadower({
      ...parts,
      maxTables: parts.options?.maxTables ?? MAX_TABLES,
      reclaim: () => this.#reclaim(),
    });
  }

  get stats(): PpgttStats {
    const { pool, tables, pages } = this.#shadower;
    return {
      mms: this.#mms.size,
      shadowed: this.#recent.size,
      tables: pool.used,
      guestPages: tables.pages,
      unprotected: tables.unprotected,
      mapped: pages.mapped,
    };
  }

  /**
   * The mm of that root with one more reference; a new one is shadowed at once.
   * @throws PinionError GVT_PPGTT_ROOT (EFAULT), GVT_HUGE_ENTRY (EINVAL), GVT_NO_TABLES, GVT_TOO_MANY_MMS (ENOMEM); there is no mm then.
   */
  acquire(root: PpgttRoot): PpgttMm {
    const mm = this.#obtain(root);
    mm.refs += 1;
    return mm;
  }

  /** Gives back what `acquire` returned; the last reference ends the mm. One that a reset has ended already is left alone. */
  release(mm: PpgttMm): void {
    if (!(mm instanceof Mm) || mm.refs === 0) return;
    mm.refs -= 1;
    if (mm.refs + mm.guestRefs === 0) this.#destroy(mm);
  }

  /** The guest announces a table. @throws PinionError as `acquire`. Source: VGT_G2V_PPGTT_L3_PAGE_TABLE_CREATE and L4. */
  createByRoot(root: PpgttRoot): void {
    this.#obtain(root).guestRefs += 1;
  }

  /**
   * The guest takes an announcement back; workloads that use the table keep it until they end.
   * @throws PinionError GVT_NO_MM (EINVAL) when it has not announced such a table.
   */
  destroyByRoot(root: PpgttRoot): void {
    const mm = this.#mms.get(rootKey(root));
    if (mm === undefined || mm.guestRefs === 0) throw gvtErrors.NO_MM({ root: rootKey(root) });
    mm.guestRefs -= 1;
    if (mm.refs + mm.guestRefs === 0) this.#destroy(mm);
  }

  /** Every shadow goes; the mms stay and are shadowed anew when they are pinned. For a reset of the engines. */
  invalidateAll(): void {
    for (const mm of [...this.#recent]) this.#invalidate(mm);
  }

  /** Every mm ends, whoever still has references. For a reset of the device, and for close. */
  destroyAll(): void {
    for (const mm of [...this.#mms.values()]) this.#destroy(mm);
    this.#shadower.pool.trim();
    this.#shadower.pages.reset();
    this.#warnings.reset();
  }

  /**
   * The guest wrote `bytes` at `gpa`, into a page that is a table; they are in memory already. 8 aligned bytes take effect at once, 4 take the
   * entry away until it is read whole before the next dispatch.
   * @throws PinionError GVT_NOT_TRACKED (ENXIO); GVT_TRACK_ACCESS (EINVAL) for any other size, whose entries are read again likewise;
   * GVT_HUGE_ENTRY (EINVAL), GVT_NO_TABLES (ENOMEM): the entry leads to scratch and is tried again before the next dispatch.
   */
  guestWrite(gpa: bigint, bytes: Uint8Array): void {
    const { failsafe, options } = this.#parts;
    onGuestWrite(this.#shadower, { gpa, bytes, failsafe: failsafe(), outOfSync: options?.outOfSync });
  }

  /** As `guestWrite`; what is refused is the guest's loss and a line in the log, a few times. */
  hear(gpa: bigint, bytes: Uint8Array): void {
    try {
      this.guestWrite(gpa, bytes);
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      this.#warnings.warn('PPGTT: a write to a table was refused', cause);
    }
  }

  /**
   * Guest memory `range` goes away: no shadow leads into it any more, and no page in it is a table any more. References are not dropped:
   * the backend releases those mappings whatever their references. An mm whose root was there has no shadow until it is pinned again.
   */
  scrub(range: FrameRange<number>): void {
    for (const mm of [...this.#recent]) if (mm.tables.some((table) => isIn(range, table))) this.#invalidate(mm);
    for (const table of this.#shadower.pool.all)
      if (table.refs > 0 && table.level > 1) this.#detachTables(table, range);
    this.scrubPages(range);
  }

  /** As `scrub`, of pages alone: tables that stand in the range stay tables. */
  scrubPages(range: FrameRange<number>): void {
    for (const table of this.#shadower.pool.all) {
      const reach = table.level === 1 ? 0 : PAGES_2M - 1;
      if (table.refs > 0 && table.lowest <= range.last && table.highest + reach >= range.first)
        this.#forgetPages(table, range, reach);
    }
  }

  pin(mm: Mm): void {
    if (mm.gone) throw gvtErrors.MM_GONE({ root: mm.key });
    mm.pins += 1;
    try {
      if (!mm.shadowed) this.#shadow(mm);
      this.#recent.delete(mm);
      this.#recent.add(mm);
      this.#sync(mm);
    } catch (cause) {
      this.unpin(mm);
      throw cause;
    }
  }

  unpin(mm: Mm): void {
    if (mm.pins === 0) return;
    mm.pins -= 1;
    if (mm.pins === 0) this.#shadower.generation += 1;
  }

  memory(mm: Mm, source: Source): PagedAccess {
    const { backend, faults } = this.#parts;
    return new PpgttMemory({ mm, shadower: this.#shadower, backend, faults, source });
  }

  translate(mm: Mm, address: number): Gfn | undefined {
    const page = Math.floor(address / 4096);
    if (page < 0 || page >= (mm.root.levels === 4 ? 2 ** 36 : 2 ** 20)) return undefined;
    const end = this.#end;
    walk(mm, page, end);
    if (end.table?.pageAt(end.index) === undefined) return undefined;
    const gfn = end.table.frames[end.index] ?? 0;
    return asGfn(end.table.kinds[end.index] === KIND.LARGE ? gfn + (page % PAGES_2M) : gfn);
  }

  #obtain(root: PpgttRoot): Mm {
    const known = this.#mms.get(rootKey(root));
    if (known !== undefined) return known;
    if (this.#mms.size >= MAX_MMS) throw gvtErrors.TOO_MANY_MMS({ most: MAX_MMS });
    const mm = new Mm(this, root);
    this.#shadow(mm);
    this.#mms.set(mm.key, mm);
    return mm;
  }

  /** Until all of it stands there is nothing to reclaim from it. */
  #shadow(mm: Mm): void {
    const { levels, pdps } = mm.root;
    const taken: ShadowTable[] = [];
    try {
      mm.tables = pdps.slice(0, levels === 4 ? 1 : 4).map((pdp) => {
        if (pdp === 0) return undefined;
        const table = this.#shadower.take({ gfn: rootFrame(pdp), level: levels === 4 ? 4 : 2, ips: false });
        if (table === undefined) throw gvtErrors.PPGTT_ROOT({ address: pdp });
        taken.push(table);
        return table;
      });
    } catch (cause) {
      for (const table of taken) this.#shadower.put(table);
      throw cause;
    }
    mm.shadowed = true;
    this.#recent.add(mm);
  }

  #invalidate(mm: Mm): void {
    const { tables } = mm;
    mm.tables = [];
    mm.shadowed = false;
    this.#recent.delete(mm);
    this.#shadower.generation += 1;
    for (const table of tables) if (table !== undefined) this.#shadower.put(table);
  }

  #destroy(mm: Mm): void {
    this.#invalidate(mm);
    this.#mms.delete(mm.key);
    mm.gone = true;
    mm.refs = 0;
    mm.guestRefs = 0;
  }

  #reclaim(): boolean {
    for (const mm of this.#recent) {
      if (mm.pins > 0) continue;
      this.#warnings.warn(`PPGTT ${mm.key}: shadow given up, its tables are needed elsewhere; maxTables is small`);
      this.#invalidate(mm);
      return true;
    }
    return false;
  }

  /** What another mm cannot have is none of this one's business. */
  #sync(mm: Mm): void {
    const shadower = this.#shadower;
    this.#epoch += 1;
    if (!this.#parts.backend.capabilities.pageTrack) {
      for (const table of mm.tables) if (table !== undefined) this.#compareBelow(table);
      return;
    }
    const refusals = new Map<ShadowTable, PinionError>();
    for (const table of [...shadower.stale]) {
      if (!shadower.stale.has(table)) continue;
      if (table.unprotected) shadower.tables.protect(table);
      const refusal = shadower.compare(table);
      if (refusal === undefined) continue;
      if (!(refusal instanceof PinionError)) throw refusal;
      refusals.set(table, refusal);
    }
    const own = refusals.size === 0 ? undefined : this.#findBelow(mm.tables, refusals, new Set());
    if (own !== undefined) throw own;
  }

  /** Directories first: what they lead to may be another table afterwards, which may have been shadowed long ago. */
  #compareBelow(table: ShadowTable): void {
    const shadower = this.#shadower;
    if (table.epoch === this.#epoch) return;
    table.epoch = this.#epoch;
    const refusal = shadower.compare(table);
    if (refusal !== undefined) throw refusal;
    if (table.level === 1) return;
    for (let index = 0; index < ENTRIES; index++) {
      const child = table.kinds[index] === KIND.TABLE ? table.child(index) : undefined;
      if (child !== undefined) this.#compareBelow(child);
    }
  }

  /** The refusal of a table that `tables` lead to. Each is looked at once, however many entries lead to it. */
  #findBelow(
    tables: readonly (ShadowTable | undefined)[],
    refusals: ReadonlyMap<ShadowTable, PinionError>,
    seen: Set<ShadowTable>,
  ): PinionError | undefined {
    for (const table of tables) {
      if (table === undefined || seen.has(table)) continue;
      seen.add(table);
      const refusal = this.#shadower.stale.has(table) ? refusals.get(table) : undefined;
      if (refusal !== undefined) return refusal;
      if (table.level === 1) continue;
      const children = Array.from({ length: ENTRIES }, (_, index) => table.child(index));
      const below = this.#findBelow(children, refusals, seen);
      if (below !== undefined) return below;
    }
    return undefined;
  }

  #detachTables(table: ShadowTable, range: FrameRange<number>): void {
    for (let index = 0; index < ENTRIES; index++) {
      if (table.kinds[index] === KIND.TABLE && isIn(range, table.child(index))) this.#shadower.detach(table, index);
    }
  }

  /** `reach`: pages of an entry less one. */
  #forgetPages(table: ShadowTable, range: FrameRange<number>, reach: number): void {
    for (let index = 0; index < ENTRIES; index++) {
      const first = table.frames[index] ?? 0;
      if (table.pageAt(index) !== undefined && rangesOverlap(range, { first, last: first + reach }))
        this.#shadower.forget(table, index);
    }
  }
}

const isIn = (range: FrameRange<number>, table: ShadowTable | undefined): boolean =>
  table !== undefined && rangeHolds(range, table.gfn);
