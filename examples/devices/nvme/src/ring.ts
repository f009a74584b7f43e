import {
  type FrameRange,
  frameRange,
  iovaFrame,
  PAGE_SIZE,
  type PinApi,
  type PinnedPages,
  type Prot,
  rangesOverlap,
} from '@pinion/core';
import type { FarMemory } from './far-memory.js';

/** Where a queue lies: `address` begins a page, in bytes; `entries` of `entrySize` bytes (a power of two). */
export interface RingPlace {
  readonly address: bigint;
  readonly entries: number;
  readonly entrySize: number;
  readonly prot: Prot;
}

/**
 * The memory of a queue. It stays pinned until its mapping goes; where it cannot be pinned, entries are copied; used again after that it is pinned anew, because a VMM takes
 * memory out and puts it back while it moves windows around (reference vfio-user 1.18).
 */
export class Ring {
  readonly entries: number;
  readonly #api: PinApi;
  readonly #place: RingPlace;
  readonly #range: FrameRange;
  readonly #far: FarMemory;
  #isFar = false;
  #pinned: PinnedPages | undefined;
  #pages: readonly DataView[] = [];

  constructor(api: PinApi, far: FarMemory, place: RingPlace) {
    this.#api = api;
    this.#far = far;
    this.#place = place;
    this.entries = place.entries;
    this.#range = frameRange(iovaFrame(place.address), Math.ceil((place.entries * place.entrySize) / PAGE_SIZE));
  }

  /** The live bytes of the page that holds an entry; the entry begins at `offset(index)`. @throws what pinning throws. */
  page(index: number): DataView {
    if (this.#pinned === undefined) this.pin();
    const page = this.#pages[Math.floor((index * this.#place.entrySize) / PAGE_SIZE)];
    if (page === undefined) throw new RangeError(`entry ${index} of ${this.entries}`);
    return page;
  }

  offset(index: number): number {
    return (index * this.#place.entrySize) % PAGE_SIZE;
  }

  /** How its entries are reached: as live bytes, or by copies. Finds out if it must. @throws what pinning throws. */
  reach(): 'near' | 'far' {
    if (this.#pinned === undefined && !this.#isFar) this.pin();
    return this.#isFar ? 'far' : 'near';
  }

  /** @throws what pinning throws, unless somebody can copy instead. */
  pin(): void {
    const { first, last } = this.#range;
    try {
      this.#pinned = this.#api.pin(first, last - first + 1, this.#place.prot);
      this.#pages = this.#pinned.views().flatMap(pagesOf);
    } catch (cause) {
      if (!this.#far.explains(cause)) throw cause;
      this.#isFar = true;
    }
  }

  /** A copy of `count` entries from `index` on, as far as the ring goes. @throws what copying throws. */
  copy(index: number, count: number): Promise<Uint8Array> {
    const { entrySize } = this.#place;
    return this.#far.read(this.#addressOf(index), Math.min(count, this.entries - index) * entrySize);
  }

  /** Overwrites an entry. @throws what copying throws. */
  store(index: number, entry: Uint8Array): Promise<void> {
    return this.#far.write(this.#addressOf(index), entry);
  }

  touches(range: FrameRange): boolean {
    return rangesOverlap(this.#range, range);
  }

  release(): void {
    this.#pinned?.unpin();
    this.#pinned = undefined;
    this.#isFar = false;
    this.#pages = [];
  }

  #addressOf(index: number): bigint {
    return this.#place.address + BigInt(index * this.#place.entrySize);
  }
}

const pagesOf = (view: Uint8Array): DataView[] =>
  Array.from(
    { length: view.length / PAGE_SIZE },
    (_, n) => new DataView(view.buffer, view.byteOffset + n * PAGE_SIZE, PAGE_SIZE),
  );
