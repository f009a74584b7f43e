import { type Log, type PinionError, silentLog } from '@pinion/core';
import type { DmaDevice } from '../device.js';
import { ATTR, type Attributes, formatDirection } from '../direction.js';
import type { Dma } from '../dma.js';
import { dmaErrors } from '../errors.js';
import { Cachelines, MAX_OVERLAP } from './cachelines.js';
import { CheckedDma } from './checked-dma.js';
import { type DebugEntry, detailsOf, type EntryReference, EntryTable } from './entries.js';
import { dmaDebugErrors } from './reports.js';

export interface DmaDebugOptions {
  /** Entries that are there from the start. Default 65536. */
  readonly entries?: number;
  /** Entries beyond which the debugger switches itself off. Default: none. Equal to `entries`: as older kernels, which never grew. */
  readonly most?: number;
  /** Told what is shown, see `showAll` and `showNum`. Default: nobody; `reports` has everything. */
  readonly log?: Log;
  /** Bouncing is in use: overlaps are then no error. Default false. */
  readonly bounced?: boolean;
  /** Remember where each mapping was made. Slow. Default false. */
  readonly stacks?: boolean;
}

/** Counters. */
export interface DmaDebugCounters {
  readonly errors: number;
  readonly entries: number;
  readonly free: number;
  readonly minFree: number;
  readonly total: number;
  readonly cachelines: number;
}

const MOST_REPORTS = 10_000;

/**
 * Watches mappings and says which rule of the DMA API a driver broke. Every check has a report of its own (`dmaDebugErrors`);
 * reports are collected, the call goes on as without the debugger. Wrap any driver's `Dma` with `watch`. Source: kernel/dma/debug.c.
 */
export class DmaDebug {
  /** What was found, oldest first: the first 10 000; `counters.errors` counts all. */
  readonly reports: PinionError[] = [];
  /** Show everything, or only the first `showNum`. */
  showAll = false;
  showNum = 1;
  /** Show only what drivers of this name do; undefined: all. All is counted. */
  driverFilter: string | undefined;
  readonly #table: EntryTable;
  readonly #lines = new Cachelines();
  readonly #log: Log;
  readonly #bounced: boolean;
  readonly #stacks: boolean;
  #disabled = false;
  #errors = 0;

  /** @throws DMA_BAD_OPTION (EINVAL). */
  constructor(options: DmaDebugOptions = {}) {
    const entries = options.entries ?? 65536;
    const most = options.most ?? Number.POSITIVE_INFINITY;
    if (!Number.isSafeInteger(entries) || entries < 1 || most < entries) {
      throw dmaErrors.BAD_OPTION({ option: 'entries', problem: `${entries} entries, at most ${most}` });
    }
    this.#table = new EntryTable({ entries, most });
    this.#log = options.log ?? silentLog;
    this.#bounced = options.bounced ?? false;
    this.#stacks = options.stacks ?? false;
  }

  /** Out of entries: nothing is checked any more. */
  get disabled(): boolean {
    return this.#disabled;
  }
  get counters(): DmaDebugCounters {
    const { used, free, minFree, total } = this.#table;
    return { errors: this.#errors, entries: used, free, minFree, total, cachelines: this.#lines.size };
  }

  /** The same DMA API, watched. */
  watch(dma: Dma): Dma {
    return new CheckedDma(dma, this);
  }

  /** Live mappings, of all devices or one, oldest first per bucket. */
  dump(device?: DmaDevice): readonly DebugEntry[] {
    return [...this.#table.all(device)];
  }

  /** A driver leaves a device: what it left mapped is a leak. @returns the number of mappings it left. */
  release(device: DmaDevice): number {
    if (this.#disabled) return 0;
    const left = this.dump(device);
    const [first] = left;
    if (first !== undefined) {
      this.report(device, dmaDebugErrors.PENDING({ ...detailsOf(first), count: left.length, mapped: nameOf(first) }));
    }
    return left.length;
  }

  /** @throws the first report there is. */
  assertClean(): void {
    const [first] = this.reports;
    if (first !== undefined) throw first;
  }

  /** Books a report and shows it if it is to be shown. */
  report(device: DmaDevice, report: PinionError): void {
    this.#errors += 1;
    if (this.reports.length < MOST_REPORTS) this.reports.push(report);
    const wanted = this.driverFilter === undefined || this.driverFilter === device.driver;
    if (wanted && (this.showAll || this.showNum > 0)) this.#log.warn(report.toString());
    if (!this.showAll && this.showNum > 0) this.showNum -= 1;
  }

  /** Books a mapping. */
  add(entry: DebugEntry, attributes: Attributes): void {
    if (this.#disabled) return;
    if (this.#stacks) entry.stack = new RangeError('mapped here').stack;
    if (!this.#table.add(entry)) {
      this.#disabled = true;
      this.report(entry.device, dmaDebugErrors.OUT_OF_ENTRIES({ entries: this.#table.total }));
      return;
    }
    if (entry.type === 'resource') return; // registers have no cachelines
    const overlap = this.#lines.add(entry);
    if (overlap === 'too many')
      this.report(entry.device, dmaDebugErrors.OVERLAP_LIMIT({ ...detailsOf(entry), limit: MAX_OVERLAP }));
    const forgiven = (attributes & ATTR.SKIP_CPU_SYNC) !== 0 || this.#bounced || entry.type === 'coherent';
    if (overlap !== 'none' && !forgiven) this.report(entry.device, dmaDebugErrors.OVERLAP(detailsOf(entry)));
  }

  /** Checks an unmap and forgets the mapping. `pfn`: the page of coherent memory. */
  remove(reference: EntryReference & { readonly pfn?: number }, failedAddress: boolean): void {
    if (this.#disabled) return;
    const entry = this.#table.find(reference);
    const details = detailsOf(reference);
    if (entry === undefined) {
      const report = failedAddress ? dmaDebugErrors.FREE_ERROR_ADDRESS(details) : dmaDebugErrors.FREE_UNKNOWN(details);
      this.report(reference.device, report);
      return;
    }
    for (const report of unmapReports(entry, reference)) this.report(reference.device, report);
    if (entry.type !== 'resource') this.#lines.remove(entry);
    this.#table.remove(entry);
  }

  /** Checks a sync. */
  sync(reference: EntryReference, toCpu: boolean): void {
    if (this.#disabled) return;
    const report = syncReport(this.#table, reference, toCpu);
    if (report !== undefined) this.report(reference.device, report);
  }

  /** The driver tested the result of a map. */
  tested(device: DmaDevice, dma: bigint): void {
    const entry = this.#table.findUnchecked(device, dma);
    if (entry !== undefined) entry.checked = true;
  }

  /** Segments that the list had which begins at that address, as map returned; undefined: nobody knows. */
  mappedNents(reference: EntryReference): number | undefined {
    return this.#table.find(reference)?.mappedNents;
  }
}

const nameOf = (entry: EntryReference): string => `${entry.type}, ${formatDirection(entry.direction)}`;

function unmapReports(
  entry: DebugEntry,
  reference: EntryReference & { readonly pfn?: number },
): readonly PinionError[] {
  const details = detailsOf(reference);
  const reports: PinionError[] = [];
  if (entry.size !== reference.size) {
    reports.push(
      dmaDebugErrors.FREE_SIZE({ ...details, mapped: `${entry.size} bytes`, used: `${reference.size} bytes` }),
    );
  }
  if (entry.type !== reference.type) {
    reports.push(dmaDebugErrors.FREE_FUNCTION({ ...details, mapped: entry.type, used: reference.type }));
  } else if (entry.type === 'coherent' && entry.pfn !== reference.pfn) {
    reports.push(
      dmaDebugErrors.FREE_CPU_ADDRESS({ ...details, mapped: `frame ${entry.pfn}`, used: `frame ${reference.pfn}` }),
    );
  }
  if (reference.type === 'list' && entry.callNents !== reference.callNents) {
    const [mapped, used] = [`${entry.callNents} entries`, `${reference.callNents} entries`];
    reports.push(dmaDebugErrors.FREE_NENTS({ ...details, mapped, used }));
  }
  if (entry.direction !== reference.direction) {
    const [mapped, used] = [formatDirection(entry.direction), formatDirection(reference.direction)];
    reports.push(dmaDebugErrors.FREE_DIRECTION({ ...details, mapped, used }));
  }
  if (!entry.checked) reports.push(dmaDebugErrors.MAP_UNCHECKED(details));
  return reports;
}

function syncReport(table: EntryTable, reference: EntryReference, toCpu: boolean): PinionError | undefined {
  const details = detailsOf(reference);
  const entry = table.findAround(reference);
  if (entry === undefined) {
    const start = table.findStart(reference);
    if (start === undefined) return dmaDebugErrors.SYNC_UNKNOWN(details);
    return dmaDebugErrors.SYNC_OUTSIDE({ ...details, mapped: `${start.size} bytes`, used: `${reference.size} bytes` });
  }
  const both = { ...details, mapped: formatDirection(entry.direction), used: formatDirection(reference.direction) };
  if (entry.direction !== 0) {
    if (toCpu && entry.direction === 1 && reference.direction !== 1) return dmaDebugErrors.SYNC_READ_ONLY(both);
    if (!toCpu && entry.direction === 2 && reference.direction !== 2) return dmaDebugErrors.SYNC_WRITE_ONLY(both);
    if (entry.direction !== reference.direction) return dmaDebugErrors.SYNC_DIRECTION(both);
  }
  if (reference.type === 'list' && entry.callNents !== reference.callNents) {
    const [mapped, used] = [`${entry.callNents} entries`, `${reference.callNents} entries`];
    return dmaDebugErrors.SYNC_NENTS({ ...details, mapped, used });
  }
  return undefined;
}
