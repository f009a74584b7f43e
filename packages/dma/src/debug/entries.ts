import type { DmaDevice } from '../device.js';
import type { Direction } from '../direction.js';
import type { MappingDetails } from './reports.js';

/** Which function made a mapping. */
export type EntryType = 'page' | 'list' | 'coherent' | 'resource';

/** One mapping, or one segment of a list. */
export interface DebugEntry {
  readonly type: EntryType;
  readonly device: DmaDevice;
  readonly dma: bigint;
  /** Bytes. */
  readonly size: number;
  readonly direction: Direction;
  /** Where the memory lies: first page and offset. */
  readonly pfn: number;
  readonly offset: number;
  /** Entries that were given to map; 0: no list. */
  readonly callNents: number;
  /** Segments that map returned. */
  readonly mappedNents: number;
  /** Whether the result was tested; lists and coherent memory need no test. */
  checked: boolean;
  /** Where it was mapped, if asked for. */
  stack: string | undefined;
}

/** What a call says about the mapping it means. */
export type EntryReference = Pick<DebugEntry, 'type' | 'device' | 'dma' | 'size' | 'direction' | 'callNents'>;

/** How reports name a mapping. */
export const detailsOf = ({ device, dma, size }: Pick<DebugEntry, 'device' | 'dma' | 'size'>): MappingDetails => ({
  device: device.name,
  driver: device.driver,
  dma,
  size,
});

const BUCKETS = 16384n;
/** Addresses in one bucket lie in the same 8 KiB. Source: HASH_FN_SHIFT. */
const BUCKET_SHIFT = 13n;
/** Entries that fit into the page by which the pool grows. Source: DMADEBUG_DYNAMIC_ENTRIES. */
const PAGE_OF_ENTRIES = 32;

/** Bucket of a device address. */
export const bucketOf = (dma: bigint): number => Number((dma >> BUCKET_SHIFT) & (BUCKETS - 1n));

export interface EntryPoolOptions {
  /** Entries that are there from the start. Source: dma_debug_entries=, default 65536. */
  readonly entries: number;
  /** Entries beyond which the pool cannot grow; equal to `entries`: it never grows (older kernels). */
  readonly most: number;
}

/** The hash table of live mappings, and the pool that its entries come from. */
export class EntryTable {
  readonly #buckets = new Map<number, DebugEntry[]>();
  readonly #most: number;
  #total: number;
  #used = 0;
  #minFree: number;

  constructor(options: EntryPoolOptions) {
    this.#total = options.entries;
    this.#minFree = options.entries;
    this.#most = options.most;
  }

  get used(): number {
    return this.#used;
  }
  get free(): number {
    return this.#total - this.#used;
  }
  /** The least that was ever free. */
  get minFree(): number {
    return this.#minFree;
  }
  get total(): number {
    return this.#total;
  }

  /** @returns false: the pool is empty and cannot grow; nothing was added. */
  add(entry: DebugEntry): boolean {
    if (this.free === 0) {
      if (this.#total >= this.#most) return false;
      this.#total = Math.min(this.#most, this.#total + PAGE_OF_ENTRIES);
    }
    const key = bucketOf(entry.dma);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) this.#buckets.set(key, [entry]);
    else bucket.push(entry);
    this.#used += 1;
    this.#minFree = Math.min(this.#minFree, this.free);
    return true;
  }

  remove(entry: DebugEntry): void {
    const key = bucketOf(entry.dma);
    const bucket = this.#buckets.get(key);
    const index = bucket?.indexOf(entry) ?? -1;
    if (bucket === undefined || index < 0) return;
    bucket.splice(index, 1);
    if (bucket.length === 0) this.#buckets.delete(key);
    this.#used -= 1;
  }

  /**
   * The entry a call means: same device and address; of several, the one that agrees in size, type, direction and entry count.
   * Several without one that agrees in all: none. Source: bucket_find_exact().
   */
  find(reference: EntryReference): DebugEntry | undefined {
    return bestFit(this.#bucket(reference.dma), reference, (entry) => entry.dma === reference.dma);
  }

  /** The entry that holds the whole range of a sync; looks back as far as the device's longest segment. */
  findAround(reference: EntryReference): DebugEntry | undefined {
    const last = reference.dma + BigInt(reference.size);
    return this.#walkBack(reference, (entry) => entry.dma <= reference.dma && entry.dma + BigInt(entry.size) >= last);
  }

  /** The entry in which a range begins, wherever it ends. */
  findStart(reference: EntryReference): DebugEntry | undefined {
    const { dma } = reference;
    return this.#walkBack(reference, (entry) => entry.dma <= dma && dma < entry.dma + BigInt(entry.size));
  }

  /** First entry of a map at that address whose result was not tested yet. */
  findUnchecked(device: DmaDevice, dma: bigint): DebugEntry | undefined {
    return this.#bucket(dma).find((entry) => entry.device === device && entry.dma === dma && !entry.checked);
  }

  /** All entries, or those of one device. */
  *all(device?: DmaDevice): Generator<DebugEntry> {
    for (const bucket of this.#buckets.values()) {
      for (const entry of bucket) if (device === undefined || entry.device === device) yield entry;
    }
  }

  #bucket(dma: bigint): readonly DebugEntry[] {
    return this.#buckets.get(bucketOf(dma)) ?? [];
  }

  #walkBack(reference: EntryReference, matches: (entry: DebugEntry) => boolean): DebugEntry | undefined {
    const step = 1n << BUCKET_SHIFT;
    const reach = BigInt(reference.device.maxSegment);
    for (let back = 0n; back <= reach + step && back <= reference.dma + step; back += step) {
      const at = reference.dma > back ? reference.dma - back : 0n;
      const found = bestFit(this.#bucket(at), reference, matches);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function bestFit(
  bucket: readonly DebugEntry[],
  reference: EntryReference,
  matches: (entry: DebugEntry) => boolean,
): DebugEntry | undefined {
  let only: DebugEntry | undefined;
  let candidates = 0;
  for (const entry of bucket) {
    if (entry.device !== reference.device || !matches(entry)) continue;
    if (agreements(entry, reference) === 4) return entry;
    only = entry;
    candidates += 1;
  }
  return candidates === 1 ? only : undefined;
}

const agreements = (entry: DebugEntry, reference: EntryReference): number =>
  Number(entry.size === reference.size) +
  Number(entry.type === reference.type) +
  Number(entry.direction === reference.direction) +
  Number(entry.callNents === reference.callNents);
