import { type FrameRange, type IovaFrame, LAST_FRAME } from '@pinion/core';

/** One past the last frame: in the kernels of the quirk, sums of a frame and a count wrap here to 0, as bytes do at 2^64. */
const WRAP = 2 ** 52;

interface Node<T> {
  readonly mapping: T;
  red: boolean;
  parent: Node<T> | undefined;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
}

/**
 * Mappings in a red-black tree, the index under kernel profiles: what two answers depend on is where a mapping stands in the tree. One is
 * what a search finds whose ends wrap to 0 at 2^64 (quirk top-mapping-invisible), the other which of two neighbours an unaligned pin
 * hits (quirk unaligned-pins). So the balancing is the textbook's, step by step; speed does not matter here.
 * Source: vfio_find_dma(), vfio_find_dma_first_node(), vfio_link_dma() before 6.18.
 */
export class KernelDmaTree<T extends FrameRange> {
  #root: Node<T> | undefined;
  readonly #nodes = new Map<T, Node<T>>();
  readonly #wraps: boolean;

  /** `wraps`: ends wrap to 0 at 2^64. */
  constructor(wraps: boolean) {
    this.#wraps = wraps;
  }

  get size(): number {
    return this.#nodes.size;
  }

  find(frame: IovaFrame): T | undefined {
    return this.findOverlap(frame, frame);
  }

  findOverlap(first: IovaFrame, last: IovaFrame): T | undefined {
    const end = this.#endOf(last);
    let node = this.#root;
    while (node !== undefined) {
      if (end <= node.mapping.first) node = node.left;
      else if (first >= this.#endOf(node.mapping.last)) node = node.right;
      else return node.mapping;
    }
    return undefined;
  }

  /** `all`: the request is the whole space less one byte, whose end does not wrap. */
  firstInside(first: IovaFrame, last: IovaFrame, all: boolean): T | undefined {
    let node = this.#root;
    let found: T | undefined;
    while (node !== undefined) {
      if (first >= this.#endOf(node.mapping.last)) {
        node = node.right;
        continue;
      }
      found = node.mapping;
      if (first >= node.mapping.first) break;
      node = node.left;
    }
    const end = all ? WRAP : this.#endOf(last);
    return found !== undefined && found.first >= end ? undefined : found;
  }

  first(): T | undefined {
    return this.#root === undefined ? undefined : lowest(this.#root).mapping;
  }

  after(mapping: T): T | undefined {
    let node = this.#nodes.get(mapping);
    if (node?.right !== undefined) return lowest(node.right).mapping;
    while (node?.parent !== undefined && node === node.parent.right) node = node.parent;
    return node?.parent?.mapping;
  }

  /** A new mapping is linked while its size still is 0, so equal addresses go to the left. */
  insert(mapping: T): void {
    let parent: Node<T> | undefined;
    let left = false;
    for (let at = this.#root; at !== undefined; at = left ? at.left : at.right) {
      parent = at;
      left = mapping.first <= at.mapping.first;
    }
    const node: Node<T> = { mapping, red: true, parent, left: undefined, right: undefined };
    this.#nodes.set(mapping, node);
    if (parent === undefined) this.#root = node;
    else if (left) parent.left = node;
    else parent.right = node;
    this.#balanceInsert(node);
  }

  remove(mapping: T): void {
    const node = this.#nodes.get(mapping);
    if (node === undefined) return;
    this.#nodes.delete(mapping);
    if (node.left !== undefined && node.right !== undefined) this.#removeInner(node, node.left, node.right);
    else this.#removeOuter(node);
  }

  /**
   * The frame after `last`: 0 after the last of all, where ends wrap. The last frame is compared, not added to: V8 14 (Node 26)
   * optimises sums that reach 2^52 wrongly now and then (its additive-safe-int feedback).
   */
  #endOf(last: number): number {
    if (last !== LAST_FRAME) return last + 1;
    return this.#wraps ? 0 : WRAP;
  }

  #balanceInsert(start: Node<T>): void {
    let node = start;
    for (let parent = node.parent; parent?.red === true; parent = node.parent) {
      const grand = parent.parent;
      if (grand === undefined) break;
      const onLeft = parent === grand.left;
      const uncle = onLeft ? grand.right : grand.left;
      if (uncle?.red === true) {
        parent.red = false;
        uncle.red = false;
        grand.red = true;
        node = grand;
        continue;
      }
      if (node === (onLeft ? parent.right : parent.left)) {
        this.#rotate(parent, onLeft);
        parent = node;
      }
      parent.red = false;
      grand.red = true;
      this.#rotate(grand, !onLeft);
      break;
    }
    if (this.#root !== undefined) this.#root.red = false;
  }

  /** A node with at most one child: the child takes its place. */
  #removeOuter(node: Node<T>): void {
    const child = node.left ?? node.right;
    const { parent } = node;
    const onLeft = parent?.left === node;
    this.#replace(node, child);
    if (child !== undefined) child.red = false;
    else if (!node.red && parent !== undefined) this.#balanceRemove(parent, onLeft);
  }

  /** A node with two children: the next higher one takes its place and its colour. */
  #removeInner(node: Node<T>, left: Node<T>, right: Node<T>): void {
    const next = lowest(right);
    const wasRed = next.red;
    const child = next.right;
    const direct = next === right;
    const gap = direct ? next : next.parent;
    if (!direct) {
      this.#replace(next, child);
      next.right = right;
      right.parent = next;
    }
    this.#replace(node, next);
    next.left = left;
    left.parent = next;
    next.red = node.red;
    if (child !== undefined) child.red = false;
    else if (!wasRed && gap !== undefined) this.#balanceRemove(gap, !direct);
  }

  /** One side of `parent` is a black node short. */
  #balanceRemove(start: Node<T>, startOnLeft: boolean): void {
    let parent: Node<T> | undefined = start;
    let onLeft = startOnLeft;
    while (parent !== undefined) {
      let sibling: Node<T> | undefined = onLeft ? parent.right : parent.left;
      if (sibling?.red === true) {
        sibling.red = false;
        parent.red = true;
        this.#rotate(parent, onLeft);
        sibling = onLeft ? parent.right : parent.left;
      }
      if (sibling === undefined) return;
      if (sibling.left?.red !== true && sibling.right?.red !== true) {
        sibling.red = true;
        if (parent.red) {
          parent.red = false;
          return;
        }
        onLeft = parent.parent?.left === parent;
        parent = parent.parent;
        continue;
      }
      this.#borrow(parent, sibling, onLeft);
      return;
    }
  }

  /** A red child of the sibling makes up for the missing black node. */
  #borrow(parent: Node<T>, sibling: Node<T>, onLeft: boolean): void {
    let donor = sibling;
    const far = onLeft ? sibling.right : sibling.left;
    const near = onLeft ? sibling.left : sibling.right;
    if (far?.red !== true && near !== undefined) {
      near.red = false;
      sibling.red = true;
      this.#rotate(sibling, !onLeft);
      donor = near;
    }
    donor.red = parent.red;
    parent.red = false;
    const outer = onLeft ? donor.right : donor.left;
    if (outer !== undefined) outer.red = false;
    this.#rotate(parent, onLeft);
  }

  /** Rotates `node` down to the left (its right child comes up) or to the right. */
  #rotate(node: Node<T>, left: boolean): void {
    const up = left ? node.right : node.left;
    if (up === undefined) return;
    const inner = left ? up.left : up.right;
    if (left) node.right = inner;
    else node.left = inner;
    if (inner !== undefined) inner.parent = node;
    this.#replace(node, up);
    if (left) up.left = node;
    else up.right = node;
    node.parent = up;
  }

  /** Puts `next` where `node` is for its parent. */
  #replace(node: Node<T>, next: Node<T> | undefined): void {
    const { parent } = node;
    if (parent === undefined) this.#root = next;
    else if (parent.left === node) parent.left = next;
    else parent.right = next;
    if (next !== undefined) next.parent = parent;
  }
}

function lowest<T>(from: Node<T>): Node<T> {
  let node = from;
  while (node.left !== undefined) node = node.left;
  return node;
}
