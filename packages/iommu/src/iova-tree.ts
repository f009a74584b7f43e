/** No node. */
export const NONE = -1;
/** The node above all ranges; always there. */
export const ANCHOR = 0;
/** Stands for the largest unsigned long: a frame that nobody can have. The anchor lies there. */
export const ALL_ONES = Number.MAX_SAFE_INTEGER;

/** Where a node's five links stand: left child, right child, parent, next lower, next higher. */
const LEFT = 0;
const RIGHT = 1;
const PARENT = 2;
const BELOW = 3;
const ABOVE = 4;
const STRIDE = 5;

const FIRST_CAPACITY = 16;
const SEED = 0x9e3779b9;

/**
 * Disjoint ranges in order, each a node number that stays valid until it is removed: a treap in typed arrays whose nodes
 * are also linked in order, so that a neighbour is one step away and a new range finds its place without a search. The
 * kernel uses a red-black tree for the same purpose; answers do not depend on the shape. 45 bytes per range.
 */
export class IovaTree {
  #lo = new Float64Array(FIRST_CAPACITY);
  #hi = new Float64Array(FIRST_CAPACITY);
  #links = new Int32Array(FIRST_CAPACITY * STRIDE);
  #priority = new Uint32Array(FIRST_CAPACITY);
  #root = ANCHOR;
  #count = 1;
  #used = 1;
  readonly #free: number[] = [];
  #random = SEED;

  constructor() {
    this.#lo[ANCHOR] = ALL_ONES;
    this.#hi[ANCHOR] = ALL_ONES;
    this.#links.fill(NONE, 0, STRIDE);
  }

  /** Ranges, the anchor not counted. */
  get size(): number {
    return this.#count - 1;
  }

  lo(node: number): number {
    return this.#lo[node] ?? 0;
  }

  hi(node: number): number {
    return this.#hi[node] ?? 0;
  }

  /** The next lower range, or NONE. */
  below(node: number): number {
    return this.#link(node, BELOW);
  }

  /** The next higher range; the anchor after the last. */
  above(node: number): number {
    return this.#link(node, ABOVE);
  }

  /** Moves the lower end; it must stay above the range below. */
  setLo(node: number, lo: number): void {
    this.#lo[node] = lo;
  }

  /** The lowest range whose end is at or above `frame`; the anchor if there is none. */
  ceiling(frame: number): number {
    let found = ANCHOR;
    let node = this.#root;
    while (node !== NONE) {
      if (this.hi(node) >= frame) {
        found = node;
        node = this.#link(node, LEFT);
      } else node = this.#link(node, RIGHT);
    }
    return found;
  }

  /** The range that holds `frame`, or NONE. */
  find(frame: number): number {
    const node = this.ceiling(frame);
    return node !== ANCHOR && this.lo(node) <= frame ? node : NONE;
  }

  /** Puts lo..hi directly below the node `upper`; the caller knows that it fits there. @returns its node. */
  insertBelow(upper: number, lo: number, hi: number): number {
    const node = this.#take();
    this.#lo[node] = lo;
    this.#hi[node] = hi;
    this.#priority[node] = this.#nextRandom();
    const lower = this.below(upper);
    this.#set(node, BELOW, lower);
    this.#set(node, ABOVE, upper);
    this.#set(upper, BELOW, node);
    if (lower !== NONE) this.#set(lower, ABOVE, node);
    const parent = this.#link(upper, LEFT) === NONE ? upper : lower;
    this.#set(parent, parent === upper ? LEFT : RIGHT, node);
    this.#set(node, PARENT, parent);
    this.#rise(node);
    this.#count += 1;
    return node;
  }

  /** Takes a range out; its node number may be given to another. The anchor stays. */
  remove(node: number): void {
    const lower = this.below(node);
    const upper = this.above(node);
    this.#set(upper, BELOW, lower);
    if (lower !== NONE) this.#set(lower, ABOVE, upper);
    this.#sink(node);
    this.#free.push(node);
    this.#count -= 1;
  }

  #link(node: number, which: number): number {
    return this.#links[node * STRIDE + which] ?? NONE;
  }

  #set(node: number, which: number, to: number): void {
    this.#links[node * STRIDE + which] = to;
  }

  #weight(node: number): number {
    return this.#priority[node] ?? 0;
  }

  /** Rotates a new leaf up to where its priority belongs. */
  #rise(node: number): void {
    for (;;) {
      const parent = this.#link(node, PARENT);
      if (parent === NONE || this.#weight(parent) >= this.#weight(node)) return;
      this.#rotateUp(node);
    }
  }

  /** Rotates a node down until it has at most one child, which takes its place. */
  #sink(node: number): void {
    let left = this.#link(node, LEFT);
    let right = this.#link(node, RIGHT);
    while (left !== NONE && right !== NONE) {
      this.#rotateUp(this.#weight(left) > this.#weight(right) ? left : right);
      left = this.#link(node, LEFT);
      right = this.#link(node, RIGHT);
    }
    this.#replaceChild(node, left === NONE ? right : left);
  }

  /** Swaps a node with its parent and keeps the order. */
  #rotateUp(node: number): void {
    const parent = this.#link(node, PARENT);
    const side = this.#link(parent, LEFT) === node ? LEFT : RIGHT;
    const other = side === LEFT ? RIGHT : LEFT;
    const inner = this.#link(node, other);
    this.#replaceChild(parent, node);
    this.#set(parent, side, inner);
    if (inner !== NONE) this.#set(inner, PARENT, parent);
    this.#set(node, other, parent);
    this.#set(parent, PARENT, node);
  }

  /** Hangs `child` (or nothing) where `node` hangs. */
  #replaceChild(node: number, child: number): void {
    const parent = this.#link(node, PARENT);
    if (parent === NONE) this.#root = child;
    else this.#set(parent, this.#link(parent, LEFT) === node ? LEFT : RIGHT, child);
    if (child !== NONE) this.#set(child, PARENT, parent);
  }

  #nextRandom(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return x >>> 0;
  }

  #take(): number {
    const freed = this.#free.pop();
    if (freed === undefined && this.#used === this.#lo.length) this.#grow();
    const node = freed ?? this.#used;
    if (freed === undefined) this.#used += 1;
    this.#links.fill(NONE, node * STRIDE, (node + 1) * STRIDE);
    return node;
  }

  #grow(): void {
    const capacity = this.#used * 2;
    const [lo, hi] = [new Float64Array(capacity), new Float64Array(capacity)];
    const [links, priority] = [new Int32Array(capacity * STRIDE), new Uint32Array(capacity)];
    lo.set(this.#lo);
    hi.set(this.#hi);
    links.set(this.#links);
    priority.set(this.#priority);
    [this.#lo, this.#hi, this.#links, this.#priority] = [lo, hi, links, priority];
  }
}
