import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame, type FrameRange, type IovaFrame, LAST_FRAME } from '@pinion/core';
import { KernelDmaTree } from '@pinion/type1';
import fc from 'fast-check';

/** A mapping that notes when a search looks at it: so a test sees the path to each one, and with it the tree. */
class Seen implements FrameRange {
  static path: Seen[] = [];
  readonly last: IovaFrame;
  readonly #first: IovaFrame;

  constructor(first: number, last: number) {
    this.#first = asIovaFrame(first);
    this.last = asIovaFrame(last);
  }

  get first(): IovaFrame {
    if (Seen.path.at(-1) !== this) Seen.path.push(this);
    return this.#first;
  }

  get start(): number {
    return this.#first;
  }
}

type Tree = KernelDmaTree<Seen>;
interface Shape {
  left?: Seen;
  right?: Seen;
}

/** The tree as searches see it. @returns its root and every node's children. */
function shapeOf(tree: Tree, all: readonly Seen[]): { root: Seen | undefined; shape: Map<Seen, Shape> } {
  const shape = new Map<Seen, Shape>(all.map((node) => [node, {}]));
  let root: Seen | undefined;
  for (const node of all) {
    Seen.path = [];
    assert.equal(tree.find(asIovaFrame(node.start)), node);
    const path = Seen.path;
    root = path[0];
    assert.equal(path.at(-1), node);
    const parent = path.at(-2);
    if (parent === undefined) continue;
    const children = shape.get(parent) ?? {};
    if (node.start < parent.start) children.left = node;
    else children.right = node;
  }
  return { root, shape };
}

/**
 * Black heights that a subtree can have with a black and with a red root: not empty for the whole exactly if the nodes can be
 * coloured so that no red one has a red child and all paths have as many black ones.
 */
function heights(shape: Map<Seen, Shape>, node: Seen | undefined): { black: Set<number>; red: Set<number> } {
  if (node === undefined) return { black: new Set([0]), red: new Set() };
  const left = heights(shape, shape.get(node)?.left);
  const right = heights(shape, shape.get(node)?.right);
  const any = (side: typeof left): Set<number> => new Set([...side.black, ...side.red]);
  const both = (a: Set<number>, b: Set<number>): number[] => [...a].filter((height) => b.has(height));
  return {
    black: new Set(both(any(left), any(right)).map((height) => height + 1)),
    red: new Set(both(left.black, right.black)),
  };
}

const SLOTS = 64;
/** Slot n may hold frames 8n+1..8n+width: mappings never overlap. */
const ops = fc.array(fc.tuple(fc.nat(SLOTS - 1), fc.integer({ min: 1, max: 8 })), { maxLength: 150, size: 'max' });

test('random inserts and removes: searches find what a list finds, the tree stays balanced', () => {
  fc.assert(
    fc.property(ops, fc.boolean(), (steps, wraps) => {
      const tree: Tree = new KernelDmaTree(wraps);
      const held = new Map<number, Seen>();
      for (const [slot, width] of steps) {
        const known = held.get(slot);
        if (known !== undefined) {
          tree.remove(known);
          held.delete(slot);
        } else {
          const made = new Seen(slot * 8 + 1, slot * 8 + width);
          tree.insert(made);
          held.set(slot, made);
        }
        assert.equal(tree.size, held.size);
      }
      const list = [...held.values()].sort((a, b) => a.start - b.start);
      const inOrder: Seen[] = [];
      for (let at = tree.first(); at !== undefined; at = tree.after(at)) inOrder.push(at);
      assert.deepEqual(inOrder, list);
      const { root, shape } = shapeOf(tree, list);
      assert.ok(heights(shape, root).black.size > 0);
      for (let frame = 0; frame <= SLOTS * 8 + 1; frame += 3) checkSearches(tree, list, frame);
    }),
    { numRuns: 150 },
  );
});

function checkSearches(tree: Tree, list: readonly Seen[], frame: number): void {
  const at = asIovaFrame(frame);
  const far = asIovaFrame(frame + 11);
  assert.equal(
    tree.find(at),
    list.find(({ start, last }) => start <= frame && frame <= last),
  );
  const overlap = tree.findOverlap(at, far);
  const overlapping = list.filter(({ start, last }) => start <= far && frame <= last);
  assert.equal(overlap === undefined, overlapping.length === 0);
  if (overlap !== undefined) assert.ok(overlapping.includes(overlap));
  assert.equal(tree.firstInside(at, far, false), overlapping[0]);
}

test('removing what is not there changes nothing', () => {
  const tree: Tree = new KernelDmaTree(false);
  const one = new Seen(1, 2);
  tree.insert(one);
  tree.remove(new Seen(1, 2));
  assert.deepEqual([tree.size, tree.find(asIovaFrame(2))], [1, one]);
});

/** Some mappings and one, two or three that end at 2^64. */
const withTop = fc.tuple(
  fc.uniqueArray(fc.nat(SLOTS - 1), { maxLength: 40, size: 'max' }),
  fc.integer({ min: 1, max: 3 }),
);

test('where ends wrap, a mapping up to 2^64 is never found, the others always, and a search up to 2^64 finds nothing', () => {
  fc.assert(
    fc.property(withTop, ([slots, tops]) => {
      const tree: Tree = new KernelDmaTree(true);
      const low = slots.map((slot) => new Seen(slot * 8 + 1, slot * 8 + 8));
      for (const one of low) tree.insert(one);
      for (let i = 0; i < tops; i += 1) tree.insert(new Seen(LAST_FRAME - 4, LAST_FRAME));
      for (let frame = LAST_FRAME - 5; frame < LAST_FRAME; frame += 1)
        assert.equal(tree.find(asIovaFrame(frame)), undefined);
      for (const one of low) {
        assert.equal(tree.find(asIovaFrame(one.start)), one);
        assert.equal(tree.findOverlap(asIovaFrame(one.start), asIovaFrame(LAST_FRAME)), undefined);
      }
      assert.equal(tree.find(asIovaFrame(LAST_FRAME)), undefined);
      assert.equal(tree.size, low.length + tops);
    }),
    { numRuns: 60 },
  );
});

test('where ends do not wrap, the last frame is a frame like any other', () => {
  const tree: Tree = new KernelDmaTree(false);
  const top = new Seen(LAST_FRAME - 4, LAST_FRAME);
  tree.insert(top);
  assert.equal(tree.find(asIovaFrame(LAST_FRAME)), top);
  assert.equal(tree.firstInside(asIovaFrame(0), asIovaFrame(LAST_FRAME), false), top);
  assert.equal(tree.findOverlap(asIovaFrame(0), asIovaFrame(LAST_FRAME - 5)), undefined);
});
