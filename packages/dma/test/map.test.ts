import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, type Clock } from '@pinion/core';
import { coherentBytes, DIRECTION, DMA_MAPPING_ERROR, type DmaDevice, quirksOf, SgList } from '@pinion/dma';
import { BASE, behindIommu, piece, withoutIommu } from './harness.js';

const { BIDIRECTIONAL: BOTH, TO_DEVICE: TO, FROM_DEVICE: FROM } = DIRECTION;
const LAST_PAGE = 0xffff_f000n;

test('behind an IOMMU an address is taken from the top, low bits kept, and given back', () => {
  const { dma, nic, ops, memory } = behindIommu();
  memory.bytes(asPfn(BASE + 1), 1).fill(0x11);
  const address = dma.mapPage(piece(1, 0x234, 16), TO);
  assert.equal(address, LAST_PAGE + 0x234n);
  const bytes = new Uint8Array(16);
  nic.read(address, bytes);
  assert.ok(bytes.every((byte) => byte === 0x11));
  assert.throws(() => nic.write(address, bytes), { name: 'IOMMU_FAULT' });
  assert.equal(dma.mappingError(address), false);
  dma.unmapPage({ dma: address, length: 16 }, TO);
  assert.throws(() => nic.read(address, bytes), { name: 'IOMMU_FAULT' });
  assert.deepEqual([ops.frames, ops.live.mappings], [0, 0]);
});

test('what a device only writes it cannot read, but with the quirk of VT-d', () => {
  for (const quirks of [[], ['write-implies-read']] as const) {
    const { raw, nic } = behindIommu({ quirks });
    const address = raw.mapPage(piece(0), FROM);
    nic.write(address, new Uint8Array(4));
    const read = () => nic.read(address, new Uint8Array(4));
    if (quirks.length === 0) assert.throws(read, { name: 'IOMMU_FAULT' });
    else read();
    raw.unmapPage({ dma: address, length: 4096 }, FROM);
  }
  assert.deepEqual([...quirksOf('linux-6.12')], ['write-implies-read', 'segment-limit-wraps']);
  assert.deepEqual([...quirksOf('linux-1.0')], []);
  // why: a name from a configuration file has no type
  assert.throws(() => behindIommu({ quirks: ['no-such' as never] }), { name: 'DMA_UNKNOWN_QUIRK' });
});

/** [name, entries as [page, offset, length], limits, lengths of the segments]. */
const MERGES: readonly (readonly [
  name: string,
  entries: readonly (readonly [number, number, number])[],
  limits: Partial<Pick<DmaDevice, 'maxSegment' | 'segmentBoundary'>>,
  lengths: readonly number[],
])[] = [
  [
    'three neighbours',
    [
      [0, 0, 4096],
      [1, 0, 4096],
      [2, 0, 4096],
    ],
    {},
    [12288],
  ],
  [
    'three pages backwards',
    [
      [2, 0, 4096],
      [1, 0, 4096],
      [0, 0, 4096],
    ],
    {},
    [12288],
  ],
  [
    'one page three times',
    [
      [5, 0, 4096],
      [5, 0, 4096],
      [5, 0, 4096],
    ],
    {},
    [12288],
  ],
  [
    'a head that begins inside its page',
    [
      [0, 1000, 3096],
      [1, 0, 4096],
    ],
    {},
    [7192],
  ],
  [
    'an entry that begins inside its page',
    [
      [0, 0, 4096],
      [1, 8, 4088],
      [2, 0, 4096],
    ],
    {},
    [4096, 8184],
  ],
  [
    'an entry that ends inside its page',
    [
      [0, 0, 4096],
      [1, 0, 100],
      [2, 0, 4096],
    ],
    {},
    [4196, 4096],
  ],
  [
    'pages up to the limit',
    [
      [0, 0, 4096],
      [1, 0, 4096],
      [2, 0, 4096],
    ],
    { maxSegment: 8192 },
    [8192, 4096],
  ],
  [
    'an entry beyond the limit stays whole and alone',
    [
      [0, 0, 65536],
      [20, 0, 4096],
    ],
    { maxSegment: 8192 },
    [65536, 4096],
  ],
  [
    'a boundary',
    [
      [0, 0, 4096],
      [1, 0, 4096],
      [2, 0, 4096],
    ],
    { segmentBoundary: 0x1fffn },
    [8192, 4096],
  ],
  [
    'a boundary inside an entry moves the entry',
    [
      [0, 0, 4096],
      [1, 0, 8192],
    ],
    { segmentBoundary: 0x1fffn },
    [4096, 8192],
  ],
];

for (const [name, entries, limits, lengths] of MERGES) {
  test(`merging: ${name}`, () => {
    const { dma, device, debug, ops, domain } = behindIommu();
    Object.assign(device, limits);
    const list = new SgList(entries.map(([page, offset, length]) => piece(page, offset, length)));
    assert.equal(dma.mapSg(list, BOTH), lengths.length);
    assert.deepEqual(
      list.segments.map(({ length }) => length),
      lengths,
    );
    for (const { dma: address } of list.segments)
      assert.ok(domain.lookup(asPfn(Number(address >> 12n)) as never) !== undefined); // why: one number, two brands
    dma.unmapSg(list, BOTH);
    assert.equal(ops.frames, 0);
    assert.equal(debug.counters.entries, 0);
  });
}

test('quirk segment-limit-wraps: what follows an entry beyond the limit joins it', () => {
  const { raw, device } = behindIommu({ quirks: ['segment-limit-wraps'] });
  device.maxSegment = 8192;
  const list = new SgList([piece(0, 0, 65536), piece(20), piece(30)]);
  assert.equal(raw.mapSg(list, BOTH), 1);
  raw.unmapSg(list, BOTH);
});

test('a list that cannot be mapped: 0 segments, the reason, and nothing mapped', () => {
  const { dma, iommu, ops, domain, debug } = behindIommu();
  for (const [nth, name, errno] of [
    [1, 'DMA_IOMMU_FULL', 'ENOMEM'],
    [2, 'DMA_IOMMU_FULL', 'ENOMEM'],
    [3, 'DMA_IOMMU_FULL', 'ENOMEM'],
  ] as const) {
    const list = new SgList([piece(0), piece(2), piece(4)]);
    iommu.failures.fail('map', nth, 'ENOMEM');
    assert.equal(dma.mapSg(list, BOTH), 0);
    assert.deepEqual([dma.lastFailure?.name, dma.lastFailure?.errno], [name, errno]);
    assert.deepEqual([list.segments, ops.frames, domain.stats.frames, debug.counters.entries], [[], 0, 0, 0]);
  }
  iommu.failures.fail('map', 2, 'EEXIST');
  const list = new SgList([piece(0), piece(2)]);
  assert.throws(() => dma.mapSgTable(list, BOTH), { name: 'DMA_IOMMU_REFUSED', errno: 'EINVAL' });
  const empty = new SgList([piece(0), piece(1, 0, 0)]);
  assert.throws(() => dma.mapSgTable(empty, BOTH), { name: 'DMA_EMPTY_ENTRY', errno: 'ENOMEM' });
  assert.deepEqual([ops.frames, domain.stats.frames], [0, 0]);
});

test('32-bit space runs out: a 32-bit device fails, a wider one goes above 4 GiB for good', () => {
  const { raw, device, iovas } = behindIommu();
  for (let megabytes = 0; megabytes < 4096; megabytes += 2) iovas.allocate(512, 0xfffff);
  assert.equal(raw.mapPage(piece(0, 0, 4096 * 512), BOTH), DMA_MAPPING_ERROR);
  assert.deepEqual([raw.lastFailure?.name, raw.lastFailure?.errno], ['DMA_NO_IOVA', 'ENOMEM']);
  raw.setMask((1n << 64n) - 1n);
  const address = raw.mapPage(piece(0, 0, 4096 * 512), BOTH);
  assert.ok(address > 0xffff_ffffn && !raw.mappingError(address));
  assert.equal(device.below4GFirst, false);
  raw.unmapPage({ dma: address, length: 4096 * 512 }, BOTH);
});

test('a space full of single pages that are given back takes a large mapping again: cached ranges are flushed', () => {
  const { raw, ops } = behindIommu({ mask: 0xff_ffffn });
  const held: bigint[] = [];
  for (;;) {
    const address = raw.mapPage(piece(0), BOTH);
    if (raw.mappingError(address)) break;
    held.push(address);
  }
  assert.equal(held.length, 4095); // 16 MiB but for address 0
  assert.equal(raw.mapPage(piece(0, 0, 1 << 20), BOTH), DMA_MAPPING_ERROR);
  for (const dma of held) raw.unmapPage({ dma, length: 4096 }, BOTH);
  const large = raw.mapPage(piece(0, 0, 1 << 20), BOTH);
  assert.equal(large, 0xf0_0000n);
  raw.unmapPage({ dma: large, length: 1 << 20 }, BOTH);
  assert.equal(ops.frames, 0);
});

test('lazily, an address is not used again before the flush, though nothing is mapped there', () => {
  let due: (() => void) | undefined;
  const clock: Clock = {
    now: () => 0,
    after: (_delay, action) => {
      due = action;
      return () => {
        due = undefined;
      };
    },
  };
  const { raw, nic, ops } = behindIommu({ lazy: clock });
  const first = raw.mapPage(piece(0), BOTH);
  raw.unmapPage({ dma: first, length: 4096 }, BOTH);
  assert.throws(() => nic.read(first, new Uint8Array(1)), { name: 'IOMMU_FAULT' });
  const second = raw.mapPage(piece(0), BOTH);
  assert.notEqual(second, first);
  due?.();
  const third = raw.mapPage(piece(0), BOTH);
  assert.equal(third, first);
  assert.throws(() => ops.close(), { name: 'DMA_STILL_MAPPED', errno: 'EBUSY' });
  for (const dma of [second, third]) raw.unmapPage({ dma, length: 4096 }, BOTH);
  ops.close();
  assert.equal(due, undefined);
});

test('coherent memory: zeroed, seen by both sides, and given back', () => {
  const { dma, nic, memory, ops } = behindIommu();
  memory.bytes(asPfn(BASE), 256).fill(0xff);
  const buffer = dma.allocCoherent(10000);
  assert.ok(buffer);
  const bytes = new Uint8Array(10000);
  nic.read(buffer.dma, bytes);
  assert.ok(bytes.every((byte) => byte === 0));
  coherentBytes(memory, buffer, { at: 4090, bytes: new Uint8Array(12).fill(3), write: true });
  nic.read(buffer.dma + 4090n, bytes.subarray(0, 12));
  assert.ok(bytes.subarray(0, 12).every((byte) => byte === 3));
  for (const at of [-1, 9989, 0.5]) {
    assert.throws(() => coherentBytes(memory, buffer, { at, bytes: new Uint8Array(12), write: true }), {
      name: 'DMA_OUTSIDE',
    });
  }
  dma.freeCoherent(buffer);
  assert.equal(dma.allocCoherent(257 * 4096), undefined); // more than there is
  assert.equal(dma.lastFailure?.name, 'DMA_NO_PAGES');
  assert.deepEqual([memory.used, ops.frames], [0, 0]);
});

test('coherent memory that cannot be mapped is given back', () => {
  const { dma, iommu, memory, ops } = behindIommu();
  for (const nth of [1, 2, 3]) {
    iommu.failures.fail('map', nth, 'ENOMEM');
    assert.equal(dma.allocCoherent(3 * 4096), undefined);
    assert.deepEqual([memory.used, ops.frames], [0, 0]);
  }
});

test('without an IOMMU the address is the memory, and nothing merges', () => {
  const { dma, ops } = withoutIommu();
  const address = dma.mapPage(piece(1, 7, 100), TO);
  assert.equal(address, BigInt(BASE + 1) * 4096n + 7n);
  dma.unmapPage({ dma: address, length: 100 }, TO);
  const list = new SgList([piece(0), piece(1), piece(2)]);
  assert.equal(dma.mapSg(list, BOTH), 3);
  dma.unmapSg(list, BOTH);
  assert.deepEqual(ops.live, { mappings: 0, bytes: 0 });
  assert.throws(() => dma.unmapSg(list, BOTH), { name: 'DMA_NOT_MAPPED' });
});

test('without an IOMMU masks below 24 bits are refused and change nothing', () => {
  const { dma, device } = withoutIommu();
  for (const bits of [0n, 1n, 23n]) {
    assert.throws(() => dma.setMask((1n << bits) - 1n), { name: 'DMA_BAD_MASK', errno: 'EIO' });
  }
  for (const mask of [-1n, 1n << 64n]) assert.throws(() => dma.setCoherentMask(mask), { name: 'DMA_BAD_MASK' });
  assert.deepEqual([device.mask, device.coherentMask], [0xffff_ffffn, 0xffff_ffffn]);
  dma.setMask(0xff_ffffn);
  assert.equal(device.mask, 0xff_ffffn);
});

test('memory out of reach fails without a bounce buffer and goes through it with one', () => {
  const high = { first: 0x100000 } as const; // at 4 GiB
  const page = { pfn: asPfn(0x100003), offset: 0, length: 4096 };
  const poor = withoutIommu(high);
  assert.equal(poor.dma.mapPage(page, BOTH), DMA_MAPPING_ERROR);
  assert.equal(poor.dma.lastFailure?.name, 'DMA_OUT_OF_REACH');
  const { dma, bounce, memory } = withoutIommu({ ...high, bounce: true });
  assert.ok(bounce);
  memory.bytes(page.pfn, 1).fill(1);
  const address = dma.mapPage(page, FROM);
  assert.equal(bounce.used, 2);
  const slot = memory.bytes(asPfn(Number(address >> 12n)), 1);
  assert.equal(slot[5], 1); // copied in, although the device only writes
  slot.fill(2, 0, 16);
  dma.syncForCpu({ dma: address + 8n, length: 4 }, FROM);
  assert.deepEqual([...memory.bytes(page.pfn, 1).subarray(6, 14)], [1, 1, 2, 2, 2, 2, 1, 1]);
  assert.throws(() => dma.syncForCpu({ dma: address + 4000n, length: 200 }, FROM), { name: 'DMA_OUTSIDE' });
  dma.unmapPage({ dma: address, length: 4096 }, FROM);
  assert.deepEqual([...memory.bytes(page.pfn, 1).subarray(14, 18)], [2, 2, 1, 1]);
  assert.equal(bounce.used, 0);
  assert.equal(dma.mapPage({ ...page, length: 262145 }, BOTH), DMA_MAPPING_ERROR);
  assert.equal(dma.lastFailure?.name, 'DMA_BOUNCE_FULL');
  dma.setMask(0xff_ffffn);
  dma.device.busLimit = 0x7f_ffffn; // the pool itself is at 8 MiB
  assert.equal(dma.mapPage(page, BOTH), DMA_MAPPING_ERROR);
  assert.equal(dma.lastFailure?.name, 'DMA_BOUNCE_OUT_OF_REACH');
  assert.equal(bounce.used, 0);
});

test('a list with one piece too large for bouncing leaves no slot taken', () => {
  const { dma, bounce, ops } = withoutIommu({ first: 0x100000, bounce: true });
  const at = (page: number, length: number) => ({ pfn: asPfn(0x100000 + page), offset: 0, length });
  const list = new SgList([at(0, 4096), at(1, 8192), at(8, 300000)]);
  assert.throws(() => dma.mapSgTable(list, BOTH), { name: 'DMA_BOUNCE_FULL', errno: 'EIO' });
  assert.deepEqual([bounce?.used, ops.live.mappings], [0, 0]);
});

test('options of a bounce buffer that make no sense are refused', () => {
  assert.throws(() => withoutIommu({ force: true }), { name: 'DMA_BAD_OPTION' });
  const { bounce } = withoutIommu({ bounce: true });
  assert.ok(bounce);
  for (const slot of [-1, 512, 0.5])
    assert.throws(
      () => {
        bounce.next = slot;
      },
      { name: 'DMA_BAD_OPTION' },
    );
});

const WRONG: readonly (readonly [
  what: string,
  act: (world: ReturnType<typeof behindIommu>) => unknown,
  name: string,
])[] = [
  ['a direction that is none', ({ raw }) => raw.mapPage(piece(0), 3 as never), 'DMA_BAD_DIRECTION'], // why: from outside
  [
    'a list with a direction that is none',
    ({ raw }) => raw.mapSg(new SgList([piece(0)]), -1 as never),
    'DMA_BAD_DIRECTION',
  ], // why: from outside
  ['no length', ({ raw }) => raw.mapPage(piece(0, 0, 0), BOTH), 'DMA_BAD_LENGTH'],
  ['half a byte', ({ raw }) => raw.mapPage(piece(0, 0, 0.5), BOTH), 'DMA_BAD_LENGTH'],
  ['an offset below 0', ({ raw }) => raw.mapPage(piece(0, -1, 1), BOTH), 'DMA_BAD_LENGTH'],
  ['an entry with a length below 0', () => new SgList([piece(0, 0, -1)]), 'DMA_BAD_LENGTH'],
  ['no entries', ({ raw }) => raw.mapSg(new SgList([]), BOTH), 'DMA_BAD_NENTS'],
  ['more entries than there are', ({ raw }) => raw.mapSg(new SgList([piece(0)]), BOTH, { nents: 2 }), 'DMA_BAD_NENTS'],
  ['an address beyond 64 bits', ({ raw }) => raw.unmapPage({ dma: 1n << 64n, length: 1 }, BOTH), 'DMA_BAD_ADDRESS'],
  ['an address below 0', ({ raw }) => raw.mapResource({ address: -1n, length: 1 }, BOTH), 'DMA_BAD_ADDRESS'],
  [
    'a CPU address without a CPU space',
    ({ raw }) => raw.mapSingle({ address: 1n, length: 1 }, BOTH),
    'DMA_NO_CPU_SPACE',
  ],
  ['unmap of a list that is not mapped', ({ raw }) => raw.unmapSg(new SgList([piece(0)]), BOTH), 'DMA_NOT_MAPPED'],
  [
    'unmap of a part',
    ({ raw }) => raw.unmapPage({ dma: raw.mapPage(piece(0, 0, 8192), BOTH), length: 4096 }, BOTH),
    'DMA_WRONG_SIZE',
  ],
  [
    'unmap with fewer entries than segments',
    ({ raw }) => {
      const list = new SgList([piece(0, 0, 100), piece(2, 0, 100)]);
      assert.equal(raw.mapSg(list, BOTH), 2);
      raw.unmapSg(list, BOTH, { nents: 1 });
    },
    'DMA_WRONG_SIZE',
  ],
];

for (const [what, act, name] of WRONG) {
  test(`refused: ${what}`, () => {
    const world = behindIommu();
    assert.throws(() => act(world), { name });
  });
}
