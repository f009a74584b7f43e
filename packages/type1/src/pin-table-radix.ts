/** The page table rooted in the mapping: leaves of 512 pages below directories of 512 entries, present only where pins are. */
import { PinLeaf } from './pin-leaf.js';
import { checkPin, type PinTable, type PinVisitor } from './pin-table.js';

const BITS = 9;
const FANOUT = 1 << BITS;
const MASK = FANOUT - 1;

/** A level of the table. The lowest level uses `leaves`, all others `below`; the other array stays empty. */
class Directory {
  readonly below: (Directory | undefined)[] = [];
  readonly leaves: (PinLeaf | undefined)[] = [];
  live = 0;

  constructor(level: number) {
    const slots: undefined[] = new Array(FANOUT).fill(undefined);
    if (level === 1) this.leaves = slots;
    else this.below = slots;
  }
}

const DIRECTORY_BYTES = FANOUT * 8;

/**
 * 8 bytes per page where pins are dense; a page that is alone in its 2 MiB costs a whole leaf (4 KiB) and its share of the
 * directories. Levels are added on top as higher pages come. Mappings up to 2^31 pages; `SegmentedPinTable` goes beyond.
 */
export class RadixPinTable implements PinTable {
  readonly npages: number;
  pages = 0;
  releasedPfn = -1;
  private root: Directory | undefined = undefined;
  private height = 0;
  private bytes = 0;
  private cached: PinLeaf | undefined = undefined;
  private cachedChunk = -1;

  constructor(npages: number) {
    this.npages = npages;
  }

  acquire(page: number): number {
    const leaf = this.leafOf(page);
    return leaf === undefined ? -1 : leaf.acquire(page & MASK);
  }

  insert(page: number, pfn: number): void {
    checkPin(this.npages, page, pfn);
    const leaf = this.leafOf(page) ?? this.grow(page);
    const before = leaf.byteSize();
    leaf.insert(page & MASK, pfn, 1);
    this.bytes += leaf.byteSize() - before;
    this.pages++;
  }

  release(page: number): number {
    const leaf = this.leafOf(page);
    if (leaf === undefined) return -1;
    const left = leaf.release(page & MASK);
    if (left === 0) {
      this.releasedPfn = leaf.frameAt(page & MASK);
      this.pages--;
      if (leaf.live === 0) this.prune(page, leaf);
    }
    return left;
  }

  pfn(page: number): number {
    const leaf = this.leafOf(page);
    return leaf === undefined ? -1 : leaf.pfn(page & MASK);
  }

  references(page: number): number {
    const leaf = this.leafOf(page);
    return leaf === undefined ? 0 : leaf.references(page & MASK);
  }

  forEach(first: number, last: number, visit: PinVisitor): void {
    this.walk(first, last, (leaf, from, to) => {
      leaf.forEach(from, to, visit);
      return false;
    });
  }

  firstIn(first: number, last: number): number {
    let found = -1;
    this.walk(first, last, (leaf, from, to) => {
      found = leaf.firstIn(from, to);
      return found >= 0;
    });
    return found;
  }

  clear(): void {
    this.root = undefined;
    this.height = 0;
    this.pages = 0;
    this.bytes = 0;
    this.cached = undefined;
    this.cachedChunk = -1;
  }

  byteSize(): number {
    return this.bytes;
  }

  /** Directory levels in use; 0 when nothing is pinned. */
  get levels(): number {
    return this.height;
  }

  private leafOf(page: number): PinLeaf | undefined {
    const index = page | 0;
    if (index !== page || index < 0) return undefined;
    const chunk = index >> BITS;
    return chunk === this.cachedChunk ? this.cached : this.descend(chunk);
  }

  private descend(chunk: number): PinLeaf | undefined {
    if (chunk >> (BITS * this.height) !== 0) return undefined;
    let node: Directory | undefined = this.root;
    for (let level = this.height; level > 1 && node !== undefined; level--) {
      node = node.below[(chunk >> (BITS * (level - 1))) & MASK];
    }
    const leaf = node?.leaves[chunk & MASK];
    if (leaf !== undefined) {
      this.cached = leaf;
      this.cachedChunk = chunk;
    }
    return leaf;
  }

  /** Makes the leaf for `page` and the directories above it. */
  private grow(page: number): PinLeaf {
    const chunk = page >> BITS;
    let node = this.root ?? this.addLevel();
    while (chunk >> (BITS * this.height) !== 0) node = this.addLevel();
    for (let level = this.height; level > 1; level--) {
      const slot = (chunk >> (BITS * (level - 1))) & MASK;
      let next = node.below[slot];
      if (next === undefined) {
        next = this.directory(level - 1);
        node.below[slot] = next;
        node.live++;
      }
      node = next;
    }
    const leaf = new PinLeaf(chunk << BITS, Math.min(FANOUT, this.npages));
    this.bytes += leaf.byteSize();
    node.leaves[chunk & MASK] = leaf;
    node.live++;
    this.cached = leaf;
    this.cachedChunk = chunk;
    return leaf;
  }

  private addLevel(): Directory {
    const root = this.directory(this.height + 1);
    if (this.root !== undefined && this.root.live > 0) {
      root.below[0] = this.root;
      root.live = 1;
    } else if (this.root !== undefined) {
      this.bytes -= DIRECTORY_BYTES;
    }
    this.root = root;
    this.height++;
    return root;
  }

  private directory(level: number): Directory {
    this.bytes += DIRECTORY_BYTES;
    return new Directory(level);
  }

  /** Takes an empty leaf out, and the directories above it that hold nothing else; the root goes with the last pin. */
  private prune(page: number, leaf: PinLeaf): void {
    const { root } = this;
    if (this.pages === 0 || root === undefined) {
      this.clear();
      return;
    }
    this.bytes -= leaf.byteSize();
    this.cached = undefined;
    this.cachedChunk = -1;
    this.pruneBelow(root, this.height, page >> BITS);
  }

  private pruneBelow(node: Directory, level: number, chunk: number): void {
    if (level === 1) {
      node.leaves[chunk & MASK] = undefined;
      node.live--;
      return;
    }
    const slot = (chunk >> (BITS * (level - 1))) & MASK;
    const next = node.below[slot];
    if (next === undefined) return;
    this.pruneBelow(next, level - 1, chunk);
    if (next.live > 0) return;
    node.below[slot] = undefined;
    node.live--;
    this.bytes -= DIRECTORY_BYTES;
  }

  /** Shows every leaf that overlaps first..last with its slots' closed range, ascending, until `visit` answers true. */
  private walk(first: number, last: number, visit: (leaf: PinLeaf, from: number, to: number) => boolean): void {
    const from = Math.max(0, first);
    const to = Math.min(last, this.npages - 1);
    if (this.root === undefined || from > to) return;
    this.walkBelow(this.root, this.height, { from, to, base: 0, visit });
  }

  private walkBelow(node: Directory, level: number, walk: Walk): boolean {
    // Doubles, not shifts: the root of three levels spans more than 2^31 pages.
    const span = FANOUT ** level;
    const begin = Math.max(0, Math.floor((walk.from - walk.base) / span));
    const end = Math.min(MASK, Math.floor((walk.to - walk.base) / span));
    for (let slot = begin; slot <= end; slot++) {
      const base = walk.base + slot * span;
      const leaf = node.leaves[slot];
      if (leaf !== undefined) {
        if (walk.visit(leaf, Math.max(0, walk.from - base), Math.min(MASK, walk.to - base))) return true;
      }
      const next = node.below[slot];
      if (next !== undefined && this.walkBelow(next, level - 1, { ...walk, base })) return true;
    }
    return false;
  }
}

interface Walk {
  readonly from: number;
  readonly to: number;
  /** First page below this directory. */
  readonly base: number;
  readonly visit: (leaf: PinLeaf, from: number, to: number) => boolean;
}
