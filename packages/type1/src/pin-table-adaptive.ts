/** The adaptive table: a few pins in an array, scattered pins in a hash, crowded 2 MiB chunks in leaves. */
import { CHUNK_BITS, CHUNK_MASK, PinChunks } from './pin-chunks.js';
import { FewPins, MAX_FEW } from './pin-few.js';
import { PinHash } from './pin-hash.js';
import type { PinLeaf } from './pin-leaf.js';
import { checkPin, type PinTable, type PinVisitor } from './pin-table.js';

/** Pins in a 512-page chunk from which on a leaf is smaller than hash slots: 4096 bytes / 128 = 32 each. */
const CROWDED = 128;
/** Pins per leaf, over all leaves, below which thin leaves go back to the hash: 64 bytes each, as in the kernel's tree. */
const THIN = 64;
/** A chunk beside one with this many pins gets its leaf at once: pins that walk through a mapping skip the hash. */
const FULL_ENOUGH = 384;
/** Pins left in a hash, without leaves, that go back to the array. */
const FEW_AGAIN = 4;

/**
 * A page is in exactly one place: the leaf of its chunk if there is one, else the hash, else (while there is neither) the
 * array of few. Chunks move to a leaf when the hash fills up and back when their leaf thins out; the thresholds are apart,
 * so that a page pinned and unpinned in turn moves nothing. Mappings up to 2^31 pages; `SegmentedPinTable` goes beyond.
 */
export class AdaptivePinTable implements PinTable {
  readonly npages: number;
  pages = 0;
  releasedPfn = -1;
  private few: FewPins | undefined = undefined;
  private hash: PinHash | undefined = undefined;
  private dense: PinChunks | undefined = undefined;

  constructor(npages: number) {
    this.npages = npages;
  }

  /** Where pins are now, for tests and printouts. */
  get places(): { readonly few: number; readonly scattered: number; readonly leaves: number } {
    return { few: this.few?.live ?? 0, scattered: this.hash?.live ?? 0, leaves: this.dense?.size ?? 0 };
  }

  acquire(page: number): number {
    const index = page | 0;
    if (index !== page || index < 0) return -1;
    const leaf = this.dense?.leafOf(index);
    if (leaf !== undefined) return leaf.acquire(index & CHUNK_MASK);
    if (this.hash !== undefined) return this.hash.acquire(index);
    return this.few === undefined ? -1 : this.few.acquire(index);
  }

  insert(page: number, pfn: number): void {
    checkPin(this.npages, page, pfn);
    const leaf = this.dense === undefined ? undefined : (this.dense.leafOf(page) ?? this.foresee(this.dense, page));
    if (leaf !== undefined) leaf.insert(page & CHUNK_MASK, pfn, 1);
    else this.scatter(page, pfn);
    this.pages++;
  }

  release(page: number): number {
    const index = page | 0;
    if (index !== page || index < 0) return -1;
    const leaf = this.dense?.leafOf(index);
    if (leaf !== undefined) return this.releaseDense(leaf, index);
    if (this.hash !== undefined) return this.releaseScattered(this.hash, index);
    return this.few === undefined ? -1 : this.releaseFew(this.few, index);
  }

  pfn(page: number): number {
    const index = page | 0;
    if (index !== page || index < 0) return -1;
    const leaf = this.dense?.leafOf(index);
    if (leaf !== undefined) return leaf.pfn(index & CHUNK_MASK);
    if (this.hash !== undefined) return this.hash.pfn(index);
    return this.few === undefined ? -1 : this.few.pfn(index);
  }

  references(page: number): number {
    const index = page | 0;
    if (index !== page || index < 0) return 0;
    const leaf = this.dense?.leafOf(index);
    if (leaf !== undefined) return leaf.references(index & CHUNK_MASK);
    if (this.hash !== undefined) return this.hash.references(index);
    return this.few === undefined ? 0 : this.few.references(index);
  }

  forEach(first: number, last: number, visit: PinVisitor): void {
    const from = Math.max(0, first);
    const to = Math.min(last, this.npages - 1);
    if (from > to) return;
    const lone = this.lonePages(from, to);
    let next = 0;
    for (const chunk of this.dense?.chunksIn(from, to) ?? []) {
      const leaf = this.dense?.at(chunk);
      next = this.visitLone(lone, next, { before: chunk << CHUNK_BITS, visit });
      // A visitor that releases may send the leaf to the hash meanwhile; what it has not been shown yet is unchanged in both.
      if (leaf !== undefined) {
        leaf.forEach(Math.max(0, from - leaf.base), Math.min(CHUNK_MASK, to - leaf.base), visit);
      }
    }
    this.visitLone(lone, next, { before: this.npages, visit });
  }

  firstIn(first: number, last: number): number {
    const from = Math.max(0, first);
    const to = Math.min(last, this.npages - 1);
    if (from > to) return -1;
    const lone = this.lonePages(from, to)[0] ?? -1;
    for (const chunk of this.dense?.chunksIn(from, to) ?? []) {
      const leaf = this.dense?.at(chunk);
      if (leaf === undefined || (lone >= 0 && lone < leaf.base)) break;
      const page = leaf.firstIn(Math.max(0, from - leaf.base), Math.min(CHUNK_MASK, to - leaf.base));
      if (page >= 0) return page;
    }
    return lone;
  }

  clear(): void {
    this.pages = 0;
    this.few = undefined;
    this.hash = undefined;
    this.dense = undefined;
  }

  byteSize(): number {
    return (this.few?.byteSize() ?? 0) + (this.hash?.byteSize() ?? 0) + (this.dense?.byteSize() ?? 0);
  }

  /** First pin of a page whose chunk has no leaf. */
  private scatter(page: number, pfn: number): void {
    if (this.hash === undefined && this.dense === undefined) {
      this.few ??= new FewPins();
      if (this.few.live < MAX_FEW) {
        this.few.insert(page, pfn, 1);
        return;
      }
      this.spill(this.few);
    }
    this.hash ??= new PinHash();
    if (this.hash.isFull) this.promote(this.hash, this.hash.chunksAbove(CROWDED));
    const leaf = this.dense?.leafOf(page);
    if (leaf !== undefined) leaf.insert(page & CHUNK_MASK, pfn, 1);
    else this.hash.insert(page, pfn, 1);
  }

  private spill(few: FewPins): void {
    const hash = new PinHash();
    for (let i = 0; i < few.live; i++) {
      const page = few.pageAt(i);
      hash.insert(page, few.pfn(page), few.references(page));
    }
    this.few = undefined;
    this.hash = hash;
  }

  /** A leaf for a chunk that has none but whose neighbour is nearly full; its pins leave the hash. */
  private foresee(dense: PinChunks, page: number): PinLeaf | undefined {
    const chunk = page >> CHUNK_BITS;
    const fullest = Math.max(dense.at(chunk - 1)?.live ?? 0, dense.at(chunk + 1)?.live ?? 0);
    if (fullest < FULL_ENOUGH) return undefined;
    const leaf = dense.make(chunk);
    this.hash?.partWithRange(leaf.base, leaf.base + CHUNK_MASK, (at, pfn, references) => {
      leaf.insert(at & CHUNK_MASK, pfn, references);
    });
    return leaf;
  }

  /** Makes leaves for chunks and moves the chunks' pages into them. */
  private promote(hash: PinHash, chunks: readonly number[]): void {
    if (chunks.length === 0) return;
    this.dense ??= new PinChunks(this.npages);
    const { dense } = this;
    for (const chunk of chunks) dense.make(chunk);
    hash.partWith((page, pfn, references) => {
      const leaf = dense.leafOf(page);
      leaf?.insert(page & CHUNK_MASK, pfn, references);
      return leaf !== undefined;
    });
  }

  private releaseDense(leaf: PinLeaf, page: number): number {
    const left = leaf.release(page & CHUNK_MASK);
    if (left !== 0) return left;
    this.releasedPfn = leaf.frameAt(page & CHUNK_MASK);
    this.pages--;
    if (leaf.live === 0) this.dropLeaf(page >> CHUNK_BITS);
    else if (leaf.live < THIN) this.thinOut();
    return left;
  }

  private dropLeaf(chunk: number): void {
    if (this.dense === undefined) return;
    this.dense.take(chunk);
    if (this.dense.size === 0) this.withoutLeaves();
  }

  /**
   * When leaves are thin on average, those below twice the average go: at least half of them, so that looking at all of
   * them is paid for. A leaf that drains while the others are full stays until it is empty.
   */
  private thinOut(): void {
    const { dense } = this;
    if (dense === undefined || this.pages - (this.hash?.live ?? 0) >= dense.size * THIN) return;
    for (const chunk of dense.below(2 * THIN)) this.demote(chunk);
    if (dense.size === 0) this.withoutLeaves();
  }

  private demote(chunk: number): void {
    const leaf = this.dense?.take(chunk);
    if (leaf === undefined) return;
    this.hash ??= new PinHash();
    const { hash } = this;
    leaf.forEach(0, CHUNK_MASK, (page, pfn, references) => hash.insert(page, pfn, references));
  }

  private withoutLeaves(): void {
    this.dense = undefined;
    if (this.hash !== undefined) this.fewAgain(this.hash);
  }

  private releaseScattered(hash: PinHash, page: number): number {
    const left = hash.release(page);
    if (left !== 0) return left;
    this.releasedPfn = hash.lost;
    this.pages--;
    this.fewAgain(hash);
    return left;
  }

  /** A hash of a few pages goes back to the array, unless there are leaves beside it. */
  private fewAgain(hash: PinHash): void {
    if (this.dense !== undefined || hash.live > FEW_AGAIN) return;
    this.few = new FewPins();
    for (const page of hash.pagesIn(0, this.npages - 1)) {
      this.few.insert(page, hash.pfn(page), hash.references(page));
    }
    this.hash = undefined;
  }

  private releaseFew(few: FewPins, page: number): number {
    const left = few.release(page);
    if (left !== 0) return left;
    this.releasedPfn = few.lost;
    this.pages--;
    return left;
  }

  /** Pages from..to that are in the array or the hash, ascending. */
  private lonePages(from: number, to: number): readonly number[] | Int32Array {
    const { few, hash } = this;
    if (hash !== undefined && to - from < hash.live) {
      const found: number[] = [];
      for (let page = from; page <= to; page++) if (hash.references(page) > 0) found.push(page);
      return found;
    }
    const found = hash?.pagesIn(from, to) ?? [];
    for (let i = 0; few !== undefined && i < few.live; i++) {
      const page = few.pageAt(i);
      if (from <= page && page <= to) found.push(page);
    }
    return Int32Array.from(found).sort();
  }

  /** Visits lone pages from entry `next` on, up to page `before`. @returns the entry to go on with. */
  private visitLone(lone: ArrayLike<number>, next: number, until: { before: number; visit: PinVisitor }): number {
    let at = next;
    for (let page = lone[at]; page !== undefined && page < until.before; page = lone[at]) {
      until.visit(page, this.pfn(page), this.references(page));
      at++;
    }
    return at;
  }
}
