import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE, vaddrFrame } from '@pinion/core';
import { SimulatedOs, type SimulatedTask } from '@pinion/testkit';

const PAGE = BigInt(PAGE_SIZE);
const NOTHING = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };
const start = (): { os: SimulatedOs; task: SimulatedTask } => {
  const os = new SimulatedOs();
  return { os, task: os.spawn({ name: 'vmm' }) };
};

test('a fresh process is root with 8 MiB of RLIMIT_MEMLOCK', async () => {
  const { os, task } = start();
  assert.deepEqual([task.name, task.ipcLock, task.rawIo, task.lockLimit], ['vmm', true, true, 2048]);
  assert.deepEqual([task.mm?.alive, task.mm?.lockedPages, task.mm?.name], [true, 0, 'vmm']);
  assert.deepEqual(os.tasks, [task]);
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('limits are bytes, used in whole pages', async () => {
  const { os, task } = start();
  for (const [bytes, pages] of [
    [0, 0],
    [4095, 0],
    [4096, 1],
    [8191, 1],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  ] as const) {
    task.lockBytes = bytes;
    assert.equal(task.lockLimit, pages);
  }
  for (const bytes of [-1, 0.5, Number.NaN, Number.NEGATIVE_INFINITY]) {
    const refusal = { name: 'SIM_BAD_LIMIT', errno: 'EINVAL' };
    assert.throws(() => {
      task.lockBytes = bytes;
    }, refusal);
    assert.throws(() => os.spawn({ name: 'bad', lockBytes: bytes }), refusal);
  }
  assert.equal(task.lockBytes, Number.POSITIVE_INFINITY);
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('fork copies private memory in both directions of time and shares the rest', async () => {
  const { os, task } = start();
  const anon = task.memory.mmap({ size: 4n * PAGE, fill: (offset, page) => page.fill(1 + offset / PAGE_SIZE) });
  const shared = task.memory.mmap({ kind: 'shared', size: PAGE });
  task.memory.poke(anon, new Uint8Array([9]));
  task.memory.madviseDontneed(anon + 3n * PAGE, PAGE);
  const child = task.fork();
  assert.deepEqual([...child.memory.peek(anon, 2)], [9, 1]);
  assert.deepEqual([...child.memory.peek(anon + 2n * PAGE, 2)], [3, 3], 'untouched before the fork');
  assert.deepEqual([...child.memory.peek(anon + 3n * PAGE, 2)], [0, 0], 'discarded before the fork');
  task.memory.poke(anon, new Uint8Array([7]));
  child.memory.poke(anon + 1n, new Uint8Array([8]));
  assert.deepEqual([...child.memory.peek(anon, 2)], [9, 8]);
  assert.deepEqual([...task.memory.peek(anon, 2)], [7, 1]);
  child.memory.poke(shared, new Uint8Array([5]));
  assert.equal(task.memory.peek(shared, 1)[0], 5);
  child.memory.munmap(shared, PAGE);
  child.memory.munmap(anon, 4n * PAGE);
  assert.deepEqual([...task.memory.peek(anon, 2)], [7, 1]);
  assert.equal(task.memory.peek(shared, 1)[0], 5);
  await child.exit();
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('the pages stay with the parent: its pins stay right, the child has others', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: PAGE });
  const frame = vaddrFrame(vaddr);
  const pfn = task.memory.pinPage(frame, true);
  const child = task.fork();
  assert.equal(task.memory.pinPage(frame, true), pfn);
  const other = child.memory.pinPage(frame, true);
  assert.notEqual(other, pfn);
  task.memory.poke(vaddr, new Uint8Array([1]));
  assert.deepEqual([os.host.bytes(pfn, 1)[0], os.host.bytes(other, 1)[0]], [1, 0]);
  for (const page of [pfn, pfn, other]) os.host.unpinPage(page, true);
  await child.exit();
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('parts of a split mapping are still one memory in the child', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 4n * PAGE, fill: (offset, page) => page.fill(1 + offset / PAGE_SIZE) });
  task.memory.munmap(vaddr + PAGE, PAGE);
  task.memory.mprotect(vaddr + 2n * PAGE, PAGE, 1);
  const child = task.fork();
  const grandchild = child.fork();
  assert.deepEqual(
    [0n, 2n, 3n].map((page) => grandchild.memory.peek(vaddr + page * PAGE, 1)[0]),
    [1, 3, 4],
  );
  assert.equal(grandchild.memory.copy(vaddr + PAGE, new Uint8Array(1), false), false);
  assert.equal(grandchild.memory.copy(vaddr + 2n * PAGE, new Uint8Array(1), true), false);
  assert.equal(os.leaks().livePages, 3);
  for (const one of [task, child, grandchild]) await one.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a child inherits limits, capabilities and places, but nothing locked and no grab', async () => {
  const { os, task } = start();
  task.lockBytes = 5 * PAGE_SIZE;
  task.ipcLock = false;
  task.rawIo = false;
  const vaddr = task.memory.mmap({ size: 4n * PAGE });
  task.mlock(vaddr, 4n * PAGE);
  task.memory.accountLocked(1);
  task.memory.grab();
  const child = task.fork('kid');
  assert.deepEqual([child.name, child.lockLimit, child.ipcLock, child.rawIo], ['kid', 5, false, false]);
  assert.deepEqual([child.memory.lockedPages, child.memory.grabs], [0, 0]);
  child.lockBytes = 3 * PAGE_SIZE;
  assert.equal(task.lockLimit, 5);
  child.memory.madviseDontneed(vaddr, PAGE);
  child.mlock(vaddr, 3n * PAGE);
  assert.equal(child.memory.lockedPages, 3);
  assert.notEqual(child.memory.mmap({ size: PAGE }), vaddr);
  await child.exit();
  assert.equal(task.memory.lockedPages, 5);
  const mm = task.memory;
  await task.exit();
  assert.deepEqual(os.leaks(), { ...NOTHING, grabs: 1, lockedPages: 5 });
  mm.drop();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a child maps where its parent would have, not where something was unmapped', async () => {
  const { os, task } = start();
  const gone = task.memory.mmap({ size: PAGE });
  task.memory.munmap(gone, PAGE);
  const child = task.fork();
  const [inChild, inParent] = [child.memory.mmap({ size: PAGE }), task.memory.mmap({ size: PAGE })];
  assert.deepEqual([inChild, inChild > gone], [inParent, true]);
  await child.exit();
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('exit: the memory is gone before the first file is released', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 4n * PAGE });
  task.memory.poke(vaddr, new Uint8Array(4 * PAGE_SIZE));
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
  const mm = task.memory;
  mm.grab();
  const seen: unknown[] = [];
  task.open('device', () => {
    seen.push(['device', task.mm, mm.alive, os.host.livePages, os.host.bytes(pfn, 1).length]);
    os.host.unpinPage(pfn, true);
    mm.drop();
  });
  await task.exit();
  assert.deepEqual(seen, [['device', null, false, 1, PAGE_SIZE]]);
  assert.deepEqual(os.leaks(), NOTHING);
});

test('exit closes files newest first, each after the one before; a failure stops none', async () => {
  const { os, task } = start();
  const closed: string[] = [];
  const later = (name: string) => async () => {
    closed.push(`${name} begins`);
    await Promise.resolve();
    closed.push(`${name} ends`);
  };
  task.open('container', later('container'));
  task.open('group', () => Promise.reject(new RangeError('broken release')));
  task.open('device', later('device'));
  task.open('plain');
  await assert.rejects(task.exit(), RangeError);
  assert.deepEqual(closed, ['device begins', 'device ends', 'container begins', 'container ends']);
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a file is released with its last reference, whoever holds it', async () => {
  const { os, task } = start();
  let released = 0;
  const file = task.open('group', () => {
    released++;
  });
  const child = task.fork();
  const grandchild = child.fork();
  assert.equal(file.references, 3);
  await child.close(file);
  await assert.rejects(child.close(file), { name: 'SIM_BAD_FILE', errno: 'EBADF' });
  await child.exit();
  await task.close(file);
  assert.deepEqual([released, file.references, grandchild.files], [0, 1, [file]]);
  await grandchild.exit();
  assert.deepEqual([released, file.references], [1, 0]);
  await task.exit();
  assert.deepEqual([released, os.leaks()], [1, NOTHING]);
});

test('files opened by a child are its own', async () => {
  const { os, task } = start();
  const child = task.fork();
  const file = child.open('device');
  await assert.rejects(task.close(file), { name: 'SIM_BAD_FILE' });
  assert.deepEqual([task.files, child.files], [[], [file]]);
  assert.equal(os.leaks().openFiles, 1);
  await child.close(file);
  await child.exit();
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a release that fails closes the file all the same', async () => {
  const { os, task } = start();
  const file = task.open('device', () => {
    throw new RangeError('broken release');
  });
  await assert.rejects(task.close(file), RangeError);
  assert.deepEqual([file.references, task.files], [0, []]);
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('exec: a new address space, the same files; the old counter lives while it is grabbed', async () => {
  const { os, task } = start();
  const file = task.open('container');
  const vaddr = task.memory.mmap({ size: PAGE });
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
  const old = task.memory;
  old.grab();
  old.accountLocked(1);
  task.exec();
  assert.notEqual(task.mm, old);
  assert.deepEqual([old.alive, old.lockedPages, task.memory.alive, task.memory.lockedPages], [false, 1, true, 0]);
  assert.throws(() => task.memory.peek(vaddr, 1), { errno: 'EFAULT' });
  assert.deepEqual([task.files, os.host.bytes(pfn, 1).length], [[file], PAGE_SIZE]);
  os.host.unpinPage(pfn, false);
  old.accountLocked(-1);
  old.drop();
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a memfd outlives the processes that map it, as long as somebody holds it', async () => {
  const { os, task } = start();
  const memfd = os.memfd(2);
  task.memory.poke(task.memory.mmap({ object: memfd, size: 2n * PAGE }) + PAGE, new Uint8Array([4]));
  const other = os.spawn({ name: 'backend' });
  await task.exit();
  assert.equal(other.memory.peek(other.memory.mmap({ object: memfd, size: PAGE, offset: PAGE }), 1)[0], 4);
  await other.exit();
  assert.deepEqual(os.leaks(), { ...NOTHING, livePages: 1 });
  memfd.unuse();
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a dead task can do nothing', async () => {
  const { os, task } = start();
  const file = task.open('container');
  await task.exit();
  assert.equal(task.mm, null);
  const refusal = { name: 'SIM_TASK_DEAD', errno: 'ESRCH' };
  assert.throws(() => task.memory, refusal);
  assert.throws(() => task.open('more'), refusal);
  assert.throws(() => task.fork(), refusal);
  assert.throws(() => task.exec(), refusal);
  assert.throws(() => task.mlock(0n, PAGE), refusal);
  await assert.rejects(task.close(file), refusal);
  await assert.rejects(task.exit(), refusal);
  assert.deepEqual(os.leaks(), NOTHING);
});

test('a dead address space can do nothing but be counted', async () => {
  const { os, task } = start();
  const mm = task.memory;
  mm.grab();
  await task.exit();
  const refusal = { name: 'SIM_MM_DEAD', errno: 'ESRCH' };
  assert.throws(() => mm.mmap({ size: PAGE }), refusal);
  assert.throws(() => mm.munmap(0n, PAGE), refusal);
  assert.throws(() => mm.mprotect(0n, PAGE, 0), refusal);
  assert.throws(() => mm.madviseDontneed(0n, PAGE), refusal);
  assert.throws(() => mm.munlock(0n, PAGE), refusal);
  assert.throws(() => mm.pinPage(vaddrFrame(0n), false), refusal);
  assert.throws(() => mm.fork('child'), refusal);
  assert.throws(() => mm.exit(), refusal);
  assert.equal(mm.copy(0n, new Uint8Array(1), false), false);
  mm.accountLocked(2);
  assert.equal(mm.lockedPages, 2);
  mm.drop();
  assert.throws(() => mm.drop(), { name: 'SIM_MM_UNDERFLOW', errno: 'EINVAL' });
  assert.deepEqual(os.leaks(), NOTHING);
});
