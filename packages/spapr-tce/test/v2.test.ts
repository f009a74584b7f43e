import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROT_READ, PROT_RW, vaddrFrame } from '@pinion/core';
import { TceControl } from '@pinion/spapr-tce';
import { inWorld, map, PAGE, reaches, SECOND, TABLE_PAGES, unmap, V2 } from './world.js';

const bytes = (pages: number): bigint => BigInt(pages) * PAGE;

test('memory is registered before it is mapped: pinned and charged whole, and given back whole', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V2);
    const vaddr = world.memory(16);
    assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_NOT_ENABLED', errno: 'EPERM' });
    tce.registerMemory({ vaddr, size: bytes(16) });
    assert.deepEqual([world.locked, world.pinned, container.stats.lockedPages], [16, 16, 16]);
    map(container, 0n, 8, vaddr);
    assert.deepEqual([world.locked, world.pinned], [16 + TABLE_PAGES, 16]);
    assert.ok(reaches(world, hardware, bytes(7), vaddr + bytes(7)));
    await unmap(container, 0n, 8);
    tce.unregisterMemory({ vaddr, size: bytes(16) });
    assert.deepEqual([world.locked, world.pinned], [TABLE_PAGES, 0]);
  });
});

const badMemory = [
  ['an unaligned vaddr', { vaddr: 0x800n, size: PAGE }, 'EINVAL'],
  ['half a page', { vaddr: 0n, size: 0x800n }, 'EINVAL'],
  ['no bytes', { vaddr: 0n, size: 0n }, 'EINVAL'],
  ['a wrap', { vaddr: PAGE, size: (1n << 64n) - PAGE }, 'EINVAL'],
  ['the last page of the space', { vaddr: (1n << 64n) - PAGE, size: PAGE }, 'EINVAL'],
  ['more pages than anybody can list', { vaddr: 0n, size: 1n << 60n }, 'ENOMEM'],
  ['memory that is not there', { vaddr: 0n, size: PAGE }, 'EFAULT'],
] as const;

for (const [what, memory, errno] of badMemory) {
  test(`registering ${what} is ${errno}; nothing is pinned, charged or owned`, async () => {
    await inWorld({}, async (world) => {
      const { tce, container } = world.open(V2);
      assert.throws(() => tce.registerMemory(memory), { errno });
      assert.deepEqual([world.locked, world.pinned], [0, 0]);
      const child = world.task.fork();
      assert.equal(new TceControl(container, child).info().flags, 1);
      await child.exit();
    });
  });
}

test('memory that ends too early is EFAULT, wherever it ends', async () => {
  await inWorld({}, (world) => {
    const { tce } = world.open(V2);
    const vaddr = world.memory(4);
    for (const pages of [5, 100]) {
      assert.throws(() => tce.registerMemory({ vaddr, size: bytes(pages) }), {
        name: 'TCE_MEMORY_FAULT',
        errno: 'EFAULT',
        message: /first 4 page/,
      });
    }
    const bar = world.task.memory.mmap({ size: PAGE, kind: 'device' });
    assert.throws(() => tce.registerMemory({ vaddr: bar, size: PAGE }), { errno: 'EFAULT' });
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
  });
});

test('registering twice is EBUSY, an overlap EINVAL; unregistering needs exactly what was registered', async () => {
  await inWorld({}, (world) => {
    const { tce } = world.open(V2);
    const vaddr = world.memory(32);
    const memory = { vaddr, size: bytes(16) };
    assert.throws(() => tce.unregisterMemory(memory), { name: 'TCE_NO_OWNER', errno: 'EPERM' });
    tce.registerMemory(memory);
    assert.throws(() => tce.registerMemory(memory), { name: 'TCE_REGISTERED', errno: 'EBUSY' });
    for (const other of [
      { vaddr, size: bytes(8) },
      { vaddr: vaddr + bytes(8), size: bytes(16) },
      { vaddr: vaddr + bytes(4), size: bytes(4) },
    ]) {
      assert.throws(() => tce.registerMemory(other), { name: 'TCE_MEMORY_OVERLAP', errno: 'EINVAL' });
      assert.throws(() => tce.unregisterMemory(other), { name: 'TCE_UNKNOWN_MEMORY', errno: 'ENOENT' });
    }
    assert.throws(() => tce.unregisterMemory({ vaddr: vaddr + 1n, size: bytes(16) }), { errno: 'EINVAL' });
    tce.registerMemory({ vaddr: vaddr + bytes(16), size: bytes(16) });
    assert.deepEqual([world.locked, world.pinned], [32, 32]);
    tce.unregisterMemory(memory);
    assert.throws(() => tce.unregisterMemory(memory), { name: 'TCE_UNKNOWN_MEMORY', errno: 'ENOENT' });
    assert.deepEqual([world.locked, world.pinned], [16, 16]);
  });
});

test('the limit counts memory and tables; reaching it exactly is fine', async () => {
  await inWorld({ lockPages: 15 }, (world) => {
    const { tce, container } = world.open(V2);
    const vaddr = world.memory(16);
    assert.throws(() => tce.registerMemory({ vaddr, size: bytes(16) }), { name: 'TCE_MEMLOCK', errno: 'ENOMEM' });
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
    world.task.lockBytes = 16 * 4096;
    tce.registerMemory({ vaddr, size: bytes(16) });
    assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_MEMLOCK', errno: 'ENOMEM' });
    assert.equal(world.locked, 16);
    world.task.lockBytes = (16 + TABLE_PAGES) * 4096;
    map(container, 0n, 1, vaddr);
    assert.equal(world.locked, 16 + TABLE_PAGES);
  });
});

test('memory in use cannot be unregistered: EBUSY until the last entry is gone', async () => {
  await inWorld({}, async (world) => {
    const { tce, container } = world.open(V2);
    const vaddr = world.memory(16);
    const memory = { vaddr, size: bytes(16) };
    tce.registerMemory(memory);
    map(container, 0n, 4, vaddr);
    assert.throws(() => tce.unregisterMemory(memory), {
      name: 'TCE_MEMORY_IN_USE',
      errno: 'EBUSY',
      message: /^unregister: 4 /,
    });
    await unmap(container, 0n, 3);
    assert.throws(() => tce.unregisterMemory(memory), { errno: 'EBUSY' });
    await unmap(container, 0n, 4);
    tce.unregisterMemory(memory);
    assert.deepEqual([world.locked, world.pinned], [TABLE_PAGES, 0]);
  });
});

test('a mapping over another moves the use: the old memory is free then', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, hardware } = world.open(V2);
    const [one, two] = [
      { vaddr: world.memory(4), size: bytes(4) },
      { vaddr: world.memory(4), size: bytes(4) },
    ];
    tce.registerMemory(one);
    tce.registerMemory(two);
    map(container, 0n, 4, one.vaddr);
    map(container, 0n, 4, two.vaddr);
    assert.ok(reaches(world, hardware, PAGE, two.vaddr + PAGE));
    tce.unregisterMemory(one);
    assert.throws(() => tce.unregisterMemory(two), { errno: 'EBUSY' });
    await unmap(container, 0n, 4);
  });
});

test('memory that is not registered cannot be mapped; a mapping may span two regions, and is all or nothing', async () => {
  await inWorld({}, (world) => {
    const { tce, container, hardware } = world.open(V2);
    const vaddr = world.memory(16);
    tce.registerMemory({ vaddr, size: bytes(4) });
    tce.registerMemory({ vaddr: vaddr + bytes(4), size: bytes(4) });
    map(container, 0n, 8, vaddr);
    assert.equal(container.stats.mappings, 8);
    const refused = { name: 'TCE_NOT_REGISTERED', errno: 'EINVAL' };
    assert.throws(() => map(container, 0n, 9, vaddr), refused);
    assert.throws(() => map(container, bytes(32), 1, vaddr + bytes(8)), refused);
    assert.throws(() => map(container, 0n, 8, vaddr + bytes(4)), refused);
    assert.ok(reaches(world, hardware, 0n, vaddr));
    assert.equal(container.stats.mappings, 8);
  });
});

test('two containers share registered memory: one charge, and it ends with the last', async () => {
  await inWorld({}, async (world) => {
    const [one, two] = [world.open(V2), world.open(V2)];
    const vaddr = world.memory(16);
    const memory = { vaddr, size: bytes(16) };
    one.tce.registerMemory(memory);
    two.tce.registerMemory(memory);
    assert.deepEqual([world.locked, world.pinned], [16, 16]);
    assert.deepEqual([one.container.stats.lockedPages, two.container.stats.lockedPages], [16, 0]);
    map(two.container, 0n, 1, vaddr);
    one.tce.unregisterMemory(memory);
    assert.throws(() => two.tce.unregisterMemory(memory), { errno: 'EBUSY' });
    await unmap(two.container, 0n, 1);
    two.tce.unregisterMemory(memory);
    assert.deepEqual([world.locked, world.pinned], [TABLE_PAGES, 0]);
  });
});

test('a container that ends lets go of memory that another one still maps; the last entry gives it back', async () => {
  await inWorld({}, async (world) => {
    const [one, two] = [world.open(V2), world.open(V2)];
    const [vaddr, own] = [world.memory(4), world.memory(1)];
    one.tce.registerMemory({ vaddr, size: bytes(4) });
    two.tce.registerMemory({ vaddr: own, size: PAGE });
    map(two.container, 0n, 4, vaddr);
    one.file.unsetContainer();
    assert.equal(world.pinned, 5);
    assert.throws(() => map(two.container, bytes(8), 1, vaddr), { name: 'TCE_NOT_REGISTERED' });
    await unmap(two.container, 0n, 4);
    assert.deepEqual([world.pinned, world.locked], [1, 1 + TABLE_PAGES]);
  });
});

test('a window’s pages may not be larger than the pages behind the memory, nor than its alignment', async () => {
  for (const backing of [12, 21]) {
    await inWorld({ backing }, (world) => {
      const { tce, container, hardware } = world.open(V2);
      const vaddr = world.memory(512);
      tce.registerMemory({ vaddr, size: bytes(512) });
      tce.createWindow({ pageShift: 16, size: 1n << 30n });
      const mapping = { flags: 3, iova: SECOND, size: 0x2_0000n, vaddr };
      if (backing === 12) assert.throws(() => container.map(mapping), { name: 'TCE_NOT_REGISTERED', errno: 'EINVAL' });
      else {
        container.map(mapping);
        assert.ok(reaches(world, hardware, SECOND + 0x1_f000n, vaddr + 0x1_f000n));
        assert.equal(container.stats.mappedBytes, 0x2_0000n);
        assert.throws(() => container.map({ ...mapping, vaddr: vaddr + PAGE }), { name: 'TCE_UNALIGNED' });
      }
    });
  }
  await inWorld({ backing: 21 }, (world) => {
    const { tce, container } = world.open(V2);
    const vaddr = world.memory(64);
    tce.registerMemory({ vaddr: vaddr + PAGE, size: bytes(63) });
    tce.createWindow({ pageShift: 16, size: 1n << 30n });
    const mapping = { flags: 3, iova: SECOND, size: 0x1_0000n, vaddr: vaddr + 0x1_0000n };
    assert.throws(() => container.map(mapping), { name: 'TCE_NOT_REGISTERED', errno: 'EINVAL' });
  });
});

test('pages that devices may have written come back dirty, the others do not', async () => {
  await inWorld({}, async (world) => {
    const { tce, container } = world.open(V2);
    const vaddr = world.task.memory.mmap({ size: bytes(3), kind: 'shared' });
    const frames = [0n, 1n, 2n].map((page) => {
      const pfn = world.task.memory.pinPage(vaddrFrame(vaddr + page * PAGE), false);
      world.os.host.unpinPage(pfn, false);
      return pfn;
    });
    tce.registerMemory({ vaddr, size: bytes(3) });
    map(container, 0n, 1, vaddr, PROT_READ);
    map(container, PAGE, 1, vaddr + PAGE, PROT_RW);
    await unmap(container, 0n, 2);
    tce.unregisterMemory({ vaddr, size: bytes(3) });
    assert.deepEqual(
      frames.map((pfn) => world.os.host.dirty(pfn)),
      [false, true, false],
    );
  });
});
