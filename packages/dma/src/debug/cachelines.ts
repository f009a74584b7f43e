import { PAGE_SIZE } from '@pinion/core';
import { DIRECTION, type Direction } from '../direction.js';

const CACHELINE = 64;
/** Overlaps that the tracker can count. Source: ACTIVE_CACHELINE_MAX_OVERLAP, three tag bits. */
export const MAX_OVERLAP = 7;

/** A mapping as the tracker sees it. */
export interface TrackedPlace {
  readonly pfn: number;
  readonly offset: number;
  readonly direction: Direction;
}

/** What adding a mapping showed. */
export type Overlap = 'none' | 'overlap' | 'too many';

/**
 * First cachelines of memory that devices write: two mappings that begin in one mean stale or lost data on machines whose DMA is
 * not coherent. Memory that devices only read is not tracked. Source: kernel/dma/debug.c, active_cacheline_insert().
 */
export class Cachelines {
  /** Overlaps by cacheline: 0 for one mapping. */
  readonly #active = new Map<number, number>();

  get size(): number {
    return this.#active.size;
  }

  add(place: TrackedPlace): Overlap {
    if (place.direction === DIRECTION.TO_DEVICE) return 'none';
    const line = lineOf(place);
    const overlaps = this.#active.get(line);
    if (overlaps === undefined) {
      this.#active.set(line, 0);
      return 'none';
    }
    if (overlaps === MAX_OVERLAP) return 'too many';
    this.#active.set(line, overlaps + 1);
    return 'overlap';
  }

  remove(place: TrackedPlace): void {
    if (place.direction === DIRECTION.TO_DEVICE) return;
    const line = lineOf(place);
    const overlaps = this.#active.get(line) ?? 0;
    if (overlaps === 0) this.#active.delete(line);
    else this.#active.set(line, overlaps - 1);
  }
}

const lineOf = ({ pfn, offset }: TrackedPlace): number =>
  pfn * (PAGE_SIZE / CACHELINE) + Math.floor(offset / CACHELINE);
