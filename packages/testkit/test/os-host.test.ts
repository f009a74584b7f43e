import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, PAGE_SIZE, type Pfn, vaddrFrame } from '@pinion/core';
import { POISON, SimulatedHost, SimulatedOs } from '@pinion/testkit';

/** A host with one piece of 8 frames, of which the first 4 are pages. */
const start = (poison = true): { host: SimulatedHost; pages: [Pfn, Pfn, Pfn, Pfn]; end: () => void } => {
  const host = new SimulatedHost({ poison });
  const piece = host.reserve(8, 'normal');
  const take = (index: number): Pfn => host.take(piece, index);
  const end = (): void => {
    host.abandon(piece);
    assert.deepEqual([host.livePages, host.pinnedPages], [0, 0]);
  };
  return { host, pages: [take(0), take(1), take(2), take(3)], end };
};

test('a page is there as long as a mapping or a pin is', () => {
  const { host, pages, end } = start();
  const [mapped, pinned, both, never] = pages;
  for (const pfn of [pinned, both]) host.pinPage(pfn);
  for (const pfn of [pinned, never]) host.letGo(pfn);
  assert.equal(host.livePages, 3);
  assert.throws(() => host.pageClass(never), { name: 'SIM_NO_SUCH_PAGE', errno: 'EFAULT' });
  assert.equal(host.pageClass(pinned), 'normal');
  host.unpinPage(pinned, false);
  assert.throws(() => host.pageClass(pinned), { name: 'SIM_NO_SUCH_PAGE' });
  host.letGo(mapped);
  host.letGo(both);
  assert.equal(host.livePages, 1);
  host.unpinPage(both, false);
  end();
});

test('pins are counted per page and in all; dirty marks the page', () => {
  const { host, pages, end } = start();
  const [page, other] = pages;
  host.pinPage(page);
  host.pinPage(page);
  host.pinPage(other);
  assert.deepEqual([host.pinsOf(page), host.pinsOf(other), host.pinnedPages], [2, 1, 3]);
  host.unpinPage(page, false);
  assert.deepEqual([host.pinsOf(page), host.pinnedPages, host.dirty(page)], [1, 2, false]);
  host.unpinPage(page, true);
  host.unpinPage(other, false);
  assert.deepEqual([host.dirty(page), host.dirty(other)], [true, false]);
  for (const pfn of pages) host.letGo(pfn);
  end();
});

test('an unpin too many is an error and changes nothing', () => {
  const { host, pages, end } = start();
  const [page] = pages;
  assert.throws(() => host.unpinPage(page, true), { name: 'SIM_NOT_PINNED', errno: 'EINVAL' });
  assert.deepEqual([host.pinsOf(page), host.pinnedPages, host.dirty(page)], [0, 0, false]);
  host.pinPage(page);
  host.unpinPage(page, false);
  assert.throws(() => host.unpinPage(page, false), { name: 'SIM_NOT_PINNED' });
  for (const pfn of pages) host.letGo(pfn);
  assert.throws(() => host.unpinPage(page, false), { name: 'SIM_NO_SUCH_PAGE' });
  end();
});

for (const frame of [0, 1, 2 ** 52 - 1, -1, 0.5, Number.NaN, 0x100000 + 512 + 4, 0x100000 + 1024]) {
  test(`frame ${frame} is no page`, () => {
    const { host, pages, end } = start();
    const pfn = asPfn(frame);
    const refusal = { name: 'SIM_NO_SUCH_PAGE', errno: 'EFAULT' };
    assert.throws(() => host.pageClass(pfn), refusal);
    assert.throws(() => host.unpinPage(pfn, false), refusal);
    assert.throws(() => host.pinPage(pfn), refusal);
    assert.throws(() => host.letGo(pfn), refusal);
    assert.throws(() => host.pinsOf(pfn), refusal);
    assert.throws(() => host.dirty(pfn), refusal);
    assert.throws(() => host.bytes(pfn, 1), RangeError);
    assert.equal(host.contiguous(pfn), false);
    for (const page of pages) host.letGo(page);
    end();
  });
}

test('bytes of several pages are one view, up to the first frame that is no page', () => {
  const { host, pages, end } = start();
  const [first, second] = pages;
  host.bytes(first, 4).fill(1);
  host.bytes(second, 1)[0] = 2;
  assert.equal(host.bytes(first, 2)[PAGE_SIZE], 2);
  assert.deepEqual(
    pages.map((pfn) => host.contiguous(pfn)),
    [true, true, true, false],
  );
  for (const count of [0, -1, 5, 9, Number.NaN]) assert.throws(() => host.bytes(first, count), RangeError);
  host.letGo(second);
  assert.equal(host.contiguous(first), false);
  assert.throws(() => host.bytes(first, 2), RangeError);
  for (const pfn of pages) if (pfn !== second) host.letGo(pfn);
  end();
});

test('a freed page shows poison to whoever kept a view, unless that is switched off', () => {
  for (const [poison, expected] of [
    [true, POISON],
    [false, 1],
  ] as const) {
    const { host, pages, end } = start(poison);
    const view = host.bytes(pages[0], 1);
    view.fill(1);
    for (const pfn of pages) host.letGo(pfn);
    assert.deepEqual(view, new Uint8Array(PAGE_SIZE).fill(expected));
    end();
  }
});

test('the zero page is reserved: no references, no counts', () => {
  const host = new SimulatedHost({ capacity: 0 });
  assert.equal(host.pageClass(host.zeroPage), 'reserved');
  host.unpinPage(host.zeroPage, true);
  assert.deepEqual(host.bytes(host.zeroPage, 1), new Uint8Array(PAGE_SIZE));
  assert.equal(host.contiguous(host.zeroPage), false);
  assert.deepEqual([host.livePages, host.pinnedPages], [0, 0]);
});

test('frame numbers are never used twice', async () => {
  const os = new SimulatedOs();
  const task = os.spawn();
  const seen = new Set<Pfn>();
  const vaddr = task.memory.mmap({ size: 4096n });
  for (let i = 0; i < 1100; i++) {
    const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
    task.memory.madviseDontneed(vaddr, 4096n);
    os.host.unpinPage(pfn, false);
    seen.add(pfn);
  }
  assert.equal(seen.size, 1100);
  await task.exit();
  assert.equal(os.leaks().livePages, 0);
});

test('buffers are let go with the last page in them, also when that is a pinned one', async () => {
  const os = new SimulatedOs();
  const empty = os.host.bufferBytes;
  const task = os.spawn();
  const vaddr = task.memory.mmap({ size: 0x400000n });
  assert.equal(os.host.bufferBytes, empty);
  const pfn = task.memory.pinPage(vaddrFrame(vaddr), true);
  task.memory.poke(vaddr + 0x200000n, new Uint8Array(1));
  assert.equal(os.host.bufferBytes, empty + 0x400000);
  await task.exit();
  assert.equal(os.host.bufferBytes, empty + 0x200000);
  os.host.unpinPage(pfn, true);
  assert.equal(os.host.bufferBytes, empty);
});

test('freed pages that somebody wrote to are named', () => {
  for (const keepFreed of [true, false]) {
    const os = new SimulatedOs({ keepFreed });
    const task = os.spawn();
    const vaddr = task.memory.mmap({ size: 2n * 4096n });
    const pages = [0n, 4096n].map((offset) => task.memory.pinPage(vaddrFrame(vaddr + offset), true));
    const views = pages.map((pfn) => os.host.bytes(pfn, 1));
    task.memory.munmap(vaddr, 2n * 4096n);
    for (const pfn of pages) os.host.unpinPage(pfn, true);
    assert.deepEqual(os.host.trespasses(), []);
    views[1]?.fill(0, 4095);
    assert.deepEqual(os.host.trespasses(), keepFreed ? [pages[1]] : []);
  }
});
