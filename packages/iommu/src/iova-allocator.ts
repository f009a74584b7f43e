import {
  asIovaFrame,
  type Clock,
  type FrameRange,
  type IovaFrame,
  type Log,
  type ReservedRegion,
  silentLog,
} from '@pinion/core';
import { iommuErrors } from './errors.js';
import { CACHED_SIZES, type CacheContent, type CacheLevel, IovaCaches } from './iova-caches.js';
import { ALL_ONES, ANCHOR, IovaTree, NONE } from './iova-tree.js';

const FOUR_GIB = 2 ** 32;
const WORD = 2 ** 32;
const LARGEST_CACHED = 2 ** (CACHED_SIZES - 1);
/** The limit that stands for all ones: one more wraps to 0, so that nothing lies below it. Source: alloc_iova(). */
export const LIMIT_ALL_ONES = ALL_ONES;

/** What Linux does that is a mistake; off by default. */
export interface IovaQuirks {
  /**
   * A request larger than its limit + 1 is answered from the cache without regard to the limit, because the kernel computes
   * limit + 1 - size without a sign. Read from __iova_rcache_get(); no recording shows it.
   */
  readonly cacheBoundWraps?: boolean;
}

/** The space an allocator hands out, in frames of `granule` bytes. Source: init_iova_domain(). */
export interface IovaAllocatorOptions {
  /** Nothing is allocated below this frame. Default 1: address 0 looks like a failure to drivers. */
  readonly start?: number;
  /** Bytes per frame, a power of two up to 4 GiB. Default 4096. */
  readonly granule?: number;
  /** Keep freed ranges of up to 32 frames for reuse. Default true. */
  readonly caches?: boolean;
  /** CPUs that have magazines of their own; also how many magazines a depot keeps for good. Default 1. */
  readonly cpus?: number;
  /** Trims the depots every 100 ms. Default: they are trimmed by `trim` alone. */
  readonly clock?: Clock;
  /** Ranges that are out of use from the start, e.g. a group's reserved regions. */
  readonly reserved?: readonly ReservedRegion[];
  readonly quirks?: IovaQuirks;
  /** Told when a range comes back that was not allocated (freed twice). Default: nobody. */
  readonly log?: Log;
}

/** What goes on inside, for printouts and tests. */
export interface IovaState {
  /** Lowest frame of the range where the next search begins, above and below 4 GiB; undefined: at the top. */
  readonly cached: number | undefined;
  readonly cached32: number | undefined;
  /** Requests of this size or more are refused at once below 4 GiB, until something there is freed. */
  readonly refused32: number;
  /** Per log2 of the size, of the current CPU; empty without caches. */
  readonly caches: readonly CacheLevel[];
}

/**
 * Which IOVA frames are in use: ranges are given from the top down, below 4 GiB where the limit asks for it, aligned to their
 * size. Same answers as Linux 6.12, including the ones that starve: the search goes on where the last one ended, a failed size
 * stops all larger ones below 4 GiB until something is freed there (also when only a small or a large limit was
 * exhausted), and freed ranges of up to 32 frames wait in caches. Frames are whole numbers below 2^53 - 1; limits are inclusive.
 * Source: drivers/iommu/iova.c, checked against recordings of it.
 */
export class IovaAllocator {
  readonly start: number;
  /** Frames below 4 GiB. */
  readonly frames32: number;
  readonly #tree = new IovaTree();
  readonly #cpus: number;
  readonly #clock: Clock | undefined;
  readonly #log: Log;
  readonly #quirks: IovaQuirks;
  #caches: IovaCaches | undefined;
  #cpu = 0;
  #cached = ANCHOR;
  #cached32 = ANCHOR;
  #refused32: number;

  /** @throws IOMMU_BAD_OPTION (EINVAL) naming the option. */
  constructor(options: IovaAllocatorOptions = {}) {
    const granule = options.granule ?? 4096;
    if (!Number.isInteger(Math.log2(granule)) || granule < 1 || granule > FOUR_GIB) {
      throw iommuErrors.BAD_OPTION({ option: 'granule', problem: `${granule} is no power of two up to 4 GiB` });
    }
    this.start = wholeOption('start', options.start ?? 1, 0);
    this.#cpus = wholeOption('cpus', options.cpus ?? 1, 1);
    this.frames32 = FOUR_GIB / granule;
    this.#refused32 = this.frames32;
    this.#clock = options.clock;
    this.#log = options.log ?? silentLog;
    this.#quirks = options.quirks ?? {};
    if (options.caches ?? true) this.enableCaches();
    for (const { range } of options.reserved ?? []) this.reserve(range);
  }

  /** The CPU whose magazines are used. @throws IOMMU_BAD_OPTION (EINVAL) for one that does not exist. */
  get cpu(): number {
    return this.#cpu;
  }
  set cpu(cpu: number) {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= this.#cpus) {
      throw iommuErrors.BAD_OPTION({ option: 'cpu', problem: `${cpu} is not within 0..${this.#cpus - 1}` });
    }
    this.#cpu = cpu;
  }

  /** Ranges that are allocated or reserved, cached ones included. */
  get size(): number {
    return this.#tree.size;
  }

  /** From now on freed ranges are kept. Idempotent. Source: iova_domain_init_rcaches(). */
  enableCaches(): void {
    this.#caches ??= new IovaCaches(this.#cpus, (frame) => this.#releaseCached(frame), this.#clock);
  }

  /**
   * The highest free range of `size` frames that ends at `limit` or below and, if `aligned`, begins at a multiple of its size
   * rounded up to a power of two. @returns its first frame; undefined: there is none, or none is believed to be.
   * @throws IOMMU_BAD_IOVA_REQUEST (EINVAL). Source: alloc_iova().
   */
  allocate(size: number, limit: number, aligned = true): IovaFrame | undefined {
    checkWhole('allocate', 'size', size, 1);
    checkWhole('allocate', 'limit', limit, 0);
    const frame = this.#allocate(size, limit === ALL_ONES ? 0 : limit + 1, aligned);
    return frame === NONE ? undefined : asIovaFrame(frame);
  }

  /**
   * The same through the caches: sizes up to 32 frames are rounded up to a power of two and taken from there first. When
   * nothing is left and `flush` is set, the caches are emptied once and the search is repeated. Source: alloc_iova_fast().
   * @throws IOMMU_BAD_IOVA_REQUEST (EINVAL).
   */
  allocateFast(size: number, limit: number, flush: boolean): IovaFrame | undefined {
    checkWhole('allocateFast', 'size', size, 1);
    checkWhole('allocateFast', 'limit', limit, 0);
    const rounded = size < LARGEST_CACHED ? roundUp(size) : size;
    const end = limit === ALL_ONES ? 0 : limit + 1;
    let frame = this.#takeCached(rounded, end);
    if (frame === NONE) frame = this.#allocate(rounded, end, true);
    if (frame === NONE && flush) {
      this.#caches?.flush();
      frame = this.#allocate(rounded, end, true);
    }
    return frame === NONE ? undefined : asIovaFrame(frame);
  }

  /** Frees the range that holds `frame`, past the caches. @returns it; undefined: there was none. Source: free_iova(). */
  free(frame: number): FrameRange | undefined {
    checkWhole('free', 'frame', frame, 0);
    const node = this.#tree.find(frame);
    if (node === NONE) return undefined;
    const range = this.#rangeOf(node);
    this.#remove(node);
    return range;
  }

  /**
   * Frees a range of `size` frames (as requested) from `frame`; up to 32 frames go to the caches and stay allocated in the
   * tree. What is freed twice is handed out twice; only a flush notices (logged). Source: free_iova_fast().
   */
  freeFast(frame: number, size: number): void {
    checkWhole('freeFast', 'frame', frame, 0);
    checkWhole('freeFast', 'size', size, 1);
    if (this.#caches !== undefined && size <= LARGEST_CACHED) this.#caches.give(log2Up(size), this.#cpu, frame);
    else this.free(frame);
  }

  /** The range that holds `frame`. */
  find(frame: number): FrameRange | undefined {
    checkWhole('find', 'frame', frame, 0);
    const node = this.#tree.find(frame);
    return node === NONE ? undefined : this.#rangeOf(node);
  }

  /**
   * Takes a range out of use; ranges that are there already, allocated ones too, grow to cover it. Looks neither at `start` nor
   * at what a failed search remembered. @returns the last piece that was touched. Source: reserve_iova().
   * @throws IOMMU_BAD_IOVA_REQUEST (EINVAL).
   */
  reserve(range: FrameRange<number>): FrameRange {
    checkWhole('reserve', 'first', range.first, 0);
    checkWhole('reserve', 'last', range.last, range.first);
    let lo = range.first;
    let node = this.#tree.ceiling(lo);
    while (node !== ANCHOR && this.#tree.lo(node) <= range.last) {
      if (lo < this.#tree.lo(node)) this.#tree.setLo(node, lo);
      if (range.last <= this.#tree.hi(node)) return this.#rangeOf(node);
      lo = this.#tree.hi(node) + 1;
      node = this.#tree.above(node);
    }
    return this.#rangeOf(this.#tree.insertBelow(node, lo, range.last));
  }

  /** Every range that is allocated, reserved or cached, ascending. Not to be held over a change. */
  *ranges(): Generator<FrameRange> {
    for (let node = this.#tree.ceiling(0); node !== ANCHOR; node = this.#tree.above(node)) yield this.#rangeOf(node);
  }

  /** Gives all cached ranges back. */
  flush(): void {
    this.#caches?.flush();
  }

  /** Gives the newest magazine of the depot for 2^log frames back. @returns false: there are no more than CPUs. */
  trim(log: number): boolean {
    return this.#caches?.trim(log) ?? false;
  }

  /** Starts and stops the timers that trim (with a clock only); filling a depot starts its timer too. */
  startTrimming(): void {
    this.#caches?.startTrimming();
  }
  stopTrimming(): void {
    this.#caches?.stopTrimming();
  }

  get state(): IovaState {
    return {
      cached: this.#visible(this.#cached),
      cached32: this.#visible(this.#cached32),
      refused32: this.#refused32,
      caches: this.#caches?.levels(this.#cpu) ?? [],
    };
  }

  /** What the caches for 2^log frames hold on the current CPU. */
  cacheContent(log: number): CacheContent {
    return this.#caches?.content(log, this.#cpu) ?? { loaded: [], previous: [], depot: [] };
  }

  #visible(node: number): number | undefined {
    return node === ANCHOR ? undefined : this.#tree.lo(node);
  }

  #rangeOf(node: number): FrameRange {
    return { first: asIovaFrame(this.#tree.lo(node)), last: asIovaFrame(this.#tree.hi(node)) };
  }

  #takeCached(size: number, end: number): number {
    if (this.#caches === undefined || size > LARGEST_CACHED) return NONE;
    const wraps = end < size && this.#quirks.cacheBoundWraps === true;
    return this.#caches.take(log2Up(size), this.#cpu, wraps ? ALL_ONES : end - size);
  }

  /** `end` is one above the highest frame wanted. */
  #allocate(size: number, end: number, aligned: boolean): number {
    if (end <= this.frames32 && size >= this.#refused32) return NONE;
    const from = end <= this.frames32 ? this.#cached32 : this.#cached;
    const unit = aligned ? roundUp(size) : 1;
    const request = { size, unit, end };
    let node = this.#search(request, from, this.start);
    // The space above the place where the search began has not been seen yet; the anchor has nothing above.
    if (node === NONE && from !== ANCHOR && this.#tree.hi(from) < end) {
      node = this.#search(request, this.#tree.ceiling(end), this.#tree.hi(from) + 1);
    }
    if (node === NONE) {
      this.#refused32 = size;
      return NONE;
    }
    if (this.#tree.hi(node) < this.frames32) this.#cached32 = node;
    else this.#cached = node;
    return this.#tree.lo(node);
  }

  /** Looks for a gap from the node `upper` downwards, not below `low`, and takes it. @returns its node or NONE. */
  #search(request: { size: number; unit: number; end: number }, upper: number, low: number): number {
    const tree = this.#tree;
    let high = request.end;
    for (let node = upper; node !== NONE; ) {
      high = Math.min(high, tree.lo(node));
      const room = high - request.size;
      const frame = room - (room % request.unit);
      if (room < 0 || frame < low) return NONE;
      const lower = tree.below(node);
      if (lower === NONE || frame > tree.hi(lower)) return tree.insertBelow(node, frame, frame + request.size - 1);
      node = lower;
    }
    return NONE;
  }

  /** Takes a range out of the tree; the next search begins above it if it lay at or above where it would have begun. */
  #remove(node: number): void {
    const tree = this.#tree;
    const [lo, hi] = [tree.lo(node), tree.hi(node)];
    const within32 = hi < this.frames32 && lo >= tree.lo(this.#cached32);
    if (node === this.#cached32 || within32) this.#cached32 = tree.above(node);
    if (lo < this.frames32) this.#refused32 = this.frames32;
    if (lo >= tree.lo(this.#cached)) this.#cached = tree.above(node);
    tree.remove(node);
  }

  #releaseCached(frame: number): void {
    const node = this.#tree.find(frame);
    if (node === NONE) this.#log.warn(`IOVA frame 0x${frame.toString(16)} was freed twice`);
    else this.#remove(node);
  }
}

/** log2 of `size` rounded up to a power of two. Exact: Math.log2 is not, above 2^48. */
function log2Up(size: number): number {
  if (size <= WORD) return 32 - Math.clz32(size - 1);
  const high = Math.ceil(size / WORD);
  return 32 + log2Up(high);
}
/** `size` rounded up to a power of two. */
const roundUp = (size: number): number => 2 ** log2Up(size);

function checkWhole(operation: string, what: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw iommuErrors.BAD_IOVA_REQUEST({ operation, what, value });
}

function wholeOption(option: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw iommuErrors.BAD_OPTION({ option, problem: `${value} is no whole number from ${least}` });
}
