import type { Clock, Undo } from '@pinion/core';
import { NONE } from './iova-tree.js';

/** Ranges in a magazine. Source: IOVA_MAG_SIZE. */
export const MAGAZINE_SIZE = 127;
/** Cached sizes are 1, 2, 4, 8, 16 and 32 frames. Source: IOVA_RANGE_CACHE_MAX_SIZE. */
export const CACHED_SIZES = 6;
/** Milliseconds between two magazines that the depot gives back. Source: IOVA_DEPOT_DELAY. */
export const DEPOT_DELAY = 100;

/** Lowest frames of freed ranges, oldest first. */
type Magazine = number[];

interface CpuCache {
  loaded: Magazine;
  previous: Magazine;
}

interface SizeCache {
  readonly cpus: readonly CpuCache[];
  /** Full magazines, newest last; no upper bound but time. */
  readonly depot: Magazine[];
  timer: Undo | undefined;
}

/** How full the caches of one size are, seen from one CPU. */
export interface CacheLevel {
  /** Ranges in the magazine in use and in the one before. */
  readonly loaded: number;
  readonly previous: number;
  /** Full magazines in the depot. */
  readonly depot: number;
}

/** What the caches of one size hold: lowest frames, oldest first; depot magazines newest first. */
export interface CacheContent {
  readonly loaded: readonly number[];
  readonly previous: readonly number[];
  readonly depot: readonly (readonly number[])[];
}

/**
 * Freed ranges kept for the next request of their size: per CPU two magazines, per size one depot. What lies here is still
 * allocated as far as the tree knows. Source: struct iova_rcache.
 */
export class IovaCaches {
  readonly #sizes: readonly SizeCache[];
  readonly #release: (frame: number) => void;
  readonly #clock: Clock | undefined;

  /** `release` gives a range back to the tree. */
  constructor(cpus: number, release: (frame: number) => void, clock?: Clock) {
    this.#release = release;
    this.#clock = clock;
    this.#sizes = Array.from({ length: CACHED_SIZES }, () => ({
      cpus: Array.from({ length: cpus }, () => ({ loaded: [], previous: [] })),
      depot: [],
      timer: undefined,
    }));
  }

  /** A cached range of 2^log frames that begins at `bound` or below; NONE if none is in reach. */
  take(log: number, cpu: number, bound: number): number {
    const size = this.#sizes[log];
    const own = size?.cpus[cpu];
    if (size === undefined || own === undefined) return NONE;
    if (own.loaded.length === 0 && own.previous.length > 0) swap(own);
    else if (own.loaded.length === 0) own.loaded = size.depot.pop() ?? own.loaded;
    return takeFitting(own.loaded, bound);
  }

  /** Keeps a freed range of 2^log frames. */
  give(log: number, cpu: number, frame: number): void {
    const size = this.#sizes[log];
    const own = size?.cpus[cpu];
    if (size === undefined || own === undefined) return;
    if (own.loaded.length === MAGAZINE_SIZE && own.previous.length < MAGAZINE_SIZE) swap(own);
    else if (own.loaded.length === MAGAZINE_SIZE) {
      size.depot.push(own.loaded);
      own.loaded = [];
      this.#arm(log);
    }
    own.loaded.push(frame);
  }

  /** Gives everything back to the tree: the magazines of all CPUs and sizes, then the depots, newest magazine first. */
  flush(): void {
    for (const size of this.#sizes) {
      for (const own of size.cpus) {
        this.#empty(own.loaded);
        this.#empty(own.previous);
      }
    }
    for (const { depot } of this.#sizes) while (depot.length > 0) this.#empty(depot.pop() ?? []);
  }

  /** Gives the newest depot magazine of one size back if there are more than CPUs. @returns whether there were. */
  trim(log: number): boolean {
    const size = this.#sizes[log];
    if (size === undefined || size.depot.length <= size.cpus.length) return false;
    this.#empty(size.depot.pop() ?? []);
    return true;
  }

  /** Starts the timers that trim the depots, where there is a clock. Filling a depot does the same. */
  startTrimming(): void {
    for (let log = 0; log < CACHED_SIZES; log += 1) this.#arm(log);
  }

  /** Stops them until the next range that goes to a depot. */
  stopTrimming(): void {
    for (const size of this.#sizes) {
      size.timer?.();
      size.timer = undefined;
    }
  }

  levels(cpu: number): readonly CacheLevel[] {
    return this.#sizes.map(({ cpus, depot }) => ({
      loaded: cpus[cpu]?.loaded.length ?? 0,
      previous: cpus[cpu]?.previous.length ?? 0,
      depot: depot.length,
    }));
  }

  content(log: number, cpu: number): CacheContent {
    const size = this.#sizes[log];
    const own = size?.cpus[cpu];
    return {
      loaded: [...(own?.loaded ?? [])],
      previous: [...(own?.previous ?? [])],
      depot: (size?.depot ?? []).map((magazine) => [...magazine]).reverse(),
    };
  }

  #arm(log: number): void {
    const size = this.#sizes[log];
    if (size === undefined || size.timer !== undefined) return;
    size.timer = this.#clock?.after(DEPOT_DELAY, () => {
      size.timer = undefined;
      if (this.trim(log)) this.#arm(log);
    });
  }

  #empty(magazine: Magazine): void {
    for (const frame of magazine) this.#release(frame);
    magazine.length = 0;
  }
}

function swap(own: CpuCache): void {
  const { loaded } = own;
  own.loaded = own.previous;
  own.previous = loaded;
}

/** The newest frame at or below `bound`; the newest of all fills its place. */
function takeFitting(magazine: Magazine, bound: number): number {
  for (let index = magazine.length - 1; index >= 0; index -= 1) {
    const frame = magazine[index] ?? NONE;
    if (frame > bound) continue;
    magazine[index] = magazine[magazine.length - 1] ?? NONE;
    magazine.length -= 1;
    return frame;
  }
  return NONE;
}
