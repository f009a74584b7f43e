import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_SIZE, PROT_READ, vaddrFrame } from '@pinion/core';
import { SimulatedMm, SimulatedOs, type SimulatedTask } from '@pinion/testkit';

const PAGE = BigInt(PAGE_SIZE);

const start = (lockPages: number, ipcLock = false): { os: SimulatedOs; task: SimulatedTask; vaddr: bigint } => {
  const os = new SimulatedOs({ readOnlyUntouched: 'zero-page' });
  const task = os.spawn({ name: 'vmm', lockBytes: lockPages * PAGE_SIZE, ipcLock });
  return { os, task, vaddr: task.memory.mmap({ size: 16n * PAGE }) };
};
const finish = async (os: SimulatedOs, task: SimulatedTask): Promise<void> => {
  await task.exit();
  assert.deepEqual(os.leaks(), { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 });
};

test('mlock counts every page once, munlock takes it back', async () => {
  const { os, task, vaddr } = start(8);
  task.mlock(vaddr, 4n * PAGE);
  task.mlock(vaddr + 2n * PAGE, 4n * PAGE);
  assert.equal(task.memory.lockedPages, 6);
  task.memory.munlock(vaddr + PAGE, PAGE);
  task.memory.munlock(vaddr + PAGE, PAGE);
  assert.equal(task.memory.lockedPages, 5);
  task.memory.munlock(vaddr, 16n * PAGE);
  assert.equal(task.memory.lockedPages, 0);
  await finish(os, task);
});

test('the range of mlock is widened to whole pages', async () => {
  const { os, task, vaddr } = start(8);
  task.mlock(vaddr + 4095n, 2n);
  assert.equal(task.memory.lockedPages, 2);
  task.memory.munlock(vaddr + PAGE + 1n, 1n);
  assert.equal(task.memory.lockedPages, 1);
  await finish(os, task);
});

test('the limit may be reached, not passed, and is shared with whoever accounts', async () => {
  const { os, task, vaddr } = start(8);
  task.memory.accountLocked(4);
  assert.throws(() => task.mlock(vaddr, 5n * PAGE), { name: 'SIM_LOCK_LIMIT', errno: 'ENOMEM' });
  assert.equal(task.memory.lockedPages, 4);
  task.mlock(vaddr, 4n * PAGE);
  assert.equal(task.memory.lockedPages, 8);
  task.mlock(vaddr, 4n * PAGE);
  assert.throws(() => task.mlock(vaddr, 5n * PAGE), { name: 'SIM_LOCK_LIMIT' });
  task.lockBytes = 9 * PAGE_SIZE - 1;
  assert.throws(() => task.mlock(vaddr, 5n * PAGE), { name: 'SIM_LOCK_LIMIT' });
  task.lockBytes = 9 * PAGE_SIZE;
  task.mlock(vaddr, 5n * PAGE);
  assert.equal(task.memory.lockedPages, 9);
  task.memory.accountLocked(-4);
  await finish(os, task);
});

test('pages locked before stay allowed when the limit falls below them', async () => {
  const { os, task, vaddr } = start(8);
  task.mlock(vaddr, 4n * PAGE);
  task.lockBytes = 4 * PAGE_SIZE;
  task.mlock(vaddr + PAGE, 3n * PAGE);
  assert.equal(task.memory.lockedPages, 4);
  await finish(os, task);
});

test('CAP_IPC_LOCK knows no limit, and no limit of 0', async () => {
  const { os, task, vaddr } = start(0, true);
  task.mlock(vaddr, 16n * PAGE);
  assert.equal(task.memory.lockedPages, 16);
  task.ipcLock = false;
  assert.throws(() => task.mlock(vaddr, PAGE), { name: 'SIM_LOCK_FORBIDDEN', errno: 'EPERM' });
  task.lockBytes = 1;
  assert.throws(() => task.mlock(vaddr + 15n * PAGE, 2n * PAGE), { name: 'SIM_LOCK_LIMIT', errno: 'ENOMEM' });
  task.lockBytes = Number.POSITIVE_INFINITY;
  task.mlock(vaddr, PAGE);
  await finish(os, task);
});

test('mlock faults pages in: writable ones get pages of their own, read-only zeros stay zeros', async () => {
  const { os, task, vaddr } = start(64);
  const readOnly = task.memory.mmap({ size: 4n * PAGE, prot: PROT_READ });
  task.mlock(vaddr, 2n * PAGE);
  task.mlock(readOnly, 4n * PAGE);
  assert.equal(os.leaks().livePages, 2);
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), false);
  assert.equal(os.host.pageClass(pfn), 'normal');
  os.host.unpinPage(pfn, false);
  await finish(os, task);
});

test('a hole stops mlock and munlock; what came before is done', async () => {
  const { os, task, vaddr } = start(64);
  task.memory.munmap(vaddr + 2n * PAGE, PAGE);
  const refusal = { name: 'SIM_HOLE', errno: 'ENOMEM' };
  assert.throws(() => task.mlock(vaddr, 4n * PAGE), refusal);
  assert.equal(task.memory.lockedPages, 2);
  assert.throws(() => task.mlock(vaddr + 2n * PAGE, 4n * PAGE), refusal);
  assert.equal(task.memory.lockedPages, 2);
  assert.throws(() => task.memory.munlock(vaddr + PAGE, 4n * PAGE), refusal);
  assert.equal(task.memory.lockedPages, 1);
  await finish(os, task);
});

test('memory without access is locked but cannot be faulted in; a BAR is passed over', async () => {
  const { os, task } = start(64);
  const none = task.memory.mmap({ kind: 'none', size: 2n * PAGE });
  assert.throws(() => task.mlock(none, 2n * PAGE), { name: 'SIM_HOLE', errno: 'ENOMEM' });
  assert.equal(task.memory.lockedPages, 2);
  const bar = task.memory.mmap({ kind: 'device', size: 2n * PAGE });
  task.mlock(bar, 2n * PAGE);
  assert.equal(task.memory.lockedPages, 2);
  await finish(os, task);
});

test('size 0 locks nothing, a range beyond user space is refused', async () => {
  const { os, task, vaddr } = start(64);
  task.mlock(vaddr, 0n);
  task.memory.munlock(vaddr, 0n);
  for (const [at, size] of [
    [(1n << 47n) - PAGE, PAGE],
    [-1n, PAGE],
    [vaddr, -PAGE],
  ] as const) {
    assert.throws(() => task.mlock(at, size), { name: 'SIM_BAD_RANGE', errno: 'EINVAL' });
    assert.throws(() => task.memory.munlock(at, size), { name: 'SIM_BAD_RANGE', errno: 'EINVAL' });
  }
  assert.equal(task.memory.lockedPages, 0);
  await finish(os, task);
});

test('munmap takes locked pages off the counter, and only those', async () => {
  const { os, task, vaddr } = start(64);
  task.mlock(vaddr, 4n * PAGE);
  task.memory.munmap(vaddr + 3n * PAGE, 4n * PAGE);
  assert.equal(task.memory.lockedPages, 3);
  await finish(os, task);
});

test('protection changes keep pages locked', async () => {
  const { os, task, vaddr } = start(64);
  task.mlock(vaddr, 4n * PAGE);
  task.memory.mprotect(vaddr + PAGE, PAGE, PROT_READ);
  task.mlock(vaddr, 4n * PAGE);
  assert.equal(task.memory.lockedPages, 4);
  await finish(os, task);
});

test('more taken away than was counted is an error and changes nothing', () => {
  const os = new SimulatedOs();
  const mm = new SimulatedMm(os.host, 'lone');
  mm.accountLocked(3);
  assert.throws(() => mm.accountLocked(-4), { name: 'SIM_LOCKED_UNDERFLOW', errno: 'EINVAL' });
  assert.equal(mm.lockedPages, 3);
  mm.accountLocked(-3);
  assert.equal(mm.lockedPages, 0);
});
