import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Errno, PinionError } from '@pinion/core';
import { formatShrinkReport, SHRINK_PRIORITY } from '@pinion/dma';
import { GemAddressSpace, type GemObject, STRATEGIES } from '@pinion/gem';
import { gpu, leftovers, NOTHING, names } from './harness.js';

/** A GPU of 16 MiB of IOVA: 4095 frames. Objects of 256 pages: 15 fit. */
const SMALL = { maskBits: 24 } as const;
const PAGES = 256;

/** Fills the IOVA space with idle objects. */
function fillUp(world: ReturnType<typeof gpu>): GemObject[] {
  const objects: GemObject[] = [];
  for (let count = 0; count < 15; count += 1) {
    const object = world.gem.createShmem(PAGES);
    object.pinPages();
    object.unpinPages();
    objects.push(object);
  }
  return objects;
}

const errno = (action: () => void): Errno | undefined => {
  try {
    action();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof PinionError, String(error));
    return error.errno;
  }
};

test('a full IOMMU is shrunk, least recently used first, and the map succeeds', () => {
  const world = gpu(SMALL);
  const objects = fillUp(world);
  const more = world.gem.createShmem(PAGES);
  more.pinPages();
  assert.equal(more.state.pages, 'present');
  assert.deepEqual(objects.map((object) => object.state.pages === 'none').slice(0, 2), [true, false]);
  assert.deepEqual(world.shrinkers.lastReport?.solved, true);
  more.unpinPages();
  for (const object of [...objects, more]) object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('what nobody needs goes first, and for good', () => {
  const world = gpu(SMALL);
  const objects = fillUp(world);
  const last = objects.at(-1);
  assert.ok(last);
  last.madvise('dontneed');
  const more = world.gem.createShmem(PAGES);
  more.pinPages();
  assert.equal(last.state.madvise, 'purged');
  assert.equal(objects[0]?.state.pages, 'present');
  more.unpinPages();
  for (const object of [...objects, more]) object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('active objects are waited for by those who may wait, and left alone otherwise', () => {
  for (const mayWait of [true, false]) {
    const world = gpu({ ...SMALL, mayWait });
    const objects = fillUp(world);
    let waits = 0;
    for (const object of objects) {
      const fence = {
        signalled: false,
        wait: () => {
          fence.signalled = true;
          waits += 1;
        },
      };
      object.fence = fence;
    }
    const more = world.gem.createShmem(PAGES);
    assert.equal(
      errno(() => more.pinPages()),
      mayWait ? undefined : 'ENOMEM',
    );
    assert.equal(waits, mayWait ? 1 : 0);
    if (mayWait) more.unpinPages();
    for (const object of [...objects, more]) object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  }
});

test('pinned objects and framebuffers are skipped', () => {
  const world = gpu(SMALL);
  const objects = fillUp(world);
  for (const [index, object] of objects.entries()) {
    if (index % 2 === 0) object.pinPages();
    else object.framebuffer = true;
  }
  const more = world.gem.createShmem(PAGES);
  assert.throws(() => more.pinPages(), {
    name: 'GEM_NO_MEMORY',
    errno: 'ENOMEM',
    message: /gpu wanted 256 pages: .*gpu:idle gave 0/,
  });
  assert.equal(world.raw.lastFailure?.name, 'DMA_SHRINK_FAILED');
  assert.equal(more.state.pages, 'none');
  const report = world.shrinkers.lastReport;
  assert.ok(report);
  assert.match(formatShrinkReport(report), /gpu wanted 256 pages: .*gave 0.*still no space/);
  for (const [index, object] of objects.entries()) if (index % 2 === 0) object.unpinPages();
  for (const object of [...objects, more]) object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('without anything to shrink: ENOMEM for shmem, ENOSPC only with the old bug', () => {
  for (const [quirks, expected] of [
    [[], 'ENOMEM'],
    [['enospc-leaks'], 'ENOSPC'],
  ] as const) {
    const world = gpu({ ...SMALL, shrink: false, quirks });
    const objects = fillUp(world);
    const more = world.gem.createShmem(PAGES);
    assert.equal(
      errno(() => more.pinPages()),
      expected,
    );
    assert.deepEqual(more.state, { ...more.state, pages: 'none', pagesPins: 0, dmaSegments: 0, mapBalance: 0 });
    for (const object of [...objects, more]) object.free();
    assert.deepEqual(leftovers(world), NOTHING);
  }
});

test('at bind the failure comes after an address was reserved, and is unwound', () => {
  const world = gpu({ ...SMALL, strategy: 'first-bind', shrink: false });
  const space = new GemAddressSpace('ppgtt', 8192);
  const objects = Array.from({ length: 15 }, () => world.gem.createShmem(PAGES));
  for (const object of objects) object.bind(space);
  const more = world.gem.createShmem(PAGES);
  assert.equal(
    errno(() => more.bind(space)),
    'ENOMEM',
  );
  assert.deepEqual([space.used, more.state.bindCount, more.state.pagesPins], [15 * PAGES, 0, 0]);
  for (const object of [...objects, more]) object.free();
  assert.deepEqual([space.used, leftovers(world)], [0, NOTHING]);
});

test('a shrinker that needs IOVA itself is refused, and the others are asked all the same', () => {
  const world = gpu(SMALL);
  const objects = fillUp(world);
  const thirsty = world.gem.createShmem(1);
  let refused: unknown;
  world.shrinkers.register({
    name: 'thirsty',
    priority: SHRINK_PRIORITY.PURGEABLE,
    count: () => 1,
    shrink: () => {
      try {
        thirsty.pinPages();
      } catch (error) {
        refused = error;
      }
      return 0;
    },
  });
  const more = world.gem.createShmem(PAGES);
  more.pinPages();
  assert.ok(refused instanceof PinionError);
  assert.deepEqual([refused.name, refused.errno], ['DMA_SHRINK_RECURSION', 'EDEADLK']);
  assert.deepEqual([thirsty.state.pages, more.state.pages], ['none', 'present']);
  more.unpinPages();
  for (const object of [...objects, thirsty, more]) object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

test('an object is not shrunk for its own mapping, and operations on it from a shrinker are refused', () => {
  const world = gpu({ ...SMALL, shrink: true });
  const objects = fillUp(world);
  const more = world.gem.createShmem(PAGES);
  const seen: unknown[] = [];
  world.shrinkers.register({
    name: 'meddler',
    priority: SHRINK_PRIORITY.PURGEABLE,
    count: () => 0,
    shrink: () => {
      assert.equal(more.shrink(true), 0);
      for (const act of [() => more.putPages(), () => more.pinPages(), () => more.free()]) {
        try {
          act();
        } catch (error) {
          seen.push(error instanceof PinionError ? error.name : error);
        }
      }
      return 0;
    },
  });
  more.pinPages();
  assert.deepEqual(seen, ['GEM_LOCKED', 'GEM_LOCKED', 'GEM_LOCKED']);
  more.unpinPages();
  for (const object of [...objects, more]) object.free();
  assert.deepEqual(leftovers(world), NOTHING);
});

for (const strategy of Object.values(STRATEGIES)) {
  test(`${strategy.name}: the nth map of the IOMMU fails, for every n, and nothing is left`, () => {
    let failures = 0;
    for (let nth = 1; nth < 40; nth += 1) {
      const world = gpu({ strategy: strategy.name, shrink: false });
      const space = new GemAddressSpace('ggtt', 64);
      world.iommu.failures.fail('map', nth, 'ENOMEM');
      const objects = Array.from({ length: 4 }, () => world.gem.createShmem(6));
      for (const object of objects) if (errno(() => object.bind(space)) !== undefined) failures += 1;
      for (const object of objects) object.free();
      assert.deepEqual([space.used, leftovers(world)], [0, NOTHING], `nth ${nth}`);
    }
    // A failure of long entries is answered with short ones, so the object survives it.
    assert.equal(failures, 0);
  });
}

test('with short entries there is no second try', () => {
  const world = gpu({ shrink: false });
  world.device.maxSegment = 4096;
  world.iommu.failures.fail('map', 1, 'ENOMEM');
  const object = world.gem.createShmem(6);
  assert.equal(
    errno(() => object.pinPages()),
    'ENOMEM',
  );
  object.free();
  assert.deepEqual(leftovers(world), NOTHING);
  assert.deepEqual(names(world), []);
});
