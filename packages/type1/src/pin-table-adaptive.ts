/** The adaptive table: a few pins in an array, scattered pins in a hash, crowded 2 MiB chunks in leaves. */
import { CHUNK_BITS, CHUNK_MASK, PinChunks } from './pin-chunks.js';
import { FewPins, MAX_FEW } from './pin-few.js';
import { MIN_HASH, PinHash, scatter } from './pin-hash.js';
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
    if (this.hash === undefined) return this.few === undefined ? -1 : this.few.pfn(index);
    const slot = this.hash.find(index);
    return slot < 0 ? -1 : this.hash.frameAt(slot);
  }

  references(page: number): number {
    const index = page | 0;
    if (index !== page || index < 0) return 0;
    const leaf = this.dense?.leafOf(index);
    if (leaf !== undefined) return leaf.references(index & CHUNK_MASK);
    if (this.hash === undefined) return this.few === undefined ? 0 : this.few.references(index);
    const slot = this.hash.find(index);
    return slot < 0 ? 0 : this.hash.referencesAt(slot);
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
    this.hash ??= new PinHash(MIN_HASH);
    if ((this.hash.live + 1) * 4 > this.hash.capacity * 3) this.rebalance(this.hash);
    const leaf = this.dense?.leafOf(page);
    if (leaf !== undefined) leaf.insert(page & CHUNK_MASK, pfn, 1);
    else this.reserve(1).insert(page, pfn, 1);
  }

  private spill(few: FewPins): void {
    const hash = new PinHash(MIN_HASH);
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
    if (this.hash !== undefined && this.hash.live > 0) this.moveOut(this.hash, leaf);
    return leaf;
  }

  /** Moves every page of a leaf's chunk from the hash into the leaf. */
  private moveOut(hash: PinHash, leaf: PinLeaf): void {
    for (let slot = 0; slot <= CHUNK_MASK; slot++) {
      const page = leaf.base + slot;
      const at = hash.find(page);
      if (at < 0) continue;
      leaf.insert(slot, hash.frameAt(at), hash.referencesAt(at));
      hash.remove(at);
    }
  }

  /** The hash is full: chunks that got crowded move to leaves, what remains gets a hash of the right size. */
  private rebalance(hash: PinHash): void {
    const crowded = crowdedChunks(hash);
    if (crowded.length === 0) {
      this.hash = hash.resized(capacityFor(hash.live));
      return;
    }
    this.dense ??= new PinChunks(this.npages);
    for (const chunk of crowded) this.dense.make(chunk);
    const rest = this.withoutCrowded(hash, this.dense);
    this.hash = rest.live === 0 ? undefined : rest.resized(capacityFor(rest.live));
  }

  /** Copies every entry to the leaf of its chunk if there is one, else into a new hash. */
  private withoutCrowded(hash: PinHash, dense: PinChunks): PinHash {
    const rest = new PinHash(hash.capacity);
    for (let slot = 0; slot < hash.capacity; slot++) {
      const references = hash.referencesAt(slot);
      if (references === 0) continue;
      const page = hash.pageAt(slot);
      const leaf = dense.leafOf(page);
      if (leaf !== undefined) leaf.insert(page & CHUNK_MASK, hash.frameAt(slot), references);
      else rest.insert(page, hash.frameAt(slot), references);
    }
    return rest;
  }

  /** The hash, with room for `count` more. */
  private reserve(count: number): PinHash {
    let hash = this.hash ?? new PinHash(MIN_HASH);
    if ((hash.live + count) * 4 > hash.capacity * 3) hash = hash.resized(capacityFor(hash.live + count));
    this.hash = hash;
    return hash;
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
    const hash = this.reserve(leaf.live);
    leaf.forEach(0, CHUNK_MASK, (page, pfn, references) => hash.insert(page, pfn, references));
  }

  private withoutLeaves(): void {
    this.dense = undefined;
    if (this.hash !== undefined) this.shrink(this.hash);
  }

  private releaseScattered(hash: PinHash, page: number): number {
    const left = hash.release(page);
    if (left !== 0) return left;
    this.releasedPfn = hash.lost;
    this.pages--;
    if (hash.live * 8 < hash.capacity) this.shrink(hash);
    return left;
  }

  private shrink(hash: PinHash): void {
    if (this.dense === undefined && hash.live <= FEW_AGAIN) {
      this.few = new FewPins();
      for (let slot = 0; slot < hash.capacity; slot++) {
        const references = hash.referencesAt(slot);
        if (references !== 0) this.few.insert(hash.pageAt(slot), hash.frameAt(slot), references);
      }
      this.hash = undefined;
    } else if (hash.capacity > MIN_HASH && hash.live * 8 < hash.capacity) {
      this.hash = hash.resized(capacityFor(hash.live));
    }
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
    const found: number[] = [];
    if (hash !== undefined && to - from < hash.capacity) {
      for (let page = from; page <= to; page++) if (hash.find(page) >= 0) found.push(page);
      return found;
    }
    for (let slot = 0; hash !== undefined && slot < hash.capacity; slot++) {
      const page = hash.pageAt(slot);
      if (hash.referencesAt(slot) !== 0 && from <= page && page <= to) found.push(page);
    }
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

/** Smallest table that `live` entries fill to less than 3/5. */
function capacityFor(live: number): number {
  let capacity = MIN_HASH;
  while (live * 5 > capacity * 3) capacity *= 2;
  return capacity;
}

/**
 * Chunks with at least CROWDED pages in the hash. A small sketch of counters (about one per 16 pages) tells whether it is
 * worth counting at all; exact counts are taken only of pages whose counter is high.
 */
function crowdedChunks(hash: PinHash): number[] {
  if (hash.live < CROWDED) return [];
  const sketch = new Uint16Array(1 << (28 - Math.clz32(hash.live)));
  const mask = sketch.length - 1;
  let highest = 0;
  for (let slot = 0; slot < hash.capacity; slot++) {
    if (hash.referencesAt(slot) === 0) continue;
    const counter = scatter(hash.pageAt(slot) >> CHUNK_BITS) & mask;
    const count = (sketch[counter] ?? 0) + 1;
    sketch[counter] = count;
    if (count > highest) highest = count;
  }
  return highest < CROWDED ? [] : exactlyCrowded(hash, sketch);
}

function exactlyCrowded(hash: PinHash, sketch: Uint16Array): number[] {
  const counts = new Map<number, number>();
  const mask = sketch.length - 1;
  for (let slot = 0; slot < hash.capacity; slot++) {
    if (hash.referencesAt(slot) === 0) continue;
    const chunk = hash.pageAt(slot) >> CHUNK_BITS;
    if ((sketch[scatter(chunk) & mask] ?? 0) >= CROWDED) counts.set(chunk, (counts.get(chunk) ?? 0) + 1);
  }
  return [...counts.keys()].filter((chunk) => (counts.get(chunk) ?? 0) >= CROWDED);
}
