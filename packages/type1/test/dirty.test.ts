import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  DIRTY_FLAG,
  type DirtyBitmap,
  type DirtyRequest,
  type Errno,
  EXTENSION,
  PROT_READ,
  UNMAP_FLAG,
} from '@pinion/core';
import fc from 'fast-check';
import { PAGE, pages, World } from './world.js';

const { START, STOP, GET_BITMAP: GET } = DIRTY_FLAG;
const TOP = 1n << 64n;
const bitmap = (change: Partial<DirtyBitmap> = {}): DirtyBitmap => ({
  pgsize: PAGE,
  size: 8n,
  data: new Uint8Array(8),
  ...change,
});
const begin = (world: World): void => world.container.dirty({ flags: START });

/** Reads the bits of a range. @returns the pages that are dirty, counted from its start. */
function read(world: World, iova: bigint, count: number): number[] {
  const size = Math.ceil(count / 64) * 8;
  const data = new Uint8Array(size);
  world.container.dirty({ flags: GET, iova, size: pages(count), bitmap: { pgsize: PAGE, size: BigInt(size), data } });
  return bitsOf(data);
}
const bitsOf = (data: Uint8Array): number[] =>
  Array.from({ length: data.length * 8 }, (_, bit) => bit).filter((bit) => ((data[bit >> 3] ?? 0) >> (bit & 7)) & 1);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, page) => page);

type Wrong = readonly [what: string, request: DirtyRequest, name: string, errno: Errno];
const get = (change: Partial<DirtyRequest>): DirtyRequest => ({
  flags: GET,
  iova: 0x10000n,
  size: pages(4),
  bitmap: bitmap(),
  ...change,
});
/** In the order of checks. */
const WRONG: readonly Wrong[] = [
  ['argsz 7, and bad flags', { flags: 8, argsz: 7 }, 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['an unknown flag', { flags: 8 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['a known and an unknown one', { flags: START | 0x8000_0000 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['no flag', { flags: 0 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['start and stop', { flags: START | STOP }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['all flags', { flags: START | STOP | GET }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['get, argsz 47', get({ argsz: 47 }), 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['negative iova', get({ iova: -PAGE }), 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['wraps', get({ iova: TOP - PAGE, size: pages(2) }), 'TYPE1_WRAPS', 'EINVAL'],
  ['no bitmap', { flags: GET, iova: 0x10000n, size: pages(4) }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['no range', { flags: GET, bitmap: bitmap() }, 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap of page size 0', get({ bitmap: bitmap({ pgsize: 0n }) }), 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap without bits', get({ bitmap: bitmap({ size: 0n }) }), 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap too short for 65 pages', get({ size: pages(65) }), 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['bitmap too large', get({ bitmap: bitmap({ size: (1n << 28n) + 8n }) }), 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['buffer too short', get({ bitmap: bitmap({ data: new Uint8Array(7) }) }), 'TYPE1_BITMAP_FAULT', 'EFAULT'],
  ['other page size', get({ bitmap: bitmap({ pgsize: 0x2000n }) }), 'TYPE1_BAD_BITMAP', 'EINVAL'],
  ['iova unaligned', get({ iova: 0x10001n }), 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['size unaligned', get({ size: PAGE + 1n }), 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
];
const LATE: readonly Wrong[] = [
  ['cuts the head', get({ iova: 0x11000n, size: pages(3) }), 'TYPE1_BISECTS', 'EINVAL'],
  ['cuts the tail', get({ size: pages(3) }), 'TYPE1_BISECTS', 'EINVAL'],
  ['cuts both', get({ iova: 0x11000n, size: PAGE }), 'TYPE1_BISECTS', 'EINVAL'],
];

describe('dirty pages: what is refused, in order', () => {
  test('while nothing is tracked, and while it is', async () => {
    const world = await World.start();
    world.map(0x10000n, 4);
    const refuse = ([, request, name, errno]: Wrong): void =>
      world.refuses(name, errno, () => world.container.dirty(request));
    WRONG.forEach(refuse);
    refuse(['tracking is off', get({}), 'TYPE1_TRACKING_OFF', 'EINVAL']);
    begin(world);
    WRONG.forEach(refuse);
    LATE.forEach(refuse);
    world.container.dirty(get({}));
    await world.end();
  });

  test('not with type1 (v1)', async () => {
    const world = await World.start({ type: EXTENSION.TYPE1_IOMMU });
    for (const flags of [START, STOP, GET, 8])
      world.refuses('TYPE1_NOT_V2', 'EACCES', () => world.container.dirty({ flags, argsz: 0 }));
    await world.end();
  });

  test('a mapping with more pages than a bitmap has bits, at start and at map', async () => {
    const world = await World.start();
    const events: string[] = [];
    world.mediator.bus.on('dma:mapped', () => events.push('mapped'));
    world.mediator.bus.on('dma:unmapped', () => events.push('unmapped'));
    const huge = (): unknown => world.map(0n, 2 ** 31, { vaddr: 0n });
    huge();
    world.refuses('TYPE1_TOO_MANY_BITS', 'EINVAL', () => begin(world));
    assert.deepEqual(await world.container.unmapAll(), { size: pages(2 ** 31) });
    begin(world);
    world.refuses('TYPE1_TOO_MANY_BITS', 'EINVAL', huge);
    assert.deepEqual(events, ['mapped', 'unmapped']);
    await world.end();
  });
});

describe('dirty pages: what is reported', () => {
  test('T13: a page unpinned is reported once more, a page that stays pinned every time', async () => {
    const world = await World.start();
    world.map(0n, 16);
    begin(world);
    world.pin('A', 3);
    world.unpin('A', 3);
    assert.deepEqual([read(world, 0n, 16), read(world, 0n, 16)], [[3], []]);
    world.pin('A', 5);
    assert.deepEqual([read(world, 0n, 16), read(world, 0n, 16)], [[5], [5]]);
    world.unpin('A', 5);
    assert.deepEqual([read(world, 0n, 16), read(world, 0n, 16)], [[5], []]);
    await world.end();
  });

  test('start after pins is the pins; start and stop again change nothing; after stop all is forgotten', async () => {
    const world = await World.start();
    world.map(0n, 16);
    world.pin('A', 1, 2, PROT_READ);
    world.container.dirty({ flags: STOP });
    begin(world);
    world.pin('A', 9);
    world.unpin('A', 9);
    begin(world);
    assert.deepEqual(read(world, 0n, 16), [1, 2, 9]);
    world.container.dirty({ flags: STOP });
    world.container.dirty({ flags: STOP });
    begin(world);
    assert.deepEqual(read(world, 0n, 16), [1, 2]);
    await world.end();
  });

  test('T14: a passthrough group that never pins makes everything dirty, read-only mappings too, and once more when it leaves', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.map(0n, 4);
    world.map(0x4000n, 4, { prot: PROT_READ });
    begin(world);
    assert.deepEqual([read(world, 0n, 8), read(world, 0n, 8)], [upTo(8), upTo(8)]);
    world.pin('A', 2);
    world.detachPassthrough('P');
    assert.deepEqual([read(world, 0n, 8), read(world, 0n, 8)], [upTo(8), [2]]);
    await world.end();
  });

  test('copies of a driver: the pages it wrote, whole, not those it read', async () => {
    const world = await World.start();
    world.map(0n, 8);
    begin(world);
    world.container.dmaRw(0x0n, new Uint8Array(16), false);
    world.container.dmaRw(0x1fffn, new Uint8Array(2), true);
    world.container.dmaRw(0x4000n, new Uint8Array(4096), true);
    assert.deepEqual([read(world, 0n, 8), read(world, 0n, 8)], [[1, 2, 4], []]);
    await world.end();
  });

  test('a copy that ends in a hole: what was written before it is reported', async () => {
    const world = await World.start();
    world.map(0n, 2);
    world.map(0x2000n, 2, { prot: PROT_READ });
    begin(world);
    assert.throws(() => world.container.dmaRw(0x1800n, new Uint8Array(4096), true), { name: 'TYPE1_PROT' });
    assert.deepEqual(read(world, 0n, 4), [1]);
    await world.end();
  });

  test('a mapping made while tracking starts clean; holes leave the bitmap as it is', async () => {
    const world = await World.start();
    begin(world);
    world.map(0x4000n, 2);
    world.pin('A', 5);
    const data = new Uint8Array(8).fill(0x80);
    world.container.dirty({ flags: GET, iova: 0n, size: pages(16), bitmap: bitmap({ data }) });
    assert.deepEqual(bitsOf(data), [5, ...[7, 15, 23, 31, 39, 47, 55, 63]]);
    await world.end();
  });

  test('mappings that begin at any bit land at their bits, and stay apart', async () => {
    const world = await World.start();
    const lengths = [1, 63, 65, 7, 128, 3, 70];
    let first = 5;
    for (const count of lengths) {
      world.map(pages(first), count);
      first += count;
    }
    begin(world);
    for (const page of [5, 6, 68, 69, 70, 133, 134, 141, 268, 269, 272, 341]) {
      world.pin('A', page);
      world.unpin('A', page);
    }
    assert.deepEqual(read(world, 0n, 400), [5, 6, 68, 69, 70, 133, 134, 141, 268, 269, 272, 341]);
    assert.deepEqual(read(world, 0n, 400), []);
    await world.end();
  });

  test('random mappings and pins, read from random places: exactly the pages since the last look', async () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 140 }), { minLength: 1, maxLength: 8, size: 'max' });
    await fc.assert(
      fc.asyncProperty(
        lengths,
        fc.nat(130),
        fc.array(fc.nat(1000), { maxLength: 12, size: 'max' }),
        async (counts, before, picks) => {
          const world = await World.start();
          const total = counts.reduce((sum, count) => sum + count, 0);
          let first = before;
          for (const count of counts) {
            world.map(pages(first), count);
            first += count;
          }
          begin(world);
          const wanted = [...new Set(picks.map((pick) => before + (pick % total)))].sort((a, b) => a - b);
          for (const page of wanted) {
            world.pin('A', page);
            world.unpin('A', page);
          }
          assert.deepEqual(read(world, 0n, before + total + 5), wanted);
          for (const page of wanted) world.pin('A', page);
          const relative = wanted.map((page) => page - before);
          assert.deepEqual(read(world, pages(before), total), relative);
          assert.deepEqual(read(world, pages(before), total), relative);
          await world.end();
        },
      ),
      { numRuns: 40 },
    );
  });

  test('the last page of the address space', async () => {
    const world = await World.start();
    world.map(TOP - pages(2), 2);
    begin(world);
    world.pin('A', 2 ** 52 - 1);
    assert.deepEqual(read(world, TOP - pages(2), 2), [1]);
    await world.end();
  });

  test('a pin that fails half way is not reported', async () => {
    const world = await World.start();
    world.map(0n, 2);
    begin(world);
    world.refuses('TYPE1_NOT_MAPPED', 'EINVAL', () => world.pin('A', 1, 2));
    assert.deepEqual(read(world, 0n, 2), []);
    await world.end();
  });
});

describe('unmap with the dirty bits', () => {
  const unmap = (world: World, iova: bigint, count: number, data: Uint8Array) =>
    world.container.unmap({
      flags: UNMAP_FLAG.GET_DIRTY_BITMAP,
      iova,
      size: pages(count),
      bitmap: { pgsize: PAGE, size: BigInt(data.length), data },
    });

  test('bits of all mappings of the request, from its start', async () => {
    const world = await World.start();
    world.map(0x4000n, 4);
    world.map(0x10000n, 100);
    begin(world);
    world.pin('A', 5);
    world.pin('A', 0x10 + 99);
    const data = new Uint8Array(24);
    assert.deepEqual(await unmap(world, 0x3000n, 160, data), { size: pages(104) });
    assert.deepEqual(bitsOf(data), [2, 0x10 + 99 - 3]);
    assert.deepEqual(world.ops('A').calls, [
      [4, 4],
      [16, 100],
    ]);
    await world.end();
  });

  test('what drivers write in their last moment is in it', async () => {
    const world = await World.start();
    world.map(0n, 8);
    begin(world);
    world.pin('A', 1);
    const { ops } = world.seat('A');
    ops.unmapping = (range) => {
      world.container.dmaRw(0x6000n, Uint8Array.of(1), true);
      ops.giveBack(range);
    };
    const data = new Uint8Array(8);
    await unmap(world, 0n, 8, data);
    assert.deepEqual(bitsOf(data), [1, 6]);
    await world.end();
  });
});
