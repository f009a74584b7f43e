import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, vaddrFrame } from '@pinion/core';
import { PowerPlatform, type TceTableGroup } from '@pinion/spapr-tce';
import { SimulatedOs } from '@pinion/testkit';

const GIB = 1n << 30n;
const SECOND = 0x800_0000_0000_0000n;
const DEFAULT = { pageShift: 12, size: GIB, levels: 1 };
const BIG_PAGES = { pageShift: 16, size: GIB, levels: 1 };

function pseries(about: Parameters<PowerPlatform['createGroup']>[0] = {}): TceTableGroup {
  const group = new PowerPlatform({ memory: new SimulatedOs().host, kind: 'pseries' }).createGroup(about);
  group.bridge.takeOwnership();
  return group.bridge;
}

test('pseries: the default window comes back in slot 0, as small as asked; the other one stands high', () => {
  const bridge = pseries();
  assert.equal(bridge.createTable(0, { ...DEFAULT, size: 0x10_0000n }).start, 0n);
  assert.equal(bridge.createTable(1, BIG_PAGES).start, SECOND);
  bridge.unsetWindow(0);
  assert.throws(() => bridge.createTable(0, DEFAULT), { name: 'TCE_DDW_PRESENT', errno: 'EPERM' });
  assert.throws(() => bridge.createTable(0, BIG_PAGES), { name: 'TCE_DDW_PRESENT', errno: 'EPERM' });
  bridge.unsetWindow(1);
  assert.equal(bridge.createTable(0, DEFAULT).start, 0n);
});

test('pseries: what does not fit the default window is a dynamic one, of which there is one', () => {
  const bridge = pseries();
  assert.equal(bridge.createTable(0, { ...DEFAULT, size: 2n * GIB }).start, SECOND);
  assert.throws(() => bridge.createTable(1, DEFAULT), { name: 'TCE_DDW_FAILED', errno: 'ENODEV' });
  bridge.unsetWindow(0);
  assert.throws(() => bridge.createTable(0, DEFAULT), { name: 'TCE_DDW_FAILED', errno: 'ENODEV' }, 'for good');
});

test('pseries: a refusal before the firmware is asked leaves nothing behind', () => {
  const bridge = pseries();
  for (const bad of [
    { ...DEFAULT, size: 3n },
    { ...DEFAULT, size: 0n },
    { ...DEFAULT, levels: 2 },
    { ...DEFAULT, size: 1n << 60n },
    { ...BIG_PAGES, size: 4096n },
  ]) {
    assert.throws(() => bridge.createTable(1, bad), { name: 'TCE_BAD_WINDOW', errno: 'EINVAL' });
  }
  assert.equal(bridge.createTable(1, BIG_PAGES).start, SECOND);
});

test('pseries: a bridge without dynamic windows cannot even make its default one', () => {
  const bridge = pseries({ dynamic: false });
  assert.throws(() => bridge.createTable(0, DEFAULT), { name: 'TCE_NO_DDW', errno: 'EINVAL' });
  assert.throws(() => bridge.createTable(0, DEFAULT), { name: 'TCE_DDW_FAILED', errno: 'ENODEV' });
});

test('a table belongs to one bridge on pseries, to the machine on powernv', () => {
  for (const [kind, errno] of [
    ['pseries', 'EPERM'],
    ['powernv', undefined],
  ] as const) {
    const platform = new PowerPlatform({ memory: new SimulatedOs().host, kind });
    const [one, two] = [platform.createGroup().bridge, platform.createGroup().bridge];
    const table = one.createTable(0, DEFAULT);
    one.setWindow(0, table);
    const join = () => two.setWindow(0, table);
    if (errno === undefined) join();
    else assert.throws(join, { name: 'TCE_FOREIGN_TABLE', errno });
  }
  const { bridge } = new PowerPlatform({ memory: new SimulatedOs().host }).createGroup();
  const alien = { start: 0n, pageShift: 12, entries: 1, set() {}, clear() {} };
  assert.throws(() => bridge.setWindow(0, alien), { name: 'TCE_FOREIGN_TABLE', errno: 'EPERM' });
});

test('a table refuses entries that it does not have', () => {
  const table = pseries().createTable(0, { ...DEFAULT, size: 0x2000n });
  table.set(1, asPfn(5), 3);
  for (const index of [-1, 2])
    assert.throws(() => table.set(index, asPfn(5), 3), { name: 'TCE_FIRMWARE', errno: 'EINTR' });
  table.clear(7);
});

test('DMA goes page by page; what cannot be reached reads as zeros and is not written', () => {
  const os = new SimulatedOs();
  const group = new PowerPlatform({ memory: os.host }).createGroup();
  const task = os.spawn({ name: 'host' });
  const vaddr = task.memory.mmap({ size: 0x3000n, contiguous: true, kind: 'shared' });
  const pfns = [0, 1, 2].map((page) => task.memory.pinPage(vaddrOf(vaddr, page), true));
  const table = group.bridge.createTable(0, DEFAULT);
  group.bridge.setWindow(0, table);
  const [first, , third] = pfns;
  assert.ok(first !== undefined && third !== undefined);
  table.set(0, first, 3);
  table.set(2, third, 1);
  assert.equal(group.dmaWrite(0xffen, Uint8Array.of(1, 2, 3, 4)), false);
  assert.deepEqual([...task.memory.peek(vaddr + 0xffen, 4)], [1, 2, 0, 0]);
  task.memory.poke(vaddr + 0x2000n, Uint8Array.of(9));
  const bytes = new Uint8Array(3).fill(7);
  assert.equal(group.dmaRead(0x1fffn, bytes), false);
  assert.deepEqual([...bytes], [0, 9, 0]);
  assert.equal(group.dmaRead(0x2000n, bytes), true);
  assert.equal(group.dmaWrite(0x2000n, Uint8Array.of(1)), false);
  group.bridge.unsetWindow(0);
  assert.equal(group.dmaRead(0n, bytes), false);
  for (const pfn of pfns) os.host.unpinPage(pfn, false);
});

const vaddrOf = (vaddr: bigint, page: number) => vaddrFrame(vaddr + BigInt(page) * 4096n);

test('a group has one owner, and no paging domains', () => {
  const group = new PowerPlatform({ memory: new SimulatedOs().host }).createGroup({ id: 9 });
  const [one, two] = [{}, {}];
  group.claimOwner(one);
  group.claimOwner(one);
  assert.throws(() => group.claimOwner(two), { name: 'TCE_GROUP_OWNED', errno: 'EPERM' });
  group.releaseOwner(two);
  assert.equal(group.ownerClaimed, true);
  group.releaseOwner(one);
  assert.equal(group.ownerClaimed, false);
  assert.throws(() => group.allocDomain(), { name: 'TCE_NO_DOMAIN', errno: 'ENODEV' });
  assert.throws(() => group.attach(), { name: 'TCE_NO_DOMAIN', errno: 'ENODEV' });
});
