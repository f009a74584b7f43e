import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AddressSpace, asPfn, asVaddrFrame, type Pfn, PinionError } from '@pinion/core';
import { GemAddressSpace } from '@pinion/gem';
import { gpu, leftovers, NOTHING, names } from './harness.js';

/** A process whose page n is host page 0x2000 + n. */
function process(options: { readonly hole?: number } = {}) {
  const pinned: number[] = [];
  const mm: AddressSpace = {
    name: 'app',
    alive: true,
    lockedPages: 0,
    grab: () => {},
    drop: () => {},
    accountLocked: () => {},
    copy: () => true,
    pinPage: (page): Pfn => {
      if (page === options.hole) throw new PinionError('TEST_HOLE', 'EFAULT', 'no page there');
      pinned.push(page);
      return asPfn(0x2000 + page);
    },
  };
  return { mm, pinned };
}

for (const strategy of ['first-bind', 'get-pages'] as const) {
  test(`${strategy}: pages of a process come when the worker ran, and are mapped once`, () => {
    const world = gpu({ strategy });
    const unpinned: number[] = [];
    world.memory.unpinPage = (pfn?: Pfn) => void unpinned.push(Number(pfn));
    const app = process();
    const object = world.gem.createUserptr({ mm: app.mm, first: asVaddrFrame(3), pages: 4 });
    const space = new GemAddressSpace('ggtt', 16);
    for (let again = 0; again < 2; again += 1) {
      assert.throws(() => object.bind(space), { name: 'GEM_AGAIN', errno: 'EAGAIN' });
    }
    assert.equal(world.gem.runWork(), 1);
    object.bind(space);
    assert.deepEqual([object.mapCalls, world.ops.frames, app.pinned], [1, 4, [3, 4, 5, 6]]);
    object.invalidate(); // the process unmapped the range
    assert.deepEqual([object.state.pages, object.state.bindCount, space.used, world.ops.frames], ['none', 0, 0, 0]);
    assert.deepEqual(unpinned, [0x2003, 0x2004, 0x2005, 0x2006]);
    object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  });
}

test('a pinned place survives an invalidation attempt', () => {
  const world = gpu();
  const object = world.gem.createUserptr({ mm: process().mm, first: asVaddrFrame(0), pages: 1 });
  const space = new GemAddressSpace('ggtt', 16);
  assert.throws(() => object.bind(space), { name: 'GEM_AGAIN' });
  world.gem.runWork();
  object.bind(space);
  object.pinVma(space);
  assert.throws(() => object.invalidate(), { name: 'GEM_STILL_BOUND' });
  assert.equal(object.state.bindCount, 1);
  object.unpinVma(space);
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('a hole in the process: what was pinned is unpinned, and the next try says why', () => {
  const world = gpu();
  const unpinned: number[] = [];
  world.memory.unpinPage = (pfn?: Pfn) => void unpinned.push(Number(pfn));
  const app = process({ hole: 2 });
  const object = world.gem.createUserptr({ mm: app.mm, first: asVaddrFrame(0), pages: 4 });
  assert.throws(() => object.pinPages(), { name: 'GEM_AGAIN' });
  world.gem.runWork();
  assert.deepEqual(unpinned, [0x2000, 0x2001]);
  assert.throws(() => object.pinPages(), { name: 'TEST_HOLE' });
  assert.throws(() => object.pinPages(), { name: 'GEM_AGAIN' });
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('pages that arrive when the IOMMU is full are unpinned; the next try says why', () => {
  const world = gpu({ shrink: false });
  const unpinned: number[] = [];
  world.memory.unpinPage = (pfn?: Pfn) => void unpinned.push(Number(pfn));
  const object = world.gem.createUserptr({ mm: process().mm, first: asVaddrFrame(0), pages: 2 });
  assert.throws(() => object.pinPages(), { name: 'GEM_AGAIN' });
  world.iommu.failures.fail('map', 1, 'ENOMEM');
  world.gem.runWork();
  assert.deepEqual(unpinned, [0x2000, 0x2001]);
  assert.throws(() => object.pinPages(), { name: 'GEM_NO_SPACE', errno: 'ENOSPC' });
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('quirk userptr-skips-prepare: bound without a mapping, and the GPU finds nothing', () => {
  const world = gpu({ quirks: ['userptr-skips-prepare'] });
  const object = world.gem.createUserptr({ mm: process().mm, first: asVaddrFrame(0), pages: 2 });
  const space = new GemAddressSpace('ggtt', 16);
  assert.throws(() => object.bind(space), { name: 'GEM_AGAIN' });
  world.gem.runWork();
  const first = object.bind(space);
  assert.equal(world.ops.frames, 0);
  assert.throws(() => space.access(world.bus, first * 4096, { bytes: new Uint8Array(4), write: false }), {
    name: 'GEM_UNMAPPED',
  });
  object.free();
  assert.deepEqual(names(world), []);
});

test('an object that was freed while its pages were fetched keeps none', () => {
  const world = gpu();
  const unpinned: number[] = [];
  world.memory.unpinPage = (pfn?: Pfn) => void unpinned.push(Number(pfn));
  const object = world.gem.createUserptr({ mm: process().mm, first: asVaddrFrame(0), pages: 2 });
  assert.throws(() => object.pinPages(), { name: 'GEM_AGAIN' });
  object.free();
  world.gem.runWork();
  assert.deepEqual(unpinned, [0x2000, 0x2001]);
  assert.deepEqual(leftovers(world), NOTHING);
});
