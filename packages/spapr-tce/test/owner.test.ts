import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXTENSION, PROT_RW } from '@pinion/core';
import { TceControl } from '@pinion/spapr-tce';
import { inWorld, map, type Opened, PAGE, TABLE_PAGES, V1, V2, WINDOW_PAGES, type World } from './world.js';

const firsts: readonly (readonly [what: string, type: number, first: (opened: Opened, world: World) => void])[] = [
  ['ENABLE', V1, ({ tce }) => tce.enable()],
  ['REGISTER', V2, ({ tce }, world) => tce.registerMemory({ vaddr: world.memory(1), size: PAGE })],
  ['CREATE', V2, ({ tce }) => void tce.createWindow({ pageShift: 16, size: 1n << 30n })],
  ['REMOVE', V2, ({ tce }) => tce.removeWindow(0n)],
];

for (const [what, type, first] of firsts) {
  test(`the first ${what} makes its process the owner: anybody else gets EPERM for all but CHECK_EXTENSION`, async () => {
    await inWorld({}, async (world) => {
      const opened = world.open(type);
      const child = world.task.fork();
      first(opened, world);
      const { container } = opened;
      const foreign = new TceControl(container, child);
      const refused = { name: 'TCE_NOT_OWNER', errno: 'EPERM', message: /task vmm\.1 / };
      const vaddr = world.memory(1);
      const calls = [
        () => foreign.enable(),
        () => foreign.disable(),
        () => foreign.registerMemory({ vaddr, size: PAGE }),
        () => foreign.unregisterMemory({ vaddr, size: PAGE }),
        () => foreign.createWindow({ pageShift: 12, size: PAGE }),
        () => foreign.removeWindow(0n),
        () => foreign.info(),
        () => container.info(32, child),
        () => container.mapDma({ iova: 0n, size: PAGE, vaddr, prot: PROT_RW }, child),
        () => container.ioctl(21, {}, child),
        () => container.ioctl(99, {}, child),
      ];
      for (const call of calls) assert.throws(call, refused);
      await assert.rejects(container.unmapDma({ iova: 0n, size: PAGE }, child), refused);
      assert.equal(container.checkExtension(EXTENSION.SPAPR_TCE_v2_IOMMU), 1);
      assert.equal(container.apiVersion(), 0);
      opened.tce.info();
      await child.exit();
    });
  });
}

test('info, DISABLE, maps and refused calls make nobody the owner', async () => {
  await inWorld({}, async (world) => {
    const { container } = world.open(V1);
    const child = world.task.fork();
    const foreign = new TceControl(container, child);
    foreign.info();
    foreign.disable();
    assert.throws(() => map(container, 0n, 1, 0n), { errno: 'EPERM', name: 'TCE_NOT_ENABLED' });
    child.lockBytes = 0;
    child.ipcLock = false;
    assert.throws(() => foreign.enable(), { name: 'TCE_MEMLOCK', errno: 'ENOMEM' });
    new TceControl(container).enable();
    assert.equal(world.locked, WINDOW_PAGES);
    await child.exit();
  });
});

test('a refused CREATE that left the default window keeps its owner: who was charged must be settled with', async () => {
  await inWorld({}, async (world) => {
    const { tce, container } = world.open(V2);
    const child = world.task.fork();
    const foreign = new TceControl(container, child);
    assert.throws(() => foreign.createWindow({ pageShift: 13, size: 1n << 30n }), { errno: 'EINVAL' });
    assert.equal(child.memory.lockedPages, TABLE_PAGES);
    assert.throws(() => tce.info(), { name: 'TCE_NOT_OWNER' });
    await child.exit();
  });
});

test('the charge goes to who mapped, not to who releases (threads/2016-10): a child takes the group away', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, file } = world.open(V1);
    tce.enable();
    map(container, 0n, 2, world.memory(2));
    const child = world.task.fork();
    assert.equal(child.memory.lockedPages, 0);
    file.unsetContainer();
    assert.deepEqual([world.locked, child.memory.lockedPages, world.pinned], [0, 0, 0]);
    await child.exit();
  });
});

for (const type of [V1, V2]) {
  test(`release works when the owner’s process is gone (threads/2016-10), ${type === V1 ? 'v1' : 'v2'}`, async () => {
    await inWorld({}, async (world) => {
      const { container, file } = world.open(type);
      const child = world.task.fork();
      const control = new TceControl(container, child);
      const vaddr = child.memory.mmap({ size: 4n * PAGE });
      if (type === V1) control.enable();
      else control.registerMemory({ vaddr, size: 4n * PAGE });
      container.mapDma({ iova: 0n, size: 4n * PAGE, vaddr, prot: PROT_RW }, child);
      const memory = child.memory;
      await child.exit();
      assert.equal(memory.alive, false);
      assert.deepEqual([memory.grabs, world.pinned], [1, 4]);
      assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_NOT_OWNER' });
      file.unsetContainer();
      assert.deepEqual([memory.grabs, memory.lockedPages, world.pinned, world.locked], [0, 0, 0, 0]);
    });
  });
}

test('a process that has exited cannot become the owner: ESRCH', async () => {
  await inWorld({}, async (world) => {
    const { container } = world.open(V1);
    const child = world.task.fork();
    await child.exit();
    assert.throws(() => new TceControl(container, child).enable(), { name: 'TCE_TASK_GONE', errno: 'ESRCH' });
  });
});

test('the process dies first: files close afterwards, and everything comes back', async () => {
  await inWorld({}, async (world) => {
    const { tce, container, file } = world.open(V2);
    const vaddr = world.memory(8);
    tce.registerMemory({ vaddr, size: 8n * PAGE });
    map(container, 0n, 8, vaddr);
    world.task.open('container', () => container.close());
    world.task.open('group', () => file.close());
    await world.task.exit();
    assert.equal(world.pinned, 0);
  });
});
