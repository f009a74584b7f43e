import type { IovaFrame } from '@pinion/core';
import type { SoftwareDomain } from './domain.js';
import type { PackedLeaf } from './page-table.js';

const SLOTS = 64;
const EMPTY = -1;

/**
 * A direct-mapped translation cache in front of one function. Only what is mapped is kept, so a map needs no invalidation;
 * an unmap raises the domain's generation, which empties the cache at the next use. Right by construction: a stale entry is
 * never used, unlike in hardware, where the driver must wait for the invalidation.
 */
export class Iotlb {
  readonly #frames = new Float64Array(SLOTS).fill(EMPTY);
  readonly #leaves = new Float64Array(SLOTS);
  #domain: SoftwareDomain | undefined;
  #generation = 0;
  #hits = 0;
  #misses = 0;

  /** Translations answered without a look at the tables. */
  get hits(): number {
    return this.#hits;
  }

  /** Translations that had to walk the tables. */
  get misses(): number {
    return this.#misses;
  }

  /** The packed leaf behind `frame`, 0 where nothing is mapped. */
  translate(domain: SoftwareDomain, frame: IovaFrame): PackedLeaf {
    if (domain !== this.#domain || domain.generation !== this.#generation) this.#restart(domain);
    const slot = frame & (SLOTS - 1);
    if (this.#frames[slot] === frame) {
      this.#hits += 1;
      return this.#leaves[slot] ?? 0;
    }
    this.#misses += 1;
    const leaf = domain.walk(frame);
    if (leaf !== 0) {
      this.#frames[slot] = frame;
      this.#leaves[slot] = leaf;
    }
    return leaf;
  }

  #restart(domain: SoftwareDomain): void {
    this.#frames.fill(EMPTY);
    this.#domain = domain;
    this.#generation = domain.generation;
  }
}
