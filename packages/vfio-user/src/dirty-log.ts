import { ADDRESS_SPACE_SIZE, type Container, DIRTY_FLAG, PAGE_SHIFT, PAGE_SIZE } from '@pinion/core';
import type { DmaEntry, Owner } from './dma-entry.js';
import { vfioUserErrors } from './errors.js';
import type { DmaLogging, DmaReport } from './feature-messages.js';
import type { LoggingRange } from './structs.js';

const PAGE = BigInt(PAGE_SIZE);

/** The most bytes of mappings together while a log is on: their bits fill 256 MiB, and a look at all of them takes a fraction of a second. */
const MAX_LOGGED = 1n << 43n;

/** One connection's log. */
interface Log {
  readonly pageSize: bigint;
  /** Ascending, apart from each other; none: everything. */
  readonly ranges: readonly LoggingRange[];
  /** Pages that were written and not reported to this one yet: a bit for each page of a mapping, LSB first. */
  readonly pending: Map<DmaEntry, Uint8Array>;
}

/** Bytes of a bitmap of `bits` bits: whole 64-bit words. */
export const bitmapSize = (bits: bigint): bigint => ((bits + 63n) / 64n) * 8n;

/**
 * Which pages devices wrote, for the clients that want to know. The container's backend keeps the books and forgets what it was asked
 * for; so what it says is kept here for each connection until that one asks.
 */
export class DirtyLog {
  readonly #container: Container;
  readonly #entries: () => Iterable<DmaEntry>;
  readonly #bytes: () => bigint;
  readonly #logs = new Map<Owner, Log>();

  /** `entries`: the mappings that there are. `bytes`: how much they are together. */
  constructor(container: Container, entries: () => Iterable<DmaEntry>, bytes: () => bigint) {
    this.#container = container;
    this.#entries = entries;
    this.#bytes = bytes;
  }

  /** Whether the backend keeps such books. */
  get supported(): boolean {
    return this.#container.backend?.dirty !== undefined;
  }

  /** Whether anybody wants to know. */
  get active(): boolean {
    return this.#logs.size > 0;
  }

  logs(owner: Owner): boolean {
    return this.#logs.has(owner);
  }

  /**
   * Before a mapping of `size` bytes is made. A mapping without memory costs its client nothing, its bits would cost us.
   * @throws VFIOUSER_BAD_FEATURE (EINVAL) if a log is on and there would be more than 8 TiB of mappings.
   */
  checkRoom(size: bigint): void {
    if (this.active) this.#checkBytes(this.#bytes() + size);
  }

  #checkBytes(bytes: bigint): void {
    if (bytes > MAX_LOGGED) throw bad(`${bytes} bytes of mappings; with a log there may be ${MAX_LOGGED}`);
  }

  /**
   * From now on writes are kept for `owner`. A second time with the same arguments nothing happens.
   * @throws VFIOUSER_BAD_FEATURE (EINVAL), and the backend's.
   */
  start(owner: Owner, { pageSize, ranges }: DmaLogging): void {
    checkPageSize(pageSize);
    const sorted = [...ranges].sort((a, b) => (a.iova < b.iova ? -1 : 1));
    checkRanges(sorted, pageSize);
    const there = this.#logs.get(owner);
    if (there !== undefined) {
      if (there.pageSize === pageSize && sameRanges(there.ranges, sorted)) return;
      throw bad('it is on, with other arguments');
    }
    this.#checkBytes(this.#bytes());
    if (this.#logs.size === 0) this.#container.dirty({ flags: DIRTY_FLAG.START });
    else this.#harvest([...this.#entries()]); // what was written before is the others' alone
    this.#logs.set(owner, { pageSize, ranges: sorted, pending: new Map() });
  }

  /** What was kept for `owner` is forgotten. A second time nothing happens. */
  stop(owner: Owner): void {
    if (this.#logs.delete(owner) && this.#logs.size === 0 && this.#container.backend !== undefined) {
      this.#container.dirty({ flags: DIRTY_FLAG.STOP });
    }
  }

  /**
   * The pages of a range that were written since `owner` asked last, a bit for each, LSB first, in whole 64-bit words. Where nothing is mapped
   * nothing was written. @throws VFIOUSER_BAD_FEATURE (EINVAL) for a range that is none, or if `owner` has not started.
   */
  report(owner: Owner, { iova, length, pageSize }: Omit<DmaReport, 'bits'>): Uint8Array {
    const log = this.#logs.get(owner);
    if (log === undefined) throw bad('it is not on');
    checkPageSize(pageSize);
    if (length === 0n || iova % pageSize !== 0n || iova + length > ADDRESS_SPACE_SIZE) throw bad('the range is none');
    const inside = [...this.#entries()].filter(
      ({ address, size, owners }) => owners.has(owner) && address < iova + length && iova < address + size,
    );
    this.#harvest(inside);
    const bits = new Uint8Array(Number(bitmapSize((length + pageSize - 1n) / pageSize)));
    for (const entry of inside) take(log, entry, { iova, length, pageSize }, bits);
    return bits;
  }

  /** The bitmap of a mapping that was just taken away from `owner`. @throws as `report`. */
  last(owner: Owner, entry: DmaEntry, pageSize: bigint): Uint8Array {
    const log = this.#logs.get(owner);
    if (log === undefined) throw bad('it is not on');
    const { address: iova, size: length } = entry;
    const bits = new Uint8Array(Number(bitmapSize((length + pageSize - 1n) / pageSize)));
    take(log, entry, { iova, length, pageSize }, bits);
    return bits;
  }

  /** A device wrote by messages: the backend does not know. */
  wrote(entry: DmaEntry, at: bigint, length: number): void {
    const first = Number((at - entry.address) >> BigInt(PAGE_SHIFT));
    const last = Number((at + BigInt(length) - 1n - entry.address) >> BigInt(PAGE_SHIFT));
    for (const { pending } of this.#logs.values()) {
      const bits = pendingOf(pending, entry);
      for (let page = first; page <= last; page += 1) bits[page >>> 3] = (bits[page >>> 3] ?? 0) | (1 << (page & 7));
    }
  }

  /** Keeps the bits that the backend gave for a mapping, for everybody. */
  keep(entry: DmaEntry, data: Uint8Array): void {
    const words = wordsOf(data);
    let first = 0;
    while (first < words.length && words[first] === 0) first += 1;
    if (first === words.length) return;
    for (const { pending } of this.#logs.values()) {
      const bits = wordsOf(pendingOf(pending, entry));
      for (let n = first; n < words.length; n += 1) {
        const word = words[n] ?? 0;
        if (word !== 0) bits[n] = (bits[n] ?? 0) | word; // why: a page of zeros that is not written to costs no memory
      }
    }
  }

  /** Keeps what the backend knows of a mapping. */
  refresh(entry: DmaEntry): void {
    if (this.active) this.#harvest([entry]);
  }

  /** A mapping is gone, for all or for one, and was reported to whom it concerned. */
  forget(entry: DmaEntry, owner?: Owner): void {
    if (owner !== undefined) this.#logs.get(owner)?.pending.delete(entry);
    else for (const { pending } of this.#logs.values()) pending.delete(entry);
  }

  /** Asks the backend about whole mappings, so that it forgets nothing that is not kept here. */
  #harvest(entries: readonly DmaEntry[]): void {
    for (const entry of entries) {
      const { address: iova, size } = entry;
      const bitmap = bitmapOf(entry);
      this.#container.dirty({ flags: DIRTY_FLAG.GET_BITMAP, iova, size, bitmap });
      this.keep(entry, bitmap.data);
    }
  }
}

/** Room for the bits of a mapping's pages. */
export function bitmapOf({ size }: DmaEntry): { pgsize: bigint; size: bigint; data: Uint8Array } {
  const bytes = bitmapSize(size / PAGE);
  return { pgsize: PAGE, size: bytes, data: new Uint8Array(Number(bytes)) };
}

function pendingOf(pending: Map<DmaEntry, Uint8Array>, entry: DmaEntry): Uint8Array {
  const there = pending.get(entry);
  if (there !== undefined) return there;
  const bits = new Uint8Array(Number(bitmapSize(entry.size / PAGE)));
  pending.set(entry, bits);
  return bits;
}

/** Bits of a mapping as 32-bit words; they are whole 64-bit ones. */
const wordsOf = (bits: Uint8Array): Uint32Array => new Uint32Array(bits.buffer, bits.byteOffset, bits.length / 4);

/** Moves what is pending of a mapping, inside a range, into a report. */
function take(log: Log, entry: DmaEntry, range: Omit<DmaReport, 'bits'>, report: Uint8Array): void {
  const pending = log.pending.get(entry);
  if (pending === undefined) return;
  const { iova, length, pageSize } = range;
  const shift = BigInt(PAGE_SHIFT);
  // why differences: page numbers reach 2^52, where sums of numbers are not exact everywhere.
  const lead = Number((entry.address - iova) >> shift);
  const first = Math.max(0, -lead);
  const end = Math.min(Number(entry.size >> shift), Number((iova + length + PAGE - 1n - entry.address) >> shift));
  const scale = Number(pageSize >> shift);
  for (let page = first; page < end; page += 1) {
    const byte = pending[page >>> 3] ?? 0;
    if (byte === 0) {
      page |= 7; // why: a byte of clean pages is passed over at once
    } else if ((byte & (1 << (page & 7))) !== 0 && isLogged(log.ranges, entry.address + (BigInt(page) << shift))) {
      pending[page >>> 3] = byte & ~(1 << (page & 7));
      const bit = Math.floor((lead + page) / scale);
      report[bit >>> 3] = (report[bit >>> 3] ?? 0) | (1 << (bit & 7));
    }
  }
}

function isLogged(ranges: readonly LoggingRange[], address: bigint): boolean {
  if (ranges.length === 0) return true;
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range === undefined) return false;
    if (address < range.iova) high = middle - 1;
    else if (address >= range.iova + range.length) low = middle + 1;
    else return true;
  }
  return false;
}

/** @throws VFIOUSER_BAD_FEATURE (EINVAL). Source: vfio_ioctl_device_feature_logging_start(). */
export function checkPageSize(pageSize: bigint): void {
  if (pageSize < PAGE || (pageSize & (pageSize - 1n)) !== 0n) throw bad('a page size is a power of two from 4096 on');
}

function checkRanges(sorted: readonly LoggingRange[], pageSize: bigint): void {
  let end = 0n;
  for (const { iova, length } of sorted) {
    const aligned = iova % pageSize === 0n && length % pageSize === 0n;
    if (length === 0n || !aligned || iova + length > ADDRESS_SPACE_SIZE) throw bad('a range that is none');
    if (iova < end) throw bad('ranges that overlap');
    end = iova + length;
  }
}

const sameRanges = (a: readonly LoggingRange[], b: readonly LoggingRange[]): boolean =>
  a.length === b.length && a.every((each, n) => each.iova === b[n]?.iova && each.length === b[n]?.length);

const bad = (problem: string): unknown => vfioUserErrors.BAD_FEATURE({ what: 'the log of dirty pages', problem });
