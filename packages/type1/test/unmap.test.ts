import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type DirtyBitmap, type Errno, EXTENSION, UNMAP_FLAG, type UnmapRequest } from '@pinion/core';
import { PAGE, pages, World, type WorldOptions } from './world.js';

const { ALL, GET_DIRTY_BITMAP: DIRTY, VADDR } = UNMAP_FLAG;
const TOP = 1n << 64n;
const BITMAP: DirtyBitmap = { pgsize: PAGE, size: 8n, data: new Uint8Array(8) };
const bitmap = (change: Partial<DirtyBitmap>): DirtyBitmap => ({ ...BITMAP, ...change });

/** What is left out is the whole mapping of four pages at 0x10000. */
type Wrong = readonly [what: string, request: Partial<UnmapRequest>, name: string, errno: Errno];
const GOOD: UnmapRequest = { flags: 0, iova: 0x10000n, size: pages(4) };

/** In the order of checks, with tracking off. */
const WRONG: readonly Wrong[] = [
  ['iova is negative', { iova: -1n }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['size has 65 bits', { size: TOP }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['argsz 23, and bad flags', { argsz: 23, flags: 8 }, 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['an unknown flag, and unaligned', { flags: 8, iova: 1n }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['the highest flag', { flags: 0x8000_0000 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['bitmap and ALL', { flags: DIRTY | ALL, iova: 0n, size: 0n }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['bitmap and VADDR', { flags: DIRTY | VADDR, bitmap: BITMAP }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['bitmap, argsz 47', { flags: DIRTY, argsz: 47, bitmap: BITMAP }, 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['no bitmap', { flags: DIRTY }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap of page size 0', { flags: DIRTY, bitmap: bitmap({ pgsize: 0n }) }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap without bits', { flags: DIRTY, bitmap: bitmap({ size: 0n }) }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap over a range below its page', { flags: DIRTY, size: 1n, bitmap: BITMAP }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap below one word', { flags: DIRTY, bitmap: bitmap({ size: 7n }) }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap too large', { flags: DIRTY, bitmap: bitmap({ size: (1n << 28n) + 1n }) }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['negative bitmap', { flags: DIRTY, bitmap: bitmap({ size: -8n }) }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['buffer too short', { flags: DIRTY, bitmap: bitmap({ data: new Uint8Array(7) }) }, 'TYPE1_BITMAP_FAULT', 'EFAULT'],
  ['iova unaligned', { iova: 0x10001n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['ALL, iova unaligned', { flags: ALL, iova: 1n, size: 0n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['ALL with an iova', { flags: ALL, size: 0n }, 'TYPE1_BAD_ALL', 'EINVAL'],
  ['ALL with a size', { flags: ALL, iova: 0n }, 'TYPE1_BAD_ALL', 'EINVAL'],
  ['size 0', { size: 0n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['size unaligned', { size: PAGE + 1n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['wraps', { iova: TOP - PAGE }, 'TYPE1_WRAPS', 'EINVAL'],
  ['tracking is off', { flags: DIRTY, bitmap: BITMAP }, 'TYPE1_TRACKING_OFF', 'EINVAL'],
];
/** The same without a mediated device. */
const ALONE: readonly Wrong[] = [
  ['ALL and VADDR with a size', { flags: ALL | VADDR, iova: 0n }, 'TYPE1_BAD_ALL', 'EINVAL'],
];
/** The same with type1v2 only. */
const CUTS: readonly Wrong[] = [
  ['its head', { size: PAGE }, 'TYPE1_BISECTS', 'EINVAL'],
  ['its middle', { iova: 0x11000n, size: PAGE }, 'TYPE1_BISECTS', 'EINVAL'],
  ['its tail', { iova: 0x13000n, size: PAGE }, 'TYPE1_BISECTS', 'EINVAL'],
  ['over its head', { iova: 0xf000n, size: pages(2) }, 'TYPE1_BISECTS', 'EINVAL'],
  ['over its tail', { iova: 0x13000n, size: pages(2) }, 'TYPE1_BISECTS', 'EINVAL'],
  ['all of it and half of the next', { size: pages(5) }, 'TYPE1_BISECTS', 'EINVAL'],
];

describe('unmap: what is refused, in order', () => {
  for (const [kind, options, table] of [
    ['mediated', {}, [...WRONG, ...CUTS]],
    ['passthrough', { mediated: [], passthrough: ['P'] }, [...WRONG, ...ALONE, ...CUTS]],
    ['type1 (v1)', { mediated: [], passthrough: ['P'], type: EXTENSION.TYPE1_IOMMU }, [...WRONG, ...ALONE]],
  ] satisfies [string, WorldOptions, readonly Wrong[]][]) {
    test(kind, async () => {
      const world = await World.start(options);
      world.map(0x10000n, 4);
      world.map(0x14000n, 2);
      for (const [what, request, name, errno] of table) {
        await world.refusesLater(name, errno, () => world.container.unmap({ ...GOOD, ...request }));
        assert.equal(world.container.stats.mappings, 2, what);
      }
      await world.end();
    });
  }

  test('a refused unmap calls nobody', async () => {
    const world = await World.start();
    world.map(0x10000n, 4);
    world.map(0x14000n, 2);
    world.pin('A', 0x10);
    for (const [, request, name, errno] of [...WRONG, ...CUTS]) {
      await world.refusesLater(name, errno, () => world.container.unmap({ ...GOOD, ...request }));
    }
    assert.deepEqual(world.ops('A').calls, []);
    await world.end();
  });

  test('a bitmap of another page size, with tracking on', async () => {
    const world = await World.start();
    world.map(0x10000n, 4);
    world.container.dirty({ flags: 1 });
    const request = { ...GOOD, flags: DIRTY, bitmap: bitmap({ pgsize: 0x800n }) };
    await world.refusesLater('TYPE1_BAD_BITMAP', 'EINVAL', () => world.container.unmap(request));
    await world.end();
  });
});

/** Mappings of 16 pages at 0x100000 and 0x110000. What goes, and what is left, in each version. */
const D = 0x100000n;
const ROWS: readonly [
  what: string,
  iova: bigint,
  count: number,
  v1: [number, number],
  v2: [number, number] | 'EINVAL',
][] = [
  ['exact', D, 16, [16, 1], [16, 1]],
  ['several, with room around', 0n, 0x1000, [32, 0], [32, 0]],
  ['a hole below', 0n, 16, [0, 2], [0, 2]],
  ['a hole above', 0x200000n, 16, [0, 2], [0, 2]],
  ['starts inside, ends with it', D + PAGE, 15, [0, 2], 'EINVAL'],
  ['starts inside, and the whole next', D + PAGE, 31, [0, 2], 'EINVAL'],
  ['starts at its start, ends inside', D, 1, [16, 1], 'EINVAL'],
  ['starts before, ends inside', D - PAGE, 2, [16, 1], 'EINVAL'],
  ['the first and a page of the next', D, 17, [32, 0], 'EINVAL'],
];
describe('unmap: v1 and v2 side by side', () => {
  for (const [what, iova, count, v1, v2] of ROWS) {
    test(what, async () => {
      for (const [type, want] of [
        [EXTENSION.TYPE1_IOMMU, v1],
        [EXTENSION.TYPE1v2_IOMMU, v2],
      ] as const) {
        const world = await World.start({ mediated: [], passthrough: ['P'], type });
        world.map(D, 16);
        world.map(D + pages(16), 16);
        if (want === 'EINVAL') {
          await world.refusesLater('TYPE1_BISECTS', 'EINVAL', () => world.unmap(iova, count));
        } else {
          assert.deepEqual([await world.unmap(iova, count), world.container.stats.mappings], [pages(want[0]), want[1]]);
          assert.equal(world.locked, want[1] * 16);
        }
        await world.end();
      }
    });
  }

  test('ALL takes everything in both, also a mapping up to 2^64', async () => {
    for (const type of [EXTENSION.TYPE1_IOMMU, EXTENSION.TYPE1v2_IOMMU]) {
      const world = await World.start({ type });
      for (const iova of [0n, D, TOP - PAGE]) world.map(iova, 1);
      assert.deepEqual(await world.container.unmapAll(), { size: pages(3) });
      assert.deepEqual(await world.container.unmapAll(), { size: 0n });
      await world.end();
    }
  });

  test('a second identical unmap finds nothing', async () => {
    const world = await World.start();
    world.map(D, 16);
    assert.deepEqual([await world.unmap(D, 16), await world.unmap(D, 16)], [pages(16), 0n]);
    await world.end();
  });
});

describe('unmap: who, and after what', () => {
  test('a child unmaps what its parent mapped; the parent is credited', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 4);
    const child = world.task.fork('child');
    assert.deepEqual(await world.container.unmapDma({ iova: 0n, size: pages(4) }, child), { size: pages(4) });
    assert.deepEqual([world.locked, child.memory.lockedPages], [0, 0]);
    await child.exit();
    await world.end();
  });

  test('a child maps: the child is charged, and its exit leaves nothing behind', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    const child = world.task.fork('child');
    const vaddr = child.memory.mmap({ size: pages(4) });
    world.container.map({ flags: 3, iova: 0n, size: pages(4), vaddr }, child);
    assert.deepEqual([world.locked, child.memory.lockedPages], [0, 4]);
    await child.exit();
    assert.equal(world.os.host.pinnedPages, 4);
    assert.equal(await world.unmap(0n, 4), pages(4));
    assert.deepEqual([world.container.stats.lockedPages, world.os.host.pinnedPages], [0, 0]);
    await world.end();
  });

  test('the process dies first: pages come back, nobody is credited', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.map(0n, 4);
    world.pin('A', 1);
    await world.task.exit();
    assert.equal(world.os.host.pinnedPages, 5);
    assert.equal(await world.unmap(0n, 4), pages(4));
    assert.deepEqual([world.container.stats.lockedPages, world.os.host.pinnedPages], [0, 0]);
    await world.end();
  });
});

describe('taking vaddrs away', () => {
  test('EBUSY with a mediated device in the container, also for nothing, also in ALL', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.map(0n, 1);
    for (const request of [
      { flags: VADDR, iova: 0n, size: PAGE },
      { flags: VADDR, iova: 0x100000n, size: PAGE },
      { flags: VADDR | ALL, iova: 0n, size: 0n },
      { flags: VADDR, iova: 1n, size: 0n },
    ]) {
      await world.refusesLater('TYPE1_VADDR_WITH_MDEV', 'EBUSY', () => world.container.unmap(request));
    }
    await world.end();
  });

  test('all of them or none; the mappings stay', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    for (const iova of [0n, PAGE, 2n * PAGE]) world.map(iova, 1);
    const take = (iova: bigint, count: number) => world.container.unmap({ flags: VADDR, iova, size: pages(count) });
    assert.deepEqual(await take(PAGE, 1), { size: PAGE });
    await world.refusesLater('TYPE1_VADDR_MISMATCH', 'EINVAL', () => take(0n, 3));
    assert.deepEqual(await take(0n, 1), { size: PAGE });
    assert.deepEqual(await take(2n * PAGE, 8), { size: PAGE });
    assert.deepEqual(await take(0x100000n, 8), { size: 0n });
    await world.refusesLater('TYPE1_VADDR_MISMATCH', 'EINVAL', () =>
      world.container.unmap({ flags: VADDR | ALL, iova: 0n, size: 0n }),
    );
    assert.deepEqual([world.container.stats.mappings, world.locked], [3, 3]);
    await world.end();
  });
});
