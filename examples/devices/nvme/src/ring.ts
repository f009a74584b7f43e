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

/** Where a queue lies: `address` begins a page, in bytes; `entries` of `entrySize` bytes (a power of two). */
export interface RingPlace {
  readonly address: bigint;
  readonly entries: number;
  readonly entrySize: number;
  readonly prot: Prot;
}

/**
 * The memory of a queue. It stays pinned until its mapping goes; used again after that it is pinned anew, because a VMM takes
 * memory out and puts it back while it moves windows around (reference vfio-user 1.18).
 */
export class Ring {
  readonly entries: number;
  readonly #api: PinApi;
  readonly #place: RingPlace;
  readonly #range: FrameRange;
  #pinned: PinnedPages | undefined;
  #pages: readonly Uint8Array[] = [];

  constructor(api: PinApi, place: RingPlace) {
    this.#api = api;
    this.#place = place;
    this.entries = place.entries;
    this.#range = frameRange(iovaFrame(place.address), Math.ceil((place.entries * place.entrySize) / PAGE_SIZE));
  }

  /** The live bytes of one entry. @throws what pinning throws. */
  entry(index: number): Uint8Array {
    if (this.#pinned === undefined) this.pin();
    const offset = index * this.#place.entrySize;
    const page = this.#pages[Math.floor(offset / PAGE_SIZE)] ?? new Uint8Array(this.#place.entrySize);
    return page.subarray(offset % PAGE_SIZE, (offset % PAGE_SIZE) + this.#place.entrySize);
  }

  /** @throws what pinning throws. */
  pin(): void {
    const { first, last } = this.#range;
    this.#pinned = this.#api.pin(first, last - first + 1, this.#place.prot);
    this.#pages = this.#pinned.views().flatMap(pagesOf);
  }

  touches(range: FrameRange): boolean {
    return rangesOverlap(this.#range, range);
  }

  release(): void {
    this.#pinned?.unpin();
    this.#pinned = undefined;
    this.#pages = [];
  }
}

const pagesOf = (view: Uint8Array): Uint8Array[] =>
  Array.from({ length: view.length / PAGE_SIZE }, (_, n) => view.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE));
