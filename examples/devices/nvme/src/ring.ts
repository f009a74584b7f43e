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
  #pages: readonly DataView[] = [];

  constructor(api: PinApi, place: RingPlace) {
    this.#api = api;
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

const pagesOf = (view: Uint8Array): DataView[] =>
  Array.from(
    { length: view.length / PAGE_SIZE },
    (_, n) => new DataView(view.buffer, view.byteOffset + n * PAGE_SIZE, PAGE_SIZE),
  );
