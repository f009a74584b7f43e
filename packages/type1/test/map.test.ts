import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Errno,
  EXTENSION,
  MAP_FLAG,
  type MapRequest,
  PROT_READ,
  PROT_RW,
  PROT_WRITE,
  UNMAP_FLAG,
} from '@pinion/core';
import { frame, PAGE, pages, World, type WorldOptions } from './world.js';

const { READ, WRITE, VADDR } = MAP_FLAG;
const RW = READ | WRITE;
const TOP = 1n << 64n;

/** What is asked; what is left out is a good mapping of two pages at 0x10000. */
type Wrong = readonly [what: string, request: Partial<MapRequest>, name: string, errno: Errno];
const good = (world: World): MapRequest => ({ flags: RW, iova: 0x10000n, size: pages(2), vaddr: world.buffer(2) });

/** In the order of checks: each row would fail the rows below it, too, if it were not for its own fault. */
const WRONG: readonly Wrong[] = [
  ['iova is negative', { iova: -PAGE }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['iova has 65 bits', { iova: TOP }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['size has 65 bits', { size: TOP }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['vaddr is negative', { vaddr: -PAGE }, 'TYPE1_BAD_NUMBER', 'EINVAL'],
  ['argsz 31, and bad flags', { argsz: 31, flags: 8 }, 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['argsz 0', { argsz: 0 }, 'TYPE1_BAD_ARGSZ', 'EINVAL'],
  ['an unknown flag, and size 0', { flags: RW | 8, size: 0n }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['the highest flag', { flags: 0x8000_0000 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['no flag', { flags: 0 }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['READ with VADDR', { flags: READ | VADDR }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['all flags', { flags: RW | VADDR }, 'TYPE1_BAD_FLAGS', 'EINVAL'],
  ['size 0, unaligned', { size: 0n, iova: 1n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['size 0', { size: 0n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['iova unaligned', { iova: 0x10001n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['size unaligned', { size: PAGE + 1n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['vaddr unaligned', { vaddr: 0x800n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['wraps, and unaligned', { iova: TOP - PAGE + 1n }, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
  ['iova wraps', { iova: TOP - PAGE }, 'TYPE1_WRAPS', 'EINVAL'],
  ['vaddr wraps', { vaddr: TOP - PAGE }, 'TYPE1_WRAPS', 'EINVAL'],
  ['nearly everything', { iova: PAGE, size: TOP - PAGE, vaddr: 0n }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['the same again', { iova: 0x40000n }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['one page of it', { iova: 0x41000n, size: PAGE }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['over its start', { iova: 0x3f000n }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['over its end', { iova: 0x41000n }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['all around it', { iova: 0n, size: TOP - PAGE, vaddr: 0n }, 'TYPE1_OVERLAP', 'EEXIST'],
  ['VADDR where nothing is', { flags: VADDR }, 'TYPE1_VADDR_NOT_MAPPED', 'ENOENT'],
  ['VADDR for a mapping that has one', { flags: VADDR, iova: 0x40000n }, 'TYPE1_VADDR_MISMATCH', 'EINVAL'],
];

describe('map: what is refused, in order', () => {
  for (const [kind, options] of [
    ['mediated', {}],
    ['passthrough', { mediated: [], passthrough: ['P'] }],
    ['both, v1', { passthrough: ['P'], type: EXTENSION.TYPE1_IOMMU }],
  ] satisfies [string, WorldOptions][]) {
    test(kind, async () => {
      const world = await World.start(options);
      world.map(0x40000n, 2);
      for (const [what, request, name, errno] of WRONG) {
        const wish = { ...good(world), ...request };
        world.refuses(name, errno, () => world.container.map(wish));
        assert.equal(world.container.stats.mappings, 1, what);
      }
      await world.end();
    });
  }

  test('overlap comes before the entry limit, the limit before the ranges, the ranges before the memory', async () => {
    const world = await World.start({ passthrough: ['P'], parameters: () => ({ dmaEntryLimit: 1 }) });
    const hole = 0x7000_0000_0000n;
    const refused = (iova: bigint, name: string, errno: Errno): void =>
      world.refuses(name, errno, () => world.container.mapDma({ iova, size: PAGE, vaddr: hole, prot: PROT_RW }));
    refused(0xfee00000n, 'TYPE1_OUTSIDE_RANGES', 'EINVAL');
    refused(1n << 48n, 'TYPE1_OUTSIDE_RANGES', 'EINVAL');
    refused(0n, 'SIM_FAULT', 'EFAULT');
    world.map(0n, 1);
    refused(0n, 'TYPE1_OVERLAP', 'EEXIST');
    refused(0xfee00000n, 'TYPE1_ENTRY_LIMIT', 'ENOSPC');
    await world.end();
  });

  test('a task without memory cannot map', async () => {
    const world = await World.start();
    const child = world.task.fork('child');
    await child.exit();
    world.refuses('TYPE1_NO_MEMORY_OF_CALLER', 'ENODEV', () => world.container.map(good(world), child));
    await world.end();
  });
});

describe('map: memory, with a passthrough group', () => {
  const start = () => World.start({ mediated: [], passthrough: ['P'] });

  test('a hole in the middle: nothing stays pinned, charged or mapped', async () => {
    const world = await start();
    const vaddr = world.buffer(8);
    world.task.memory.munmap(vaddr + pages(5), PAGE);
    world.refuses('SIM_FAULT', 'EFAULT', () => world.map(0n, 8, { vaddr }));
    world.map(0n, 5, { vaddr });
    assert.equal(world.locked, 5);
    await world.end();
  });

  test('write access to a read-only area is a fault, read access is not', async () => {
    const world = await start();
    const vaddr = world.buffer(4, PROT_READ);
    world.refuses('SIM_FAULT', 'EFAULT', () => world.map(0n, 4, { vaddr, prot: PROT_WRITE }));
    world.map(0n, 4, { vaddr, prot: PROT_READ });
    assert.equal(world.locked, 4);
    await world.end();
  });

  test('fsdax is refused', async () => {
    const world = await start();
    const vaddr = world.task.memory.mmap({ size: pages(2), kind: 'dax' });
    world.refuses('SIM_NOT_PINNABLE', 'EOPNOTSUPP', () => world.map(0n, 2, { vaddr }));
    await world.end();
  });

  test('device and reserved pages are mapped and cost nothing', async () => {
    const world = await start();
    const bar = world.os.bar(4);
    world.map(0n, 4, { vaddr: world.task.memory.mmap({ size: pages(4), object: bar }) });
    world.map(0x10000n, 3, { vaddr: world.task.memory.mmap({ size: pages(3), kind: 'reserved' }) });
    assert.equal(world.locked, 0);
    assert.equal(world.container.stats.mappedBytes, pages(7));
    assert.equal(await world.unmap(0n, 32), pages(7));
    await world.end();
  });

  test('one run never holds device and ordinary pages; both sides reach the right frames', async () => {
    const world = await start();
    const { memory } = world.task;
    const vaddr = world.buffer(2);
    memory.mmap({ size: pages(2), object: world.os.bar(2), at: vaddr + pages(2) });
    world.map(0n, 4, { vaddr });
    assert.equal(world.locked, 2);
    const domain = world.iommu.groups[0]?.domain;
    const classes = [0, 1, 2, 3].map((page) => world.os.host.pageClass(domain?.lookup(frame(page)) ?? assert.fail()));
    assert.deepEqual(classes, ['normal', 'normal', 'device', 'device']);
    await world.end();
  });

  test('the host runs out of pages', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], os: { capacity: 6 } });
    const vaddr = world.buffer(8);
    world.refuses('SIM_OUT_OF_MEMORY', 'ENOMEM', () => world.map(0n, 8, { vaddr }));
    assert.equal(world.locked, 0);
    await world.end();
  });
});

test('without a passthrough group no page is touched: the memory need not even be there', async () => {
  const world = await World.start();
  world.map(0n, 4, { vaddr: 0x1000n });
  assert.deepEqual([world.locked, world.os.host.livePages, world.container.stats.mappings], [0, 0, 1]);
  await world.end();
});

describe('map: limits', () => {
  test('the limit counts pages, exactly; CAP_IPC_LOCK counts but does not limit', async () => {
    const task = { lockBytes: 8 * 4096 };
    const world = await World.start({ mediated: [], passthrough: ['P'], task });
    world.map(0n, 8);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.map(0x100000n, 1));
    world.task.ipcLock = true;
    world.map(0x100000n, 1);
    assert.equal(world.locked, 9);
    await world.end();
  });

  test('a byte short of a page is no page', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], task: { lockBytes: 8 * 4096 - 1 } });
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.map(0n, 8));
    world.map(0n, 7);
    await world.end();
  });

  test('mlock shares the counter', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], task: { lockBytes: 8 * 4096 } });
    const other = world.buffer(5);
    world.task.mlock(other, pages(5));
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.map(0n, 4));
    world.map(0n, 3);
    assert.equal(world.locked, 8);
    world.task.memory.munmap(other, pages(5));
    assert.equal(await world.unmap(0n, 3), pages(3));
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('disableHugepages: the same totals, page by page', async () => {
    const world = await World.start({
      mediated: [],
      passthrough: ['P'],
      parameters: () => ({ disableHugepages: true }),
    });
    const before = world.iommu.failures.calls('map');
    world.map(0n, 16);
    assert.equal(world.iommu.failures.calls('map') - before, 16);
    assert.equal(world.locked, 16);
    await world.end();
  });

  test('the entry limit is read when the container opens the backend', async () => {
    let limit = 1;
    const world = await World.start({ parameters: () => ({ dmaEntryLimit: limit }) });
    limit = 5;
    world.map(0n, 1);
    world.refuses('TYPE1_ENTRY_LIMIT', 'ENOSPC', () => world.map(0x10000n, 1));
    await world.end();
  });
});

describe('a new vaddr for a mapping', () => {
  const invalidate = (world: World, iova: bigint, count: number) =>
    world.container.unmap({ flags: UNMAP_FLAG.VADDR, iova, size: pages(count) });
  const update = (world: World, iova: bigint, count: number, vaddr: bigint, caller = world.task): void =>
    world.container.map({ flags: VADDR, iova, size: pages(count), vaddr }, caller);
  const start = () => World.start({ mediated: [], passthrough: ['P'] });

  test('only the whole mapping, only where one is, only once', async () => {
    const world = await start();
    const vaddr = world.map(0x10000n, 4);
    assert.deepEqual(await invalidate(world, 0x10000n, 4), { size: pages(4) });
    for (const [iova, count, name, errno] of [
      [0x20000n, 4, 'TYPE1_VADDR_NOT_MAPPED', 'ENOENT'],
      [0x10000n, 3, 'TYPE1_VADDR_MISMATCH', 'EINVAL'],
      [0x11000n, 3, 'TYPE1_VADDR_MISMATCH', 'EINVAL'],
      [0x10000n, 5, 'TYPE1_VADDR_MISMATCH', 'EINVAL'],
      [0x10001n, 4, 'TYPE1_BAD_ALIGNMENT', 'EINVAL'],
    ] as const) {
      world.refuses(name, errno, () => update(world, iova, count, vaddr));
    }
    update(world, 0x10000n, 4, vaddr);
    world.refuses('TYPE1_VADDR_MISMATCH', 'EINVAL', () => update(world, 0x10000n, 4, vaddr));
    await world.end();
  });

  test('while one is missing nobody attaches, and copies are refused', async () => {
    const world = await start();
    const vaddr = world.map(0n, 2);
    await invalidate(world, 0n, 2);
    world.refuses('TYPE1_VADDR_INVALID', 'EBUSY', () => world.attachPassthrough('Q'));
    const copy = () => world.container.dmaRw(0n, new Uint8Array(4), false);
    world.refuses('TYPE1_VADDR_INVALID', 'EBUSY', copy);
    update(world, 0n, 2, vaddr);
    world.attachPassthrough('Q');
    copy();
    await world.end();
  });

  test('unmapping the mapping ends the wait for its vaddr', async () => {
    const world = await start();
    world.map(0n, 2);
    await invalidate(world, 0n, 2);
    assert.equal(await world.unmap(0n, 2), pages(2));
    world.map(0n, 1);
    world.container.dmaRw(0n, new Uint8Array(1), false);
    await world.end();
  });

  test('the charge moves to the address space that gives it, within its limit', async () => {
    const world = await start();
    world.map(0n, 6);
    const heir = world.os.spawn({ name: 'heir', ipcLock: false, lockBytes: 5 * 4096 });
    const vaddr = heir.memory.mmap({ size: pages(6) });
    await invalidate(world, 0n, 6);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => update(world, 0n, 6, vaddr, heir));
    assert.deepEqual([world.locked, heir.memory.lockedPages], [6, 0]);
    heir.lockBytes = 6 * 4096;
    update(world, 0n, 6, vaddr, heir);
    assert.deepEqual([world.locked, heir.memory.lockedPages, world.container.stats.lockedPages], [0, 6, 6]);
    assert.equal(await world.unmap(0n, 6), pages(6));
    assert.equal(heir.memory.lockedPages, 0);
    await heir.exit();
    await world.end();
  });

  test('after exec the new memory is charged, the old counter is left alone', async () => {
    const world = await start();
    world.map(0n, 6);
    await invalidate(world, 0n, 6);
    world.task.exec();
    const vaddr = world.buffer(6);
    assert.equal(world.locked, 0);
    update(world, 0n, 6, vaddr);
    assert.equal(world.locked, 6);
    assert.equal(await world.unmap(0n, 6), pages(6));
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('a driver pins through the new vaddr', async () => {
    const world = await start();
    world.map(0n, 2);
    await invalidate(world, 0n, 2);
    const vaddr = world.buffer(2);
    world.task.memory.poke(vaddr, Uint8Array.of(7));
    update(world, 0n, 2, vaddr);
    await world.plug('A');
    const pin = world.seat('A').device.pins.pin(frame(0), 1, PROT_RW);
    assert.equal(pin.read(0, 1)[0], 7);
    pin.unpin();
    await world.end();
  });
});
