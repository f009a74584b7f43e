import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asVaddrFrame, PAGE_SIZE, type Pfn, PROT_READ, PROT_WRITE, vaddrFrame } from '@pinion/core';
import { type Fill, type OsOptions, POISON, SimulatedOs, type SimulatedTask } from '@pinion/testkit';

const PAGE = BigInt(PAGE_SIZE);
const NOTHING = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };

/** The u64 at offset o is 7<<56 | o. */
const pattern: Fill = (offset, page) => {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let o = 0; o < page.length; o += 8) view.setBigUint64(o, (7n << 56n) | BigInt(offset + o), true);
};

const start = (options: OsOptions = {}): { os: SimulatedOs; task: SimulatedTask } => {
  const os = new SimulatedOs(options);
  return { os, task: os.spawn({ name: 'vmm' }) };
};
const first = (bytes: Uint8Array): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
const finish = async (os: SimulatedOs, task: SimulatedTask, pins: readonly Pfn[] = []): Promise<void> => {
  for (const pfn of pins) os.host.unpinPage(pfn, false);
  await task.exit();
  assert.deepEqual(os.leaks(), NOTHING);
};

test('mmap places memory 2 MiB aligned with 2 MiB of nothing on both sides', async () => {
  const { os, task } = start();
  const size = 0x200000n;
  for (const vaddr of [task.memory.mmap({ size }), task.memory.mmap({ size: 1n }), task.memory.mmap({ size })]) {
    assert.equal(vaddr % 0x200000n, 0n);
    assert.equal(task.memory.copy(vaddr, new Uint8Array(1), true), true);
    for (const outside of [vaddr - 1n, vaddr - 0x200000n, vaddr + 0x200000n, vaddr + 0x3fffffn]) {
      assert.equal(task.memory.copy(outside, new Uint8Array(1), false), false);
    }
  }
  await finish(os, task);
});

test('a mapping asked for by address keeps its neighbours at a distance', async () => {
  const { os, task } = start();
  const one = task.memory.mmap({ size: PAGE });
  const two = task.memory.mmap({ size: PAGE, at: one + 0x600000n });
  assert.equal(two, one + 0x600000n);
  const three = task.memory.mmap({ size: 0x400000n });
  assert.ok(three >= two + 0x200000n + PAGE, 'at least 2 MiB behind the fixed mapping');
  await finish(os, task);
});

const badMmaps: readonly [what: string, request: { size: bigint; at?: bigint; offset?: bigint }, name: string][] = [
  ['size 0', { size: 0n }, 'SIM_BAD_RANGE'],
  ['a negative size', { size: -1n }, 'SIM_BAD_RANGE'],
  ['an unaligned address', { size: PAGE, at: 0x1001n }, 'SIM_BAD_RANGE'],
  ['a negative address', { size: PAGE, at: -PAGE }, 'SIM_BAD_RANGE'],
  ['an unaligned offset', { size: PAGE, offset: 1n }, 'SIM_BAD_RANGE'],
  ['the end of user space', { size: PAGE, at: (1n << 47n) - PAGE }, 'SIM_NO_SPACE'],
  ['more than there is', { size: 1n << 60n }, 'SIM_NO_SPACE'],
  ['a place that is taken', { size: PAGE, at: 0x10000n }, 'SIM_OVERLAP'],
  ['a place whose end is taken', { size: 2n * PAGE, at: 0xf000n }, 'SIM_OVERLAP'],
];
for (const [what, request, name] of badMmaps) {
  test(`mmap refuses ${what}`, async () => {
    const { os, task } = start();
    task.memory.mmap({ size: PAGE, at: 0x10000n });
    assert.throws(() => task.memory.mmap(request), { name });
    await finish(os, task);
  });
}

test('mmap refuses more of an object than it has', async () => {
  const { os, task } = start();
  const object = os.memfd(4);
  for (const [size, offset] of [
    [5n * PAGE, 0n],
    [PAGE, 4n * PAGE],
    [2n * PAGE, 3n * PAGE],
  ] as const) {
    assert.throws(() => task.memory.mmap({ object, size, offset }), { name: 'SIM_BAD_RANGE', errno: 'EINVAL' });
  }
  object.unuse();
  await finish(os, task);
});

test('content is made at the first touch: the fill pattern, by offset in the buffer', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 0x200000n, fill: pattern });
  assert.equal(os.leaks().livePages, 0);
  assert.equal(first(task.memory.peek(vaddr + 0x42008n, 8)), (7n << 56n) | 0x42008n);
  assert.equal(os.leaks().livePages, 1);
  const pfn = task.memory.pinPage(vaddrFrame(vaddr + 0x43000n), true);
  assert.equal(first(os.host.bytes(pfn, 1)), (7n << 56n) | 0x43000n);
  await finish(os, task, [pfn]);
});

test('a pinned page is the memory itself: both sides see each other write', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: PAGE });
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
  task.memory.poke(vaddr + 5n, new Uint8Array([1, 2]));
  assert.deepEqual([...os.host.bytes(pfn, 1).subarray(4, 8)], [0, 1, 2, 0]);
  os.host.bytes(pfn, 1)[6] = 9;
  assert.deepEqual([...task.memory.peek(vaddr + 5n, 2)], [1, 9]);
  assert.equal(task.memory.pinPage(vaddrFrame(vaddr), false), pfn);
  assert.equal(os.host.pinsOf(pfn), 2);
  await finish(os, task, [pfn, pfn]);
});

test('munmap splits; a page that is pinned lives on with its content', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 8n * PAGE, fill: pattern });
  const pfn = task.memory.pinPage(vaddrFrame(vaddr + 2n * PAGE), true);
  task.memory.peek(vaddr, 8 * PAGE_SIZE);
  task.memory.munmap(vaddr + PAGE, 4n * PAGE - 1n);
  assert.equal(os.leaks().livePages, 5);
  assert.equal(first(os.host.bytes(pfn, 1)), (7n << 56n) | 0x2000n);
  assert.throws(() => task.memory.pinPage(vaddrFrame(vaddr + 2n * PAGE), true), { name: 'SIM_FAULT', errno: 'EFAULT' });
  assert.throws(() => task.memory.peek(vaddr + 4n * PAGE, 1), { errno: 'EFAULT' });
  assert.equal(first(task.memory.peek(vaddr, 8)), 7n << 56n);
  assert.equal(first(task.memory.peek(vaddr + 5n * PAGE, 8)), (7n << 56n) | 0x5000n);
  const kept = os.host.bytes(pfn, 1);
  os.host.unpinPage(pfn, true);
  assert.equal(kept[0], POISON, 'a view kept after the last reference shows it');
  assert.throws(() => os.host.bytes(pfn, 1), RangeError);
  await finish(os, task);
});

test('memory mapped where other memory was is other memory', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 4n * PAGE, fill: pattern });
  const old = task.memory.pinPage(vaddrFrame(vaddr + PAGE), true);
  task.memory.munmap(vaddr, 4n * PAGE);
  task.memory.mmap({ size: 4n * PAGE, at: vaddr });
  const fresh = task.memory.pinPage(vaddrFrame(vaddr + PAGE), true);
  assert.notEqual(fresh, old);
  assert.equal(first(task.memory.peek(vaddr + PAGE, 8)), 0n);
  await finish(os, task, [old, fresh]);
});

test('MADV_DONTNEED: private memory becomes zeros, not the pattern again; a pin keeps the old page', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 4n * PAGE, fill: pattern });
  const frame = vaddrFrame(vaddr + PAGE);
  const old = task.memory.pinPage(frame, true);
  task.memory.madviseDontneed(vaddr + PAGE, 2n * PAGE);
  assert.equal(first(task.memory.peek(vaddr + PAGE, 8)), 0n);
  assert.equal(first(task.memory.peek(vaddr + 2n * PAGE, 8)), 0n, 'never touched before, but discarded');
  assert.equal(first(task.memory.peek(vaddr + 3n * PAGE, 8)), (7n << 56n) | 0x3000n);
  assert.equal(first(os.host.bytes(old, 1)), (7n << 56n) | 0x1000n);
  const fresh = task.memory.pinPage(frame, true);
  assert.notEqual(fresh, old);
  task.memory.poke(vaddr + PAGE, new Uint8Array([5]));
  assert.equal(os.host.bytes(fresh, 1)[0], 5);
  assert.equal(os.host.bytes(old, 1)[0], 0);
  await finish(os, task, [old, fresh]);
});

test('MADV_DONTNEED: shared memory keeps its content and its pages', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ kind: 'shared', size: 2n * PAGE, fill: pattern });
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
  task.memory.poke(vaddr, new Uint8Array([1]));
  task.memory.madviseDontneed(vaddr, 2n * PAGE);
  assert.equal(task.memory.peek(vaddr, 1)[0], 1);
  assert.equal(first(task.memory.peek(vaddr + PAGE, 8)), (7n << 56n) | 0x1000n);
  assert.equal(task.memory.pinPage(vaddrFrame(vaddr), true), pfn);
  await finish(os, task, [pfn, pfn]);
});

test('mprotect covers part of a mapping; pins taken before stay good', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 3n * PAGE, fill: pattern });
  const middle = vaddr + PAGE;
  const pfn = task.memory.pinPage(vaddrFrame(middle), true);
  task.memory.mprotect(middle, PAGE, PROT_READ);
  assert.throws(() => task.memory.pinPage(vaddrFrame(middle), true), { name: 'SIM_FAULT' });
  assert.throws(() => task.memory.poke(middle, new Uint8Array(1)), { name: 'SIM_FAULT' });
  task.memory.poke(vaddr, new Uint8Array(PAGE_SIZE));
  task.memory.poke(vaddr + 2n * PAGE, new Uint8Array(PAGE_SIZE));
  assert.equal(task.memory.pinPage(vaddrFrame(middle), false), pfn);
  task.memory.mprotect(middle, PAGE, 0);
  assert.throws(() => task.memory.pinPage(vaddrFrame(middle), false), { name: 'SIM_FAULT' });
  assert.throws(() => task.memory.peek(middle, 1), { name: 'SIM_FAULT' });
  os.host.bytes(pfn, 1)[0] = 3;
  task.memory.mprotect(middle, PAGE, PROT_READ);
  assert.equal(task.memory.peek(middle, 1)[0], 3);
  await finish(os, task, [pfn, pfn]);
});

const accesses: readonly [
  what: string,
  prot: number,
  read: boolean,
  write: boolean,
  pinRead: boolean,
  pinWrite: boolean,
][] = [
  ['rw', PROT_READ | PROT_WRITE, true, true, true, true],
  ['r', PROT_READ, true, false, true, false],
  ['w', PROT_WRITE, true, true, false, true],
  ['none', 0, false, false, false, false],
];
for (const kind of ['anon', 'shared', 'device'] as const) {
  for (const [what, prot, read, write, pinRead, pinWrite] of accesses) {
    test(`${kind} memory with protection ${what}: who may do what`, async () => {
      const { os, task } = start();
      const vaddr = task.memory.mmap({ kind, size: PAGE, prot });
      const pins: Pfn[] = [];
      const pin = (forWrite: boolean): boolean => {
        try {
          pins.push(task.memory.pinPage(vaddrFrame(vaddr), forWrite));
          return true;
        } catch (refusal) {
          assert.equal((refusal as { name: string }).name, 'SIM_FAULT'); // why: the assertion is the type check
          return false;
        }
      };
      assert.equal(task.memory.copy(vaddr, new Uint8Array(8), false), read);
      assert.equal(task.memory.copy(vaddr, new Uint8Array(8), true), write);
      assert.deepEqual([pin(false), pin(true)], [pinRead, pinWrite]);
      await finish(os, task, pins);
    });
  }
}

for (const [mode, kind, prot] of [
  ['zero-page', 'reserved', PROT_READ],
  ['allocate', 'normal', PROT_READ],
  ['zero-page', 'reserved', PROT_READ | PROT_WRITE],
  ['allocate', 'normal', PROT_READ | PROT_WRITE],
] as const) {
  test(`a read-only pin of untouched private memory (prot ${prot}) with ${mode} is ${kind}`, async () => {
    const { os, task } = start({ readOnlyUntouched: mode });
    const vaddr = task.memory.mmap({ size: 2n * PAGE, prot });
    task.memory.peek(vaddr, 8);
    const pfn = task.memory.pinPage(vaddrFrame(vaddr), false);
    assert.equal(os.host.pageClass(pfn), kind);
    assert.equal(pfn === os.host.zeroPage, kind === 'reserved');
    assert.equal(os.host.pinnedPages, kind === 'reserved' ? 0 : 1);
    assert.deepEqual(os.host.bytes(pfn, 1), new Uint8Array(PAGE_SIZE));
    await finish(os, task, [pfn]);
  });
}

test('with the zero page: a later write gets a page of its own and leaves the pinned zeros alone', async () => {
  const { os, task } = start({ readOnlyUntouched: 'zero-page' });
  const vaddr = task.memory.mmap({ size: PAGE });
  const frame = vaddrFrame(vaddr);
  const zero = task.memory.pinPage(frame, false);
  task.memory.poke(vaddr, new Uint8Array([1]));
  assert.equal(os.host.bytes(zero, 1)[0], 0);
  const own = task.memory.pinPage(frame, false);
  assert.equal(os.host.bytes(own, 1)[0], 1);
  task.memory.madviseDontneed(vaddr, PAGE);
  assert.equal(task.memory.pinPage(frame, false), os.host.zeroPage);
  const written = task.memory.pinPage(frame, true);
  assert.notEqual(written, own);
  await finish(os, task, [own, written]);
});

test('with the zero page: filled, shared and write-pinned memory still has pages of its own', async () => {
  const { os, task } = start({ readOnlyUntouched: 'zero-page' });
  const filled = task.memory.mmap({ size: PAGE, fill: pattern, prot: PROT_READ });
  const shared = task.memory.mmap({ kind: 'shared', size: PAGE, prot: PROT_READ });
  const pins = [task.memory.pinPage(vaddrFrame(filled), false), task.memory.pinPage(vaddrFrame(shared), false)];
  assert.deepEqual(
    pins.map((pfn) => os.host.pageClass(pfn)),
    ['normal', 'normal'],
  );
  await finish(os, task, pins);
});

test('device and reserved frames carry no reference, dax memory cannot be pinned', async () => {
  const { os, task } = start();
  const bar = os.bar(256);
  const one = task.memory.mmap({ object: bar, size: 256n * PAGE });
  const two = task.memory.mmap({ object: bar, size: PAGE, offset: 3n * PAGE });
  const pfn = task.memory.pinPage(vaddrFrame(one + 3n * PAGE), true);
  assert.equal(os.host.pageClass(pfn), 'device');
  assert.equal(task.memory.pinPage(vaddrFrame(two), true), pfn);
  task.memory.poke(two, new Uint8Array([6]));
  assert.equal(task.memory.peek(one + 3n * PAGE, 1)[0], 6);
  const firmware = task.memory.pinPage(vaddrFrame(task.memory.mmap({ kind: 'reserved', size: PAGE })), true);
  assert.equal(os.host.pageClass(firmware), 'reserved');
  assert.equal(os.host.pinnedPages, 0);
  os.host.unpinPage(pfn, true);
  os.host.unpinPage(firmware, true);
  const dax = task.memory.mmap({ kind: 'dax', size: PAGE });
  assert.throws(() => task.memory.pinPage(vaddrFrame(dax), false), { name: 'SIM_NOT_PINNABLE', errno: 'EOPNOTSUPP' });
  task.memory.poke(dax, new Uint8Array([1]));
  task.memory.munmap(one, 256n * PAGE);
  task.memory.munmap(two, PAGE);
  assert.equal(os.host.pageClass(pfn), 'device', 'a BAR stays where it is');
  await finish(os, task);
});

test('a copy over a hole keeps what came before', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 3n * PAGE });
  task.memory.munmap(vaddr + 2n * PAGE, PAGE);
  const bytes = new Uint8Array(2 * PAGE_SIZE).fill(1);
  assert.equal(task.memory.copy(vaddr + PAGE, bytes, true), false);
  assert.deepEqual(task.memory.peek(vaddr + PAGE, PAGE_SIZE), new Uint8Array(PAGE_SIZE).fill(1));
  assert.equal(task.memory.copy(vaddr + PAGE - 1n, bytes.subarray(0, 2), false), true);
  assert.deepEqual([...bytes.subarray(0, 2)], [0, 1]);
  await finish(os, task);
});

for (const vaddr of [0n, 1n << 47n, (1n << 64n) - 1n, (1n << 64n) - 8n]) {
  test(`a copy at 0x${vaddr.toString(16)} reaches nothing`, async () => {
    const { os, task } = start();
    for (const write of [false, true]) assert.equal(task.memory.copy(vaddr, new Uint8Array(16), write), false);
    assert.throws(() => task.memory.pinPage(vaddrFrame(vaddr), false), { errno: 'EFAULT' });
    await finish(os, task);
  });
}

test('a copy of nothing works anywhere', async () => {
  const { os, task } = start();
  assert.equal(task.memory.copy(0n, new Uint8Array(0), true), true);
  await finish(os, task);
});

test('memory that was asked for in one piece is contiguous, 2 MiB at a time otherwise', async () => {
  const { os, task } = start();
  const touch = (vaddr: bigint): Pfn[] =>
    Array.from({ length: 1024 }, (_, i) => task.memory.pinPage(asVaddrFrame(vaddrFrame(vaddr) + i), true));
  const pieces = touch(task.memory.mmap({ size: 0x400000n }));
  const whole = touch(task.memory.mmap({ size: 0x400000n, contiguous: true }));
  const breaks = (pfns: Pfn[]): number[] => pfns.flatMap((pfn, i) => (os.host.contiguous(pfn) ? [] : [i]));
  assert.deepEqual(breaks(pieces), [511, 1023]);
  assert.deepEqual(breaks(whole), [1023]);
  assert.equal(os.host.bytes(whole[0] ?? os.host.zeroPage, 1024).length, 0x400000);
  assert.throws(() => os.host.bytes(pieces[0] ?? os.host.zeroPage, 513), RangeError);
  await finish(os, task, [...pieces, ...whole]);
});

test('when the host is full, faults are ENOMEM, copies stop, and nothing is left behind', async () => {
  const { os, task } = start({ capacity: 2 });
  const vaddr = task.memory.mmap({ size: 4n * PAGE });
  assert.equal(task.memory.copy(vaddr, new Uint8Array(3 * PAGE_SIZE), true), false);
  assert.equal(os.leaks().livePages, 2);
  const refusal = { name: 'SIM_OUT_OF_MEMORY', errno: 'ENOMEM' };
  assert.throws(() => task.memory.pinPage(vaddrFrame(vaddr + 2n * PAGE), true), refusal);
  assert.throws(() => task.fork(), refusal);
  assert.deepEqual(os.leaks(), { ...NOTHING, tasks: 1, livePages: 2 });
  task.memory.munmap(vaddr, PAGE);
  const pfn = task.memory.pinPage(vaddrFrame(vaddr + 2n * PAGE), true);
  await finish(os, task, [pfn]);
});

const spans: readonly [what: string, vaddr: bigint, size: bigint][] = [
  ['an unaligned address', 0x10001n, PAGE],
  ['a negative address', -PAGE, PAGE],
  ['a negative size', 0x10000n, -1n],
  ['a range beyond user space', (1n << 47n) - 2n * PAGE, 2n * PAGE],
  ['a range that wraps', (1n << 64n) - PAGE, 2n * PAGE],
];
for (const [what, vaddr, size] of spans) {
  test(`munmap, mprotect and madvise refuse ${what}`, async () => {
    const { os, task } = start();
    task.memory.mmap({ size: 4n * PAGE, at: 0x10000n });
    const refusal = { name: 'SIM_BAD_RANGE', errno: 'EINVAL' };
    assert.throws(() => task.memory.munmap(vaddr, size), refusal);
    assert.throws(() => task.memory.mprotect(vaddr, size, PROT_READ), refusal);
    assert.throws(() => task.memory.madviseDontneed(vaddr, size), refusal);
    task.memory.poke(0x10000n, new Uint8Array(4 * PAGE_SIZE));
    await finish(os, task);
  });
}

test('size 0: munmap refuses it, mprotect and madvise do nothing', async () => {
  const { os, task } = start();
  assert.throws(() => task.memory.munmap(0x10000n, 0n), { name: 'SIM_BAD_RANGE' });
  task.memory.mprotect(0x10000n, 0n, 0);
  task.memory.madviseDontneed(0x10000n, 0n);
  await finish(os, task);
});

test('holes: munmap skips them, mprotect stops there, madvise goes on and tells', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 5n * PAGE, fill: pattern });
  task.memory.munmap(vaddr + PAGE, 3n * PAGE);
  task.memory.munmap(vaddr + PAGE, 3n * PAGE);
  const hole = { name: 'SIM_HOLE', errno: 'ENOMEM' };
  assert.throws(() => task.memory.madviseDontneed(vaddr, 5n * PAGE), hole);
  assert.equal(first(task.memory.peek(vaddr + 4n * PAGE, 8)), 0n);
  assert.throws(() => task.memory.mprotect(vaddr, 5n * PAGE, PROT_READ), hole);
  assert.throws(() => task.memory.poke(vaddr, new Uint8Array(1)), { errno: 'EFAULT' });
  task.memory.poke(vaddr + 4n * PAGE, new Uint8Array(1));
  assert.throws(() => task.memory.mprotect(vaddr + 3n * PAGE, 2n * PAGE, PROT_READ), hole);
  task.memory.poke(vaddr + 4n * PAGE, new Uint8Array(1));
  await finish(os, task);
});

test('locked and device memory cannot be discarded; what came before is', async () => {
  const { os, task } = start();
  const vaddr = task.memory.mmap({ size: 2n * PAGE, fill: pattern });
  task.mlock(vaddr + PAGE, PAGE);
  const refusal = { name: 'SIM_NOT_DISCARDABLE', errno: 'EINVAL' };
  assert.throws(() => task.memory.madviseDontneed(vaddr, 2n * PAGE), refusal);
  assert.equal(first(task.memory.peek(vaddr, 8)), 0n);
  assert.equal(first(task.memory.peek(vaddr + PAGE, 8)), (7n << 56n) | 0x1000n);
  const bar = task.memory.mmap({ kind: 'device', size: PAGE });
  assert.throws(() => task.memory.madviseDontneed(bar, PAGE), refusal);
  await finish(os, task);
});
