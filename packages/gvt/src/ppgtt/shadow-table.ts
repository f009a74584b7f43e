import { type MapOwner, NO_OWNER } from '../hypervisor/owner.js';
import { ENTRIES, type Level } from './entry-format.js';

/** What an entry of a shadow table is. */
export const KIND = {
  /** Leads to the scratch page of its level. */
  SCRATCH: 0,
  /** A page of 4 KiB that was mapped for this entry. */
  SMALL: 1,
  /** One of the 16 small pages that a guest's 64 KiB entry became. */
  PIECE: 2,
  /** A page of 2 MiB. */
  LARGE: 3,
  /** The shadow of a guest table one level below. */
  TABLE: 4,
  /** A table of small pages that no guest table stands behind: a 2 MiB page which could not be had in one piece. */
  SPLIT: 5,
} as const;

/** Guest frame of a table that no guest page stands behind. */
export const NO_GFN = -1;

/** A page behind an entry. */
export interface ShadowPage {
  readonly kind: number;
  readonly dma: number;
  readonly gfn: number;
  /** Not 0: the engine may write. */
  readonly writable: number;
}

/**
 * The shadow of one guest table as it is read at one level: 512 entries in flat arrays, reused when given back. What an entry
 * leads to follows from the guest's entry as copied in `guest`; it may lead to less (scratch), never to something else.
 */
export class ShadowTable {
  gfn = NO_GFN;
  level: Level = 1;
  /** Level 1 only: every 16th entry is a 64 KiB page, the others mean nothing. */
  ips = false;
  owner: MapOwner = NO_OWNER;
  /** Entries above and roots that lead here. 0: not in use. */
  refs = 0;
  /** Guest writes that were trapped since the table was last compared. */
  writes = 0;
  /** The guest writes here without being trapped. */
  unprotected = false;
  /** The last pin that brought this table up to date. */
  epoch = 0;
  /** The next table that shadows the same guest page. */
  sibling: ShadowTable | undefined;
  /** Guest entries as last seen, two dwords each. */
  readonly guest = new Uint32Array(ENTRIES * 2);
  /** The same as bytes: guest and host are little-endian. */
  readonly guestBytes = new Uint8Array(this.guest.buffer);
  readonly kinds = new Uint8Array(ENTRIES);
  readonly writable = new Uint8Array(ENTRIES);
  /** DMA frame of a page. */
  readonly dma = new Float64Array(ENTRIES);
  /** Guest frame of a page. */
  readonly frames = new Float64Array(ENTRIES);
  /** Bounds of the guest frames of all pages here; wider than need be after pages went. */
  lowest = Number.POSITIVE_INFINITY;
  highest = Number.NEGATIVE_INFINITY;
  #children: (ShadowTable | undefined)[] | undefined;
  #views: (Uint8Array | undefined)[] | undefined;

  /** Begins to stand for something, with one reference. */
  start({ gfn, level, ips, owner }: { gfn: number; level: Level; ips: boolean; owner: MapOwner }): void {
    this.gfn = gfn;
    this.level = level;
    this.ips = ips;
    this.owner = owner;
    this.refs = 1;
    this.epoch = 0;
  }

  child(index: number): ShadowTable | undefined {
    return this.#children?.[index];
  }

  setChild(index: number, kind: number, child: ShadowTable): void {
    this.#children ??= new Array<ShadowTable | undefined>(ENTRIES);
    this.#children[index] = child;
    this.kinds[index] = kind;
  }

  setPage(index: number, { kind, dma, gfn, writable }: ShadowPage): void {
    this.setScratch(index);
    this.kinds[index] = kind;
    this.dma[index] = dma;
    this.frames[index] = gfn;
    this.writable[index] = writable;
    if (gfn < this.lowest) this.lowest = gfn;
    if (gfn > this.highest) this.highest = gfn;
  }

  /** The entry leads to scratch; whatever it held is the caller's to give back. */
  setScratch(index: number): void {
    this.kinds[index] = KIND.SCRATCH;
    if (this.#children !== undefined) this.#children[index] = undefined;
    if (this.#views !== undefined) this.#views[index] = undefined;
  }

  /** DMA frame of the page at `index`; undefined if there is none. */
  pageAt(index: number): number | undefined {
    const kind = this.kinds[index] ?? KIND.SCRATCH;
    return kind === KIND.SCRATCH || kind > KIND.LARGE ? undefined : this.dma[index];
  }

  view(index: number): Uint8Array | undefined {
    return this.#views?.[index];
  }

  /** Keeps the bytes of a small page until the entry changes. */
  keepView(index: number, view: Uint8Array): void {
    this.#views ??= new Array<Uint8Array | undefined>(ENTRIES);
    this.#views[index] = view;
  }

  /** As new. Every entry must lead to scratch. */
  recycle(): void {
    this.gfn = NO_GFN;
    this.refs = 0;
    this.writes = 0;
    this.unprotected = false;
    this.sibling = undefined;
    this.guest.fill(0);
    this.lowest = Number.POSITIVE_INFINITY;
    this.highest = Number.NEGATIVE_INFINITY;
  }
}
