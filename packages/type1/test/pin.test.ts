import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asPfn, type Errno, EXTENSION, LAST_FRAME, PROT_READ, PROT_RW, PROT_WRITE, UNMAP_FLAG } from '@pinion/core';
import { frame, PAGE, pages, World } from './world.js';

/** A container with a mapping rw of frames 16-31, one r of 32-47, and nothing from 48 on; the first has a page of a BAR at 20. */
async function start(options: Parameters<typeof World.start>[0] = {}): Promise<World> {
  const world = await World.start(options);
  const vaddr = world.buffer(4);
  const { memory } = world.task;
  memory.mmap({ size: PAGE, object: world.os.bar(1), at: vaddr + pages(4) });
  memory.mmap({ size: pages(10), at: vaddr + pages(5) });
  memory.mmap({ size: PAGE, at: vaddr + pages(15), prot: PROT_READ });
  world.map(0x10000n, 16, { vaddr });
  world.map(0x20000n, 16, { prot: PROT_READ });
  return world;
}

type Wrong = readonly [what: string, first: number, count: number, prot: number, name: string, errno: Errno];
const WRONG: readonly Wrong[] = [
  ['no pages, in a hole', 0, 0, PROT_RW, 'CORE_BAD_COUNT', 'EINVAL'],
  ['513 pages, in a hole', 0, 513, PROT_RW, 'CORE_TOO_MANY', 'E2BIG'],
  ['-1 pages', 16, -1, PROT_RW, 'CORE_TOO_MANY', 'E2BIG'],
  ['half a page', 16, 0.5, PROT_RW, 'CORE_BAD_COUNT', 'EINVAL'],
  ['past the last frame', LAST_FRAME, 2, PROT_RW, 'CORE_BAD_ADDRESS', 'EINVAL'],
  ['frame -1', -1, 1, PROT_RW, 'CORE_BAD_ADDRESS', 'EINVAL'],
  ['a hole', 0, 1, PROT_RW, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['a hole in front', 15, 2, PROT_RW, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['a hole behind', 46, 3, PROT_READ, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['512 pages over the end', 16, 512, PROT_READ, 'TYPE1_DEVICE_PAGE', 'EINVAL'],
  ['write, mapped r', 32, 1, PROT_WRITE, 'TYPE1_PROT', 'EPERM'],
  ['rw, mapped r, from an rw mapping on', 31, 2, PROT_RW, 'SIM_FAULT', 'EFAULT'],
  ['an unknown right', 16, 1, 4, 'TYPE1_PROT', 'EPERM'],
  ['a right and an unknown one', 16, 1, 8 | PROT_READ, 'TYPE1_PROT', 'EPERM'],
  ['the rights come before the memory', 40, 1, PROT_RW, 'TYPE1_PROT', 'EPERM'],
  ['device memory', 20, 1, PROT_READ, 'TYPE1_DEVICE_PAGE', 'EINVAL'],
  ['device memory in the middle', 18, 5, PROT_READ, 'TYPE1_DEVICE_PAGE', 'EINVAL'],
  ['read of an rw mapping over read-only memory', 31, 1, PROT_READ, 'SIM_FAULT', 'EFAULT'],
  ['the same behind good pages', 25, 7, PROT_READ, 'SIM_FAULT', 'EFAULT'],
];

describe('pin: what is refused, in order', () => {
  for (const passthrough of [false, true]) {
    test(`${passthrough ? 'with' : 'without'} others' pins around${passthrough ? '' : ', twice'}`, async () => {
      const world = await start({ mediated: ['A', 'B'] });
      if (passthrough) {
        world.pin('B', 16, 3);
        world.pin('B', 25, 3);
        world.pin('B', 46, 2, PROT_READ);
      }
      for (const [what, first, count, prot, name, errno] of [...WRONG, ...WRONG]) {
        const out = new Float64Array(Math.max(count, 1)).fill(7);
        const { pins } = world.seat('A').device;
        world.refuses(name, errno, () => pins.pinInto(frame(first), count, prot, out));
        assert.ok(
          out.every((pfn) => pfn === 0 || pfn === 7),
          `${what}: no frame may be handed out`,
        );
        assert.equal(pins.pages, 0, what);
      }
      await world.end();
    });
  }

  test('not with type1 (v1)', async () => {
    const world = await start({ type: EXTENSION.TYPE1_IOMMU });
    world.refuses('TYPE1_NOT_V2', 'EACCES', () => world.pin('A', 0));
    await world.end();
  });

  test('not when closed, not without dmaUnmap', async () => {
    const world = await start();
    await world.attachMediated('C');
    world.refuses('CORE_NOT_OPEN', 'EINVAL', () => world.pin('C', 16));
    await world.attachMediated('N', 'plain');
    await world.open('N');
    world.refuses('CORE_NO_DMA_UNMAP', 'EINVAL', () => world.pin('N', 16));
    await world.end();
  });

  test('the backend itself refuses while no open device has the duty', async () => {
    const world = await start();
    const { backend } = world.container;
    const { group } = world.seat('A').device;
    await world.close('A');
    const pin = (): unknown => backend?.pinPages?.(group, frame(16), 0, 1, PROT_READ, new Float64Array(1));
    world.refuses('TYPE1_NO_DUTY', 'EINVAL', pin);
    await world.end();
  });

  test('not while a mapping waits for its vaddr', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 1);
    await world.container.unmap({ flags: UNMAP_FLAG.VADDR, iova: 0n, size: PAGE });
    const { backend } = world.container;
    const { group } = world.groups.get('P') ?? assert.fail();
    const pin = (): unknown => backend?.pinPages?.(group, frame(0), 0, 1, PROT_READ, new Float64Array(1));
    world.refuses('TYPE1_VADDR_INVALID', 'EBUSY', pin);
    assert.deepEqual(world.reports, ['vaddr-invalid']);
    await world.end();
  });

  test('not when the memory of who mapped is gone, but a page that is pinned already', async () => {
    const world = await start();
    const [pfn] = world.pin('A', 16);
    world.task.exec();
    world.refuses('TYPE1_OWNER_GONE', 'ENODEV', () => world.pin('A', 17));
    world.refuses('TYPE1_OWNER_GONE', 'ENODEV', () => world.pin('A', 16, 2));
    assert.deepEqual(world.pin('A', 16), [pfn]);
    await world.end();
  });
});

describe('pin: what is given', () => {
  test('no rights at all are always granted; 512 pages at once; over two mappings', async () => {
    const world = await World.start();
    world.map(0n, 512);
    world.map(pages(512), 4);
    assert.equal(world.pin('A', 0, 512, 0).length, 512);
    world.pin('A', 510, 4);
    assert.equal(world.locked, 514);
    await world.end();
  });

  test('the same page again: same frame, no charge, no fault, whatever became of the memory', async () => {
    const world = await World.start();
    const vaddr = world.map(0n, 2);
    const [pfn] = world.pin('A', 0);
    world.task.memory.munmap(vaddr, PAGE);
    assert.deepEqual(world.pin('A', 0), [pfn]);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [1, 1]);
    world.unpin('A', 0);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [1, 1]);
    world.unpin('A', 0);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
    await world.end();
  });

  test('memory that was replaced is seen by the next first pin, not by the IOMMU', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const vaddr = world.map(0n, 1);
    world.task.memory.madviseDontneed(vaddr, PAGE);
    const [pfn] = world.pin('A', 0);
    assert.notEqual(world.iommu.groups[0]?.domain?.lookup(frame(0)), pfn);
    assert.equal(world.locked, 1);
    await world.end();
  });

  test('one page at two addresses counts twice', async () => {
    const world = await World.start();
    const vaddr = world.map(0n, 1);
    world.map(PAGE, 1, { vaddr });
    const [a, b] = world.pin('A', 0, 2);
    assert.equal(a, b);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [2, 2]);
    await world.end();
  });

  test('reserved pages are handed out, and never counted', async () => {
    const world = await World.start();
    world.map(0n, 2, { vaddr: world.task.memory.mmap({ size: pages(2), kind: 'reserved' }) });
    assert.equal(world.pin('A', 0, 2).length, 2);
    assert.deepEqual([world.locked, world.container.stats.pinnedPages], [0, 2]);
    world.unpin('A', 0, 2);
    assert.deepEqual([world.locked, world.container.stats.pinnedPages], [0, 0]);
    await world.end();
  });

  test('the page is marked written when it comes back if the mapping allows writing, whatever the pin asked', async () => {
    const world = await World.start();
    const vaddr = world.map(0n, 1);
    world.map(PAGE, 1, { vaddr, prot: PROT_READ });
    const [pfn = 0] = world.pin('A', 1, 1, PROT_READ);
    world.unpin('A', 1);
    const dirty = (): boolean => world.os.host.dirty(asPfn(pfn));
    assert.equal(dirty(), false);
    world.pin('A', 0, 1, PROT_READ);
    world.unpin('A', 0);
    assert.equal(dirty(), true);
    await world.end();
  });
});

describe('pin: limits', () => {
  test('all or nothing at the limit; a pin call that fits exactly passes', async () => {
    const world = await World.start({ task: { lockBytes: 8 * 4096 } });
    world.map(0n, 16);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 0, 10));
    world.pin('A', 0, 8);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 7, 2));
    assert.equal(world.pin('A', 0, 8).length, 8);
    await world.end();
  });

  test('the capability counts as it was at map, in both directions', async () => {
    const world = await World.start({ task: { lockBytes: 4096, ipcLock: true } });
    world.map(0n, 4);
    world.task.ipcLock = false;
    world.map(0x10000n, 4);
    world.pin('A', 0, 4);
    assert.equal(world.locked, 4);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 16));
    world.task.ipcLock = true;
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 16));
    world.unpin('A', 0, 4);
    world.pin('A', 16);
    await world.end();
  });

  test('pins are free while a passthrough group has everything pinned', async () => {
    const world = await World.start({ passthrough: ['P'], task: { lockBytes: 4 * 4096 } });
    world.map(0n, 4);
    world.pin('A', 0, 4);
    assert.equal(world.locked, 4);
    await world.end();
  });
});

describe('unpin', () => {
  test('a page that nobody pinned is skipped, in a mapping and in a hole', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.pin('A', 1, 2);
    world.unpin('A', 0, 4);
    world.unpin('A', 8, 4);
    assert.deepEqual([world.locked, world.container.stats.pinnedPages], [0, 0]);
    assert.deepEqual(
      world.reports,
      [0, 3, 8, 9, 10, 11].map((page) => `foreign ${page} of nobody`),
    );
    await world.end();
  });

  test('in any split and order what was pinned comes back', async () => {
    const world = await World.start();
    world.map(0n, 8);
    world.pin('A', 0, 8);
    world.pin('A', 2, 4);
    world.unpin('A', 3, 5);
    world.unpin('A', 0, 3);
    assert.equal(world.locked, 4);
    world.unpin('A', 2, 4);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
    await world.end();
  });

  test('another device’s page is refused and reported', async () => {
    const world = await World.start({ mediated: ['A', 'B'] });
    world.map(0n, 2);
    world.pin('A', 0, 2);
    world.unpin('B', 0, 2);
    assert.equal(world.locked, 2);
    assert.deepEqual(
      world.reports,
      [0, 1].map((page) => `foreign ${page} of ${world.seat('A').device.name}`),
    );
    await world.end();
  });

  for (const count of [0, -1, 513, Number.NaN]) {
    test(`the backend warns about ${count} pages and does nothing`, async () => {
      const world = await World.start();
      world.map(0n, 2);
      world.pin('A', 0, 2);
      const before = world.snapshot();
      world.container.backend?.unpinPages?.(frame(0), 0, count);
      assert.deepEqual(world.snapshot(), before);
      assert.deepEqual(world.reports, ['bad-unpin']);
      await world.end();
    });
  }

  test('the backend warns in a container of type1 (v1)', async () => {
    const world = await World.start({ type: EXTENSION.TYPE1_IOMMU });
    world.map(0n, 2);
    world.container.backend?.unpinPages?.(frame(0), 0, 1);
    assert.deepEqual(world.reports, ['bad-unpin']);
    await world.end();
  });
});

test('a flat pin table refuses a mapping that is too large for it, and the page comes back', async () => {
  const world = await World.start({ pinTable: 'flat' });
  const vaddr = world.buffer(1);
  world.map(0n, 2 ** 28 + 1, { vaddr });
  world.refuses('TYPE1_PIN_TABLE_FLAT_SIZE', 'E2BIG', () => world.pin('A', 0));
  await world.end();
});
