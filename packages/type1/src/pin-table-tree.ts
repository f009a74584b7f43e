/** The ordered tree: a red-black tree as the kernel's pfn_list, its nodes rows of typed arrays. */
import { checkPin, MAX_REFERENCES, type PinTable, type PinVisitor, pinTableErrors } from './pin-table.js';

const NIL = 0;
const LEFT = 0;
const RIGHT = 1;
const PARENT = 2;
const STRIDE = 3;
const FIRST_CAPACITY = 8;
// A typed array without elements still has headers of a hundred bytes: tables without pins share these.
const NO_LINKS = new Int32Array(0);
const NO_BYTES = new Uint8Array(0);
const NO_DOUBLES = new Float64Array(0);
const NO_COUNTS = new Uint32Array(0);

/**
 * Costs log n for everything and 33 bytes per pinned page (times up to two after growth), dense or sparse, for mappings of
 * any size; the rows stay until the table is empty. Node numbers are row indices; row 0 is the sentinel. Insertion and deletion after Cormen et al., chapter 13.
 */
export class TreePinTable implements PinTable {
  readonly npages: number;
  pages = 0;
  releasedPfn = -1;
  private capacity = 0;
  private links = NO_LINKS;
  private red = NO_BYTES;
  private keys = NO_DOUBLES;
  private frames = NO_DOUBLES;
  private counts = NO_COUNTS;
  private root = NIL;
  /** Free rows, chained through their LEFT link. */
  private free = NIL;
  private used = 1;

  constructor(npages: number) {
    this.npages = npages;
  }

  acquire(page: number): number {
    const node = this.find(page);
    if (node === NIL) return -1;
    const references = this.counts[node] ?? 0;
    if (references === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page });
    this.counts[node] = references + 1;
    return this.frames[node] ?? -1;
  }

  insert(page: number, pfn: number): void {
    checkPin(this.npages, page, pfn);
    let parent = NIL;
    let node = this.root;
    let side = LEFT;
    while (node !== NIL) {
      const key = this.keys[node] ?? 0;
      if (key === page) throw pinTableErrors.PIN_EXISTS({ page });
      parent = node;
      side = page < key ? LEFT : RIGHT;
      node = this.link(node, side);
    }
    const added = this.allocate(page, pfn);
    this.setLink(added, PARENT, parent);
    if (parent === NIL) this.root = added;
    else this.setLink(parent, side, added);
    this.pages++;
    this.fixInsert(added);
  }

  release(page: number): number {
    const node = this.find(page);
    if (node === NIL) return -1;
    const left = (this.counts[node] ?? 0) - 1;
    this.counts[node] = left;
    if (left === 0) {
      this.releasedPfn = this.frames[node] ?? -1;
      this.pages--;
      if (this.pages > 0) this.remove(node);
      else if (this.capacity > FIRST_CAPACITY) this.clear();
      else this.forget();
    }
    return left;
  }

  pfn(page: number): number {
    const node = this.find(page);
    return node === NIL ? -1 : (this.frames[node] ?? -1);
  }

  references(page: number): number {
    const node = this.find(page);
    return node === NIL ? 0 : (this.counts[node] ?? 0);
  }

  forEach(first: number, last: number, visit: PinVisitor): void {
    let node = this.lowerBound(first);
    while (node !== NIL) {
      const page = this.keys[node] ?? 0;
      if (page > last) return;
      // The successor is looked up first: the visitor may release this page.
      const next = this.successor(node);
      visit(page, this.frames[node] ?? -1, this.counts[node] ?? 0);
      node = next;
    }
  }

  firstIn(first: number, last: number): number {
    const node = this.lowerBound(first);
    const page = this.keys[node] ?? 0;
    return node === NIL || page > last ? -1 : page;
  }

  clear(): void {
    this.forget();
    this.capacity = 0;
    this.links = NO_LINKS;
    this.red = NO_BYTES;
    this.keys = NO_DOUBLES;
    this.frames = NO_DOUBLES;
    this.counts = NO_COUNTS;
  }

  byteSize(): number {
    return (
      this.links.byteLength +
      this.red.byteLength +
      this.keys.byteLength +
      this.frames.byteLength +
      this.counts.byteLength
    );
  }

  /** Checks the red-black rules, for tests. @returns the black height, or -1 if a red node has a red child or heights differ. */
  blackHeight(node: number = this.root): number {
    if (node === NIL) return 1;
    const left = this.link(node, LEFT);
    const right = this.link(node, RIGHT);
    const height = this.blackHeight(left);
    const redUnderRed = this.red[node] === 1 && (this.red[left] === 1 || this.red[right] === 1);
    if (redUnderRed || height < 0 || height !== this.blackHeight(right)) return -1;
    return height + (this.red[node] === 1 ? 0 : 1);
  }

  private forget(): void {
    this.pages = 0;
    this.root = NIL;
    this.free = NIL;
    this.used = 1;
  }

  private link(node: number, which: number): number {
    return this.links[node * STRIDE + which] ?? NIL;
  }

  private setLink(node: number, which: number, to: number): void {
    this.links[node * STRIDE + which] = to;
  }

  private find(page: number): number {
    const { keys, links } = this;
    let node = this.root;
    while (node !== NIL) {
      const key = keys[node] ?? 0;
      if (key === page) return node;
      node = links[node * STRIDE + (page < key ? LEFT : RIGHT)] ?? NIL;
    }
    return NIL;
  }

  /** The node of the lowest page at or after `first`. */
  private lowerBound(first: number): number {
    let found = NIL;
    let node = this.root;
    while (node !== NIL) {
      if ((this.keys[node] ?? 0) >= first) {
        found = node;
        node = this.link(node, LEFT);
      } else {
        node = this.link(node, RIGHT);
      }
    }
    return found;
  }

  private successor(of: number): number {
    const right = this.link(of, RIGHT);
    if (right !== NIL) return this.leftmost(right);
    let node = of;
    let up = this.link(node, PARENT);
    while (up !== NIL && node === this.link(up, RIGHT)) {
      node = up;
      up = this.link(up, PARENT);
    }
    return up;
  }

  private leftmost(of: number): number {
    let node = of;
    while (this.link(node, LEFT) !== NIL) node = this.link(node, LEFT);
    return node;
  }

  /** A red node without children. */
  private allocate(page: number, pfn: number): number {
    let node = this.free;
    if (node !== NIL) this.free = this.link(node, LEFT);
    else {
      if (this.used >= this.capacity) this.resize(Math.max(FIRST_CAPACITY, this.capacity * 2));
      node = this.used++;
    }
    this.setLink(node, LEFT, NIL);
    this.setLink(node, RIGHT, NIL);
    this.red[node] = 1;
    this.keys[node] = page;
    this.frames[node] = pfn;
    this.counts[node] = 1;
    return node;
  }

  private resize(capacity: number): void {
    const old = { links: this.links, red: this.red, keys: this.keys, frames: this.frames, counts: this.counts };
    this.capacity = capacity;
    this.links = new Int32Array(capacity * STRIDE);
    this.red = new Uint8Array(capacity);
    this.keys = new Float64Array(capacity);
    this.frames = new Float64Array(capacity);
    this.counts = new Uint32Array(capacity);
    this.links.set(old.links);
    this.red.set(old.red);
    this.keys.set(old.keys);
    this.frames.set(old.frames);
    this.counts.set(old.counts);
  }

  /** Turns `node` down to `side`; its child on the other side takes its place. */
  private rotate(node: number, side: number): void {
    const other = RIGHT - side;
    const child = this.link(node, other);
    const inner = this.link(child, side);
    this.setLink(node, other, inner);
    if (inner !== NIL) this.setLink(inner, PARENT, node);
    this.replace(node, child);
    this.setLink(child, side, node);
    this.setLink(node, PARENT, child);
  }

  /** Hangs `by` where `node` hangs. The sentinel takes a parent too: `fixRemove` climbs from it. */
  private replace(node: number, by: number): void {
    const parent = this.link(node, PARENT);
    if (parent === NIL) this.root = by;
    else this.setLink(parent, node === this.link(parent, LEFT) ? LEFT : RIGHT, by);
    this.setLink(by, PARENT, parent);
  }

  private fixInsert(added: number): void {
    let node = added;
    for (let parent = this.link(node, PARENT); this.red[parent] === 1; parent = this.link(node, PARENT)) {
      const grand = this.link(parent, PARENT);
      const side = parent === this.link(grand, LEFT) ? LEFT : RIGHT;
      const uncle = this.link(grand, RIGHT - side);
      this.red[grand] = 1;
      if (this.red[uncle] === 1) {
        this.red[parent] = 0;
        this.red[uncle] = 0;
        node = grand;
        continue;
      }
      if (node === this.link(parent, RIGHT - side)) {
        this.rotate(parent, side);
        this.red[node] = 0;
        node = parent;
      } else {
        this.red[parent] = 0;
      }
      this.rotate(grand, RIGHT - side);
    }
    this.red[this.root] = 0;
  }

  private remove(node: number): void {
    let lostRed = this.red[node];
    let hole: number;
    if (this.link(node, LEFT) === NIL || this.link(node, RIGHT) === NIL) {
      hole = this.link(node, LEFT) === NIL ? this.link(node, RIGHT) : this.link(node, LEFT);
      this.replace(node, hole);
    } else {
      const next = this.leftmost(this.link(node, RIGHT));
      lostRed = this.red[next];
      hole = this.link(next, RIGHT);
      this.substitute(node, next, hole);
    }
    if (lostRed === 0) this.fixRemove(hole);
    this.setLink(NIL, PARENT, NIL);
    this.setLink(node, LEFT, this.free);
    this.free = node;
  }

  /** Puts the successor `next` (whose only child is `hole`) into the place and colour of `node`. */
  private substitute(node: number, next: number, hole: number): void {
    if (this.link(next, PARENT) === node) {
      this.setLink(hole, PARENT, next);
    } else {
      this.replace(next, hole);
      this.setLink(next, RIGHT, this.link(node, RIGHT));
      this.setLink(this.link(next, RIGHT), PARENT, next);
    }
    this.replace(node, next);
    this.setLink(next, LEFT, this.link(node, LEFT));
    this.setLink(this.link(next, LEFT), PARENT, next);
    this.red[next] = this.red[node] ?? 0;
  }

  private fixRemove(hole: number): void {
    let node = hole;
    while (node !== this.root && this.red[node] === 0) {
      const parent = this.link(node, PARENT);
      const side = node === this.link(parent, LEFT) ? LEFT : RIGHT;
      const sibling = this.redSiblingDown(parent, side);
      const near = this.link(sibling, side);
      const far = this.link(sibling, RIGHT - side);
      if (this.red[near] === 0 && this.red[far] === 0) {
        this.red[sibling] = 1;
        node = parent;
      } else {
        this.borrowBlack(parent, sibling, side);
        node = this.root;
      }
    }
    this.red[node] = 0;
  }

  /** @returns the sibling opposite of `side`, black: a red one is rotated above the parent first. */
  private redSiblingDown(parent: number, side: number): number {
    const sibling = this.link(parent, RIGHT - side);
    if (this.red[sibling] === 0) return sibling;
    this.red[sibling] = 0;
    this.red[parent] = 1;
    this.rotate(parent, side);
    return this.link(parent, RIGHT - side);
  }

  /** The sibling has a red child: one or two rotations make up for the lost black. */
  private borrowBlack(parent: number, sibling: number, side: number): void {
    const far = this.link(sibling, RIGHT - side);
    let top = sibling;
    if (this.red[far] === 0) {
      top = this.link(sibling, side);
      this.red[sibling] = 1;
      this.rotate(sibling, RIGHT - side);
    }
    this.red[top] = this.red[parent] ?? 0;
    this.red[parent] = 0;
    this.red[this.link(top, RIGHT - side)] = 0;
    this.rotate(parent, side);
  }
}
