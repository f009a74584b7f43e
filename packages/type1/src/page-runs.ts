import {
  type AddressSpace,
  asIovaFrame,
  asPfn,
  asVaddrFrame,
  type BackendHost,
  type IommuDomain,
  type Pfn,
  PROT_WRITE,
  type Task,
} from '@pinion/core';
import { checkLimit } from './accounting.js';
import type { Mapping } from './mapping.js';
import type { Type1State } from './state.js';

/** Host-contiguous pages of one class: what one call into a domain maps. */
export interface PageRun {
  /** Index of the first page in its mapping. */
  readonly page: number;
  readonly pfn: Pfn;
  readonly count: number;
}

/** Whose memory and limit a run is taken from. */
export interface PageSource {
  readonly mm: AddressSpace;
  readonly task: Task;
}

/** Pages taken from a domain at once when a mapping goes: unmapped first, given back afterwards. */
const BATCH = 512;

const isNormal = (host: BackendHost, pfn: Pfn): boolean => host.memory.pageClass(pfn) === 'normal';
const writes = (mapping: Mapping): boolean => (mapping.prot & PROT_WRITE) !== 0;

/** Gives one page of a mapping back. @returns 1 if it is one that counts, 0 for reserved and device pages. */
export function putPage(state: Type1State, mapping: Mapping, pfn: Pfn): number {
  if (!isNormal(state.host, pfn)) return 0;
  state.host.memory.unpinPage(pfn, writes(mapping));
  return 1;
}

/** Gives a run back. @returns pages that count. */
function putRun(state: Type1State, mapping: Mapping, run: { pfn: number; count: number }): number {
  let put = 0;
  for (let i = 0; i < run.count; i += 1) put += putPage(state, mapping, asPfn(run.pfn + i));
  return put;
}

/**
 * Pages among first..last of a mapping that were charged when a driver pinned them, not when the mapping took them. `pfnOf`:
 * the frame that the mapping took; one that never counts was not charged by anybody. Source: vfio_unpin_pages_remote().
 */
function chargedByPins(
  state: Type1State,
  mapping: Mapping,
  range: { first: number; last: number; pfnOf: (page: number) => number | undefined },
): number {
  let charged = 0;
  mapping.pins?.forEach(range.first, range.last, (page) => {
    const pfn = range.pfnOf(page);
    if (pfn !== undefined && isNormal(state.host, asPfn(pfn))) charged += 1;
  });
  return charged;
}

/** Takes the pages of one mapping run by run; each run is charged before it is handed out. Source: vfio_pin_pages_remote(). */
export class RunPinner {
  readonly #state: Type1State;
  readonly #mapping: Mapping;
  readonly #source: PageSource;
  /** A page that was taken but belongs to the next run; -1 when there is none. */
  #carried = -1;
  #next = 0;

  constructor(state: Type1State, mapping: Mapping, source: PageSource) {
    this.#state = state;
    this.#mapping = mapping;
    this.#source = source;
  }

  /**
   * The next run, undefined after the last. A run that fails is given back; earlier runs are the caller's.
   * @throws PinionError EFAULT, ENOMEM (also TYPE1_MEMLOCK), EOPNOTSUPP.
   */
  next(): PageRun | undefined {
    const first = this.#next;
    if (first >= this.#mapping.pages) return undefined;
    const run = { pfn: 0, count: 0 };
    const single = this.#state.parameters().disableHugepages;
    let charge = 0;
    try {
      for (let page = first; page < this.#mapping.pages; page += 1) {
        const pfn = this.#take(page);
        if (run.count > 0 && !this.#continues(run, pfn)) {
          this.#carried = pfn;
          break;
        }
        if (run.count === 0) run.pfn = pfn;
        run.count += 1;
        charge += this.#chargeOf(page, pfn, charge);
        if (single) break;
      }
      this.#state.locked.charge(this.#mapping, charge);
    } catch (cause) {
      putRun(this.#state, this.#mapping, run);
      this.abandon();
      throw cause;
    }
    this.#next = first + run.count;
    return { page: first, pfn: asPfn(run.pfn), count: run.count };
  }

  /** Gives back what was taken and not handed out. */
  abandon(): void {
    if (this.#carried >= 0) putPage(this.#state, this.#mapping, asPfn(this.#carried));
    this.#carried = -1;
  }

  #take(page: number): Pfn {
    const carried = this.#carried;
    this.#carried = -1;
    if (carried >= 0) return asPfn(carried);
    return this.#source.mm.pinPage(asVaddrFrame(this.#mapping.vaddr + page), writes(this.#mapping));
  }

  #continues(run: { pfn: number; count: number }, pfn: Pfn): boolean {
    const host = this.#state.host;
    return pfn === run.pfn + run.count && isNormal(host, pfn) === isNormal(host, asPfn(run.pfn));
  }

  /** 1 if this page is to be charged with the run. @throws TYPE1_MEMLOCK against the source's limit. */
  #chargeOf(page: number, pfn: Pfn, already: number): number {
    if (!isNormal(this.#state.host, pfn) || (this.#mapping.pins?.references(page) ?? 0) > 0) return 0;
    if (!this.#mapping.lockCap) checkLimit(this.#source.mm, this.#source.task, already + 1);
    return 1;
  }
}

/**
 * Pins every page of a mapping and maps it into `domains`. All or nothing.
 * @returns nothing; the mapping is not marked `iommuMapped` yet. Source: vfio_pin_map_dma(), vfio_iommu_map().
 */
export function pinAndMap(
  state: Type1State,
  mapping: Mapping,
  source: PageSource,
  domains: readonly IommuDomain[],
): void {
  const pinner = new RunPinner(state, mapping, source);
  let done = 0;
  try {
    for (let run = pinner.next(); run !== undefined; run = pinner.next()) {
      mapRun(state, mapping, run, domains);
      done = run.page + run.count;
    }
  } catch (cause) {
    pinner.abandon();
    unpinMapped(state, mapping, done, domains);
    throw cause;
  }
}

/** Maps one run into every domain, or into none; a run that cannot be mapped is given back. */
function mapRun(state: Type1State, mapping: Mapping, run: PageRun, domains: readonly IommuDomain[]): void {
  const first = asIovaFrame(mapping.first + run.page);
  const mapped: IommuDomain[] = [];
  try {
    for (const domain of domains) {
      domain.map(first, run.pfn, run.count, mapping.prot);
      mapped.push(domain);
    }
  } catch (cause) {
    for (const domain of mapped) domain.unmap(first, run.count);
    const last = run.page + run.count - 1;
    const pfnOf = (page: number): number => run.pfn + page - run.page;
    const charged = chargedByPins(state, mapping, { first: run.page, last, pfnOf });
    state.locked.settle(mapping, charged - putRun(state, mapping, run));
    throw cause;
  }
}

/** Undoes the first `count` pages of a mapping that `pinAndMap` did, charges included. */
export function unpinMapped(state: Type1State, mapping: Mapping, count: number, domains: readonly IommuDomain[]): void {
  if (count === 0) return;
  const pfnOf = (page: number): number | undefined => domains[0]?.lookup(asIovaFrame(mapping.first + page));
  const charged = chargedByPins(state, mapping, { first: 0, last: count - 1, pfnOf });
  state.locked.settle(mapping, charged - unmapPages(state, mapping, count, domains));
}

/**
 * Unmaps the first `count` pages of a mapping from all `domains` and gives the pages back; which they are is asked of the
 * first domain (the page tables are the only record). @returns pages that count. Source: vfio_unmap_unpin().
 */
export function unmapPages(
  state: Type1State,
  mapping: Mapping,
  count: number,
  domains: readonly IommuDomain[],
): number {
  const [truth, ...others] = domains;
  if (truth === undefined || state.neverWalked(mapping, count)) return 0;
  for (const domain of others) domain.unmap(mapping.first, count);
  const batch = new Float64Array(Math.min(BATCH, count));
  let put = 0;
  for (let page = 0; page < count; page += batch.length) {
    const size = Math.min(batch.length, count - page);
    const first = asIovaFrame(mapping.first + page);
    for (let i = 0; i < size; i += 1) batch[i] = truth.lookup(asIovaFrame(first + i)) ?? -1;
    truth.unmap(first, size);
    for (let i = 0; i < size; i += 1) put += putLooked(state, mapping, batch[i] ?? -1);
  }
  return put;
}

function putLooked(state: Type1State, mapping: Mapping, pfn: number): number {
  if (pfn >= 0) return putPage(state, mapping, asPfn(pfn));
  state.host.warn(
    'missing-translation',
    'a mapped page has no translation in the first domain; it cannot be given back',
  );
  return 0;
}

/** Copies a mapping's translations from one domain to another, run by run. Source: vfio_iommu_replay(). */
export function copyTranslations(state: Type1State, mapping: Mapping, from: IommuDomain, to: IommuDomain): void {
  let start = 0;
  let base = -1;
  const flush = (end: number): void => {
    if (base >= 0) to.map(asIovaFrame(mapping.first + start), asPfn(base), end - start, mapping.prot);
  };
  for (let page = 0; page < mapping.pages; page += 1) {
    const pfn = from.lookup(asIovaFrame(mapping.first + page)) ?? -1;
    if (pfn < 0)
      state.host.warn('missing-translation', 'a mapped page has no translation in the first domain; skipped');
    if (base >= 0 && pfn === base + (page - start)) continue;
    flush(page);
    start = page;
    base = pfn;
  }
  flush(mapping.pages);
}
