import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inWorld, map, PAGE, reaches, SECOND, TABLE_PAGES, unmap, V1, V2 } from './world.js';

const GIB = 1n << 30n;
const bytes = (pages: number): bigint => BigInt(pages) * PAGE;

test('info tells about the windows that can be, and does not change with those that are', async () => {
  await inWorld({ kind: 'pseries' }, (world) => {
    const { tce, container } = world.open(V2);
    const before = tce.info();
    assert.deepEqual(before, {
      flags: 1,
      start: 0n,
      size: GIB,
      windows: { pageSizes: 0x121_1000n, max: 2, levels: 1 },
    });
    tce.createWindow({ pageShift: 16, size: GIB });
    assert.deepEqual(tce.info(), before);
    assert.equal(container.info().pgsizes, 0x121_1000n);
    const one = world.open(V1);
    assert.deepEqual(one.tce.info(), { flags: 0, start: 0n, size: GIB });
    assert.equal(one.container.info().pgsizes, PAGE);
  });
});

test('info with room for the first part leaves the second out; with less it is EINVAL', async () => {
  await inWorld({}, (world) => {
    const { container } = world.open(V2);
    for (const argsz of [16, 31]) assert.deepEqual(container.ioctl(12, { argsz }), { flags: 1, start: 0n, size: GIB });
    for (const argsz of [0, 15]) assert.throws(() => container.ioctl(12, { argsz }), { name: 'TCE_BAD_ARGSZ' });
    assert.throws(() => container.info(15), { name: 'TCE_BAD_ARGSZ', errno: 'EINVAL' });
  });
});

test('CREATE makes the default window too, then a second one; a third is ENOSPC', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V2);
    assert.equal(tce.createWindow({ pageShift: 12, size: GIB }), SECOND);
    assert.equal(world.locked, 2 * TABLE_PAGES);
    assert.throws(() => tce.createWindow({ pageShift: 12, size: GIB }), { name: 'TCE_NO_SLOT', errno: 'ENOSPC' });
    assert.throws(() => tce.createWindow({ pageShift: 13, size: GIB }), { errno: 'ENOSPC' });
    const vaddr = world.memory(2);
    tce.registerMemory({ vaddr, size: bytes(2) });
    map(container, 0n, 1, vaddr);
    map(container, SECOND + GIB - PAGE, 1, vaddr + PAGE);
    assert.ok(reaches(world, hardware, 0n, vaddr));
    assert.ok(reaches(world, hardware, SECOND + GIB - PAGE, vaddr + PAGE));
    for (const iova of [SECOND + GIB, SECOND - PAGE, GIB]) {
      assert.throws(() => map(container, iova, 1, vaddr), { name: 'TCE_NO_WINDOW', errno: 'ENXIO' });
      await assert.rejects(unmap(container, iova, 1), { errno: 'ENXIO' });
    }
  });
});

const charges = [
  [12, GIB, TABLE_PAGES],
  [12, GIB / 4n, 128],
  [16, GIB, 32],
  [21, GIB, 1],
  [24, GIB, 0],
  [12, PAGE, 0],
  [12, 0x20_0000n, 1],
] as const;

test('a table is charged 8 bytes per entry, whole pages; removing the window gives them back', async () => {
  await inWorld({}, (world) => {
    const { tce } = world.open(V2);
    for (const [pageShift, size, pages] of charges) {
      const start = tce.createWindow({ pageShift, size });
      assert.equal(world.locked, TABLE_PAGES + pages, `2^${pageShift} x ${size}`);
      tce.removeWindow(start);
      assert.equal(world.locked, TABLE_PAGES);
    }
    tce.removeWindow(0n);
    assert.equal(world.locked, 0);
  });
});

const badWindows = [
  ['a page size the hardware does not have', { pageShift: 13, size: GIB }],
  ['no page size', { pageShift: 0, size: GIB }],
  ['a page size beyond every address', { pageShift: 255, size: GIB }],
  ['a page size beyond every number', { pageShift: 2 ** 32 - 1, size: GIB }],
  ['no bytes', { pageShift: 12, size: 0n }],
  ['less than a page', { pageShift: 12, size: 0x800n }],
  ['no power of two', { pageShift: 12, size: 3n * PAGE }],
  ['more levels than tables have', { pageShift: 16, size: GIB, levels: 6 }],
  ['more entries than a table has', { pageShift: 12, size: 1n << 63n }],
  ['an argsz that is too small', { pageShift: 16, size: GIB, argsz: 39 }],
  ['a flag', { pageShift: 16, size: GIB, flags: 1 }],
] as const;

for (const [what, request] of badWindows) {
  test(`CREATE with ${what} is EINVAL and charges nothing but the default window`, async () => {
    for (const kind of ['pseries', 'powernv'] as const) {
      await inWorld({ kind }, (world) => {
        const { tce } = world.open(V2);
        tce.createWindow({ pageShift: 16, size: GIB, levels: 0 });
        tce.removeWindow(SECOND);
        assert.throws(() => tce.createWindow(request), { errno: 'EINVAL' });
        assert.equal(world.locked, TABLE_PAGES);
        assert.equal(tce.createWindow({ pageShift: 16, size: GIB }), SECOND);
      });
    }
  });
}

test('CREATE over the limit is ENOMEM; nothing but what fits is charged', async () => {
  await inWorld({ lockPages: TABLE_PAGES - 1 }, (world) => {
    const { tce } = world.open(V2);
    const create = () => tce.createWindow({ pageShift: 16, size: GIB });
    assert.throws(create, { name: 'TCE_MEMLOCK', errno: 'ENOMEM' });
    assert.equal(world.locked, 0);
    world.task.lockBytes = (TABLE_PAGES + 31) * 4096;
    assert.throws(create, { errno: 'ENOMEM' });
    assert.equal(world.locked, TABLE_PAGES);
    world.task.lockBytes = (TABLE_PAGES + 32) * 4096;
    assert.equal(create(), SECOND);
  });
});

test('tables of several levels are real on bare metal, and cost a little more', async () => {
  await inWorld({}, (world) => {
    const { tce } = world.open(V2);
    tce.createWindow({ pageShift: 12, size: GIB, levels: 2 });
    assert.equal(world.locked, 2 * TABLE_PAGES + 1);
  });
});

test('REMOVE needs the start of a window; of the default one that nobody used it forgets that it shall be', async () => {
  await inWorld({}, (world) => {
    const { tce, container } = world.open(V2);
    const unknown = { name: 'TCE_UNKNOWN_WINDOW', errno: 'EINVAL' };
    for (const start of [PAGE, SECOND, GIB, (1n << 64n) - 1n]) assert.throws(() => tce.removeWindow(start), unknown);
    tce.removeWindow(0n);
    assert.throws(() => tce.removeWindow(0n), unknown);
    const vaddr = world.memory(1);
    tce.registerMemory({ vaddr, size: PAGE });
    assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_NO_WINDOW', errno: 'ENXIO' });
    assert.equal(world.locked, 1);
    assert.throws(() => container.ioctl(20, { start: 0n, argsz: 15 }), { name: 'TCE_BAD_ARGSZ' });
    assert.throws(() => container.ioctl(20, { start: 0n, flags: 1 }), { name: 'TCE_BAD_FLAGS' });
  });
});

test('REMOVE takes everything mapped in the window with it, and says so', async () => {
  await inWorld({}, (world) => {
    const { tce, container, hardware } = world.open(V2);
    const vaddr = world.memory(4);
    const memory = { vaddr, size: bytes(4) };
    tce.createWindow({ pageShift: 12, size: 0x10_0000n });
    tce.registerMemory(memory);
    map(container, SECOND, 4, vaddr);
    map(container, 0n, 1, vaddr);
    assert.throws(() => tce.removeWindow(SECOND + PAGE), { errno: 'EINVAL' });
    tce.removeWindow(SECOND);
    assert.deepEqual(
      world.unmapped.map(({ first, last }) => [first, last]),
      [[2 ** 47, 2 ** 47 + 255]],
    );
    assert.equal(hardware.dmaWrite(SECOND, Uint8Array.of(1)), false);
    assert.equal(container.stats.mappings, 1);
    tce.removeWindow(0n);
    tce.unregisterMemory(memory);
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
  });
});

test('the last group that leaves takes windows, memory and charges with it, and the container can be used again', async () => {
  await inWorld({}, (world) => {
    const { tce, container, file } = world.open(V2);
    const vaddr = world.memory(4);
    const memory = { vaddr, size: bytes(4) };
    tce.registerMemory(memory);
    tce.createWindow({ pageShift: 16, size: GIB });
    map(container, 0n, 4, vaddr);
    file.unsetContainer();
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
    assert.throws(() => tce.info(), { name: 'CORE_NO_IOMMU' });
    file.setContainer(container);
    container.setIommu(V1);
    tce.enable();
    map(container, 0n, 4, vaddr);
    assert.equal(world.pinned, 4);
  });
});
