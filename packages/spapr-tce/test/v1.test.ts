import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAP_FLAG, PROT_READ, PROT_WRITE } from '@pinion/core';
import { inWorld, map, PAGE, reaches, TABLE_PAGES, unmap, V1, V2, WINDOW_PAGES } from './world.js';

test('ENABLE charges the whole window up front, DISABLE gives it back and is idempotent', async () => {
  await inWorld({}, (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    assert.deepEqual([world.locked, container.stats.lockedPages], [WINDOW_PAGES, WINDOW_PAGES]);
    assert.throws(() => tce.enable(), { name: 'TCE_ENABLED', errno: 'EBUSY' });
    tce.disable();
    tce.disable();
    assert.deepEqual([world.locked, container.stats.lockedPages], [0, 0]);
  });
});

test('the charge fits exactly into the limit; one page less is ENOMEM', async () => {
  await inWorld({ lockPages: WINDOW_PAGES - 1 }, (world) => {
    const { tce } = world.open(V1);
    assert.throws(() => tce.enable(), { name: 'TCE_MEMLOCK', errno: 'ENOMEM' });
    world.task.lockBytes += 4096;
    tce.enable();
    assert.equal(world.locked, WINDOW_PAGES);
  });
});

test('ENABLE without a 32-bit window is EPERM', async () => {
  await inWorld({}, (world) => {
    const { tce } = world.open(V1, world.plug({ window32: 0n }));
    assert.throws(() => tce.enable(), { name: 'TCE_NO_WINDOW32', errno: 'EPERM' });
  });
});

test('mapping needs ENABLE; no page is charged for, the table of the window is, until the group leaves', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware, file } = world.open(V1);
    const vaddr = world.memory(4);
    assert.throws(() => map(container, 0n, 4, vaddr), { name: 'TCE_NOT_ENABLED', errno: 'EPERM' });
    await assert.rejects(unmap(container, 0n, 4), { name: 'TCE_NOT_ENABLED', errno: 'EPERM' });
    tce.enable();
    map(container, 0n, 4, vaddr);
    assert.deepEqual([world.locked, world.pinned], [WINDOW_PAGES + TABLE_PAGES, 4]);
    assert.ok(reaches(world, hardware, 3n * PAGE, vaddr + 3n * PAGE));
    tce.disable();
    assert.deepEqual([world.locked, world.pinned], [TABLE_PAGES, 4]);
    assert.ok(reaches(world, hardware, 0n, vaddr), 'DMA goes on after DISABLE');
    file.unsetContainer();
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
    assert.equal(reaches(world, hardware, 0n, vaddr), false);
  });
});

test('a mapping replaces what was there, and the old pages are given back', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const [one, two] = [world.memory(4), world.memory(4)];
    map(container, 0n, 4, one);
    map(container, PAGE, 2, two);
    assert.equal(world.pinned, 4);
    const led = [one, two, two + PAGE, one + 3n * PAGE];
    for (const [page, vaddr] of led.entries()) assert.ok(reaches(world, hardware, BigInt(page) * PAGE, vaddr));
    assert.deepEqual(await unmap(container, 0n, 4), { size: 4n * PAGE });
    assert.equal(world.pinned, 0);
  });
});

test('any part can be unmapped; holes are fine, and only what was there is counted', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const vaddr = world.memory(8);
    map(container, 0n, 8, vaddr);
    assert.deepEqual(await unmap(container, 2n * PAGE, 3), { size: 3n * PAGE });
    assert.deepEqual(await unmap(container, PAGE, 5), { size: 2n * PAGE });
    assert.deepEqual(await unmap(container, 0x100_0000n, 5), { size: 0n });
    assert.deepEqual([world.pinned, container.stats.mappings, container.stats.mappedBytes], [3, 3, 3n * PAGE]);
    const reached = [0, 1, 2, 3, 4, 5, 6, 7].filter((page) =>
      reaches(world, hardware, BigInt(page) * PAGE, vaddr + BigInt(page) * PAGE),
    );
    assert.deepEqual(reached, [0, 6, 7]);
    assert.deepEqual(
      world.unmapped.map(({ first, last }) => [first, last]),
      [
        [2, 4],
        [1, 5],
      ],
    );
  });
});

test('rights are those of the mapping: a device cannot write where it may read, nor the other way round', async () => {
  await inWorld({}, (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const vaddr = world.memory(2);
    map(container, 0n, 1, vaddr, PROT_READ);
    map(container, PAGE, 1, vaddr + PAGE, PROT_WRITE);
    world.task.memory.poke(vaddr, Uint8Array.of(7));
    const bytes = new Uint8Array(1);
    assert.deepEqual([hardware.dmaRead(0n, bytes), bytes[0]], [true, 7]);
    assert.equal(hardware.dmaWrite(0n, Uint8Array.of(9)), false);
    assert.equal(world.task.memory.peek(vaddr, 1)[0], 7);
    assert.equal(hardware.dmaWrite(PAGE, Uint8Array.of(9)), true);
    assert.deepEqual([hardware.dmaRead(PAGE, bytes), bytes[0]], [false, 0]);
  });
});

test('a mapping that cannot be pinned whole is EFAULT and changes nothing', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const [old, holed] = [world.memory(4), world.memory(4)];
    world.task.memory.munmap(holed + 2n * PAGE, PAGE);
    map(container, 0n, 4, old);
    assert.throws(() => map(container, 0n, 4, holed), { name: 'TCE_MAP_FAULT', errno: 'EFAULT' });
    assert.equal(world.pinned, 4);
    assert.ok(reaches(world, hardware, 0n, old));
    const bar = world.task.memory.mmap({ size: PAGE, kind: 'device' });
    assert.throws(() => map(container, 0n, 1, bar), { errno: 'EFAULT' });
    await unmap(container, 0n, 4);
  });
});

test('read-only memory can be mapped for reading alone', async () => {
  await inWorld({}, (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    const vaddr = world.memory(1);
    world.task.memory.mprotect(vaddr, PAGE, PROT_READ);
    map(container, 0n, 1, vaddr, PROT_READ);
    assert.throws(() => map(container, 0n, 1, vaddr, PROT_WRITE), { errno: 'EFAULT' });
    assert.equal(world.pinned, 1);
  });
});

const RW = MAP_FLAG.READ | MAP_FLAG.WRITE;
const END = 1n << 30n;
const badMaps = [
  ['an argsz that is too small', { argsz: 31 }, 'EINVAL'],
  ['an unknown flag', { flags: RW | 8 }, 'EINVAL'],
  ['VADDR', { flags: RW | MAP_FLAG.VADDR }, 'EINVAL'],
  ['no rights', { flags: 0 }, 'EINVAL'],
  ['no rights outside every window', { flags: 0, iova: END }, 'ENXIO'],
  ['an iova behind the window', { iova: END }, 'ENXIO'],
  ['an iova at the end of the space', { iova: (1n << 64n) - PAGE }, 'ENXIO'],
  ['a range that leaves the window', { iova: END - PAGE, size: 2n * PAGE }, 'ENXIO'],
  ['a range that wraps', { iova: PAGE, size: (1n << 64n) - PAGE }, 'ENXIO'],
  ['an unaligned iova', { iova: 0x800n }, 'EINVAL'],
  ['half a page', { size: 0x800n }, 'EINVAL'],
  ['an unaligned vaddr', { vaddr: 0x800n }, 'EINVAL'],
  ['a negative iova', { iova: -1n }, 'EINVAL'],
  ['a size that no field holds', { size: 1n << 64n }, 'EINVAL'],
] as const;

for (const [what, change, errno] of badMaps) {
  test(`map with ${what} is ${errno} and maps nothing`, async () => {
    await inWorld({}, (world) => {
      const { tce, container } = world.open(V1);
      tce.enable();
      const request = { flags: RW, iova: 0n, size: PAGE, vaddr: world.memory(1), ...change };
      assert.throws(() => container.map(request), { errno });
      assert.deepEqual([world.pinned, container.stats.mappings], [0, 0]);
    });
  });
}

const badUnmaps = [
  ['an argsz that is too small', { argsz: 23 }, 'EINVAL'],
  ['any flag', { flags: 1 }, 'EINVAL'],
  ['ALL', { flags: 2, iova: 0n, size: 0n }, 'EINVAL'],
  ['an iova behind the window', { iova: END }, 'ENXIO'],
  ['an end behind the window', { size: END + PAGE }, 'ENXIO'],
  ['a size without end', { size: (1n << 64n) - PAGE }, 'ENXIO'],
  ['half a page', { size: 0x800n }, 'EINVAL'],
  ['an unaligned iova', { iova: 0x800n }, 'EINVAL'],
] as const;

for (const [what, change, errno] of badUnmaps) {
  test(`unmap with ${what} is ${errno} and unmaps nothing`, async () => {
    await inWorld({}, async (world) => {
      const { tce, container } = world.open(V1);
      tce.enable();
      map(container, 0n, 1, world.memory(1));
      await assert.rejects(container.unmap({ flags: 0, iova: 0n, size: PAGE, ...change }), { errno });
      assert.deepEqual([world.pinned, container.stats.mappings], [1, 1]);
    });
  });
}

test('no bytes are mapped and unmapped without error inside the window', async () => {
  await inWorld({}, async (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    const before = world.unmapped.length;
    map(container, 0n, 0, world.memory(1));
    assert.deepEqual(await unmap(container, 0n, 0), { size: 0n });
    assert.deepEqual([world.pinned, world.unmapped.length], [0, before]);
  });
});

test('the first map makes and charges the window, even if the rest of the request is bad; bad headers do not', async () => {
  await inWorld({}, (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    const request = { flags: RW, iova: END, size: PAGE, vaddr: 0n };
    assert.throws(() => container.map({ ...request, argsz: 0 }), { errno: 'EINVAL' });
    assert.equal(world.locked, WINDOW_PAGES);
    assert.throws(() => container.map(request), { errno: 'ENXIO' });
    assert.equal(world.locked, WINDOW_PAGES + TABLE_PAGES);
  });
});

test('v2 has no ENABLE and no DISABLE, v1 no memory and no windows: ENOTTY', async () => {
  await inWorld({}, (world) => {
    const refused = { name: 'TCE_NO_IOCTL', errno: 'ENOTTY' };
    const one = world.open(V1).tce;
    const memory = { vaddr: world.memory(1), size: PAGE };
    assert.throws(() => one.registerMemory(memory), refused);
    assert.throws(() => one.unregisterMemory(memory), refused);
    assert.throws(() => one.createWindow({ pageShift: 12, size: PAGE }), refused);
    assert.throws(() => one.removeWindow(0n), refused);
    const two = world.open(V2).tce;
    assert.throws(() => two.enable(), refused);
    assert.throws(() => two.disable(), refused);
  });
});
