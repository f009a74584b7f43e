import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, type Log, PinionError } from '@pinion/core';
import {
  bucketOf,
  type CpuSpace,
  DeviceDma,
  DIRECTION,
  DirectDma,
  DMA_MAPPING_ERROR,
  type Dma,
  DmaDebug,
  DmaDevice,
  SgList,
} from '@pinion/dma';
import { BASE, behindIommu, names, piece } from './harness.js';

const { BIDIRECTIONAL: BOTH, TO_DEVICE: TO, FROM_DEVICE: FROM } = DIRECTION;

/** A CPU space of four kinds: addresses 0x1.., 0x2.., 0x3.., 0x4.. */
const cpu: CpuSpace = {
  resolve: (address) => {
    const area = (['linear', 'stack', 'text', 'vmalloc'] as const)[Number(address >> 28n) - 1];
    return area === undefined
      ? undefined
      : { area, pfn: asPfn(BASE + Number((address >> 12n) & 0xffn)), offset: Number(address & 0xfffn) };
  },
  areaOf: (pfn) => (pfn === BASE + 0x20 ? 'stack' : pfn === BASE + 0x30 ? 'text' : 'linear'),
};

/** Maps a page and tests the result, as a driver should. */
function mapped(dma: Dma, page = 0, direction: 0 | 1 | 2 = BOTH, length = 4096): bigint {
  const address = dma.mapPage(piece(page, 0, length), direction);
  assert.equal(dma.mappingError(address), false);
  return address;
}

/** A call that our own API refuses after the debugger reported it. */
function refused(call: () => void, name: string): void {
  assert.throws(call, (error) => error instanceof PinionError && error.name === name);
}

const threePages = () => new SgList([piece(0), piece(1), piece(2)]);

/** [what is wrong, how it is done, its report]. */
const MISUSES: readonly (readonly [
  what: string,
  act: (dma: Dma, raw: DeviceDma) => void,
  report: readonly string[],
])[] = [
  [
    'unmap of a failed map',
    (dma) => refused(() => dma.unmapPage({ dma: DMA_MAPPING_ERROR, length: 4096 }, BOTH), 'DMA_NOT_MAPPED'),
    ['FREE_ERROR_ADDRESS'],
  ],
  [
    'unmap of what was never mapped',
    (dma) => refused(() => dma.unmapPage({ dma: 0x5000n, length: 4096 }, BOTH), 'DMA_NOT_MAPPED'),
    ['FREE_UNKNOWN'],
  ],
  [
    'unmap twice',
    (dma) => {
      const address = mapped(dma);
      dma.unmapPage({ dma: address, length: 4096 }, BOTH);
      refused(() => dma.unmapPage({ dma: address, length: 4096 }, BOTH), 'DMA_NOT_MAPPED');
    },
    ['FREE_UNKNOWN'],
  ],
  ['another size', (dma) => dma.unmapPage({ dma: mapped(dma, 0, BOTH, 4096), length: 4000 }, BOTH), ['FREE_SIZE']],
  [
    'list unmapped as a page',
    (dma) => {
      const list = new SgList([piece(0)]);
      assert.equal(dma.mapSg(list, BOTH), 1);
      dma.unmapPage({ dma: list.segments[0]?.dma ?? 0n, length: 4096 }, BOTH);
    },
    ['FREE_FUNCTION'],
  ],
  [
    'coherent memory with another page',
    (dma) => {
      const buffer = dma.allocCoherent(4096);
      assert.ok(buffer);
      const other = dma.allocCoherent(4096);
      assert.ok(other);
      dma.freeCoherent({ ...buffer, pfns: other.pfns });
      dma.freeCoherent({ ...other, pfns: buffer.pfns });
    },
    ['FREE_CPU_ADDRESS', 'FREE_CPU_ADDRESS'],
  ],
  [
    'list unmapped with the mapped count',
    (dma) => {
      const list = threePages();
      const count = dma.mapSg(list, BOTH);
      assert.equal(count, 1); // three neighbours are one segment
      dma.unmapSg(list, BOTH, { nents: count });
    },
    ['FREE_NENTS'],
  ],
  ['another direction', (dma) => dma.unmapPage({ dma: mapped(dma, 0, TO), length: 4096 }, FROM), ['FREE_DIRECTION']],
  [
    'result never tested',
    (dma) => dma.unmapPage({ dma: dma.mapPage(piece(0), BOTH), length: 4096 }, BOTH),
    ['MAP_UNCHECKED'],
  ],
  ['stack by page', (dma) => dma.unmapPage({ dma: mapped(dma, 0x20), length: 4096 }, BOTH), ['MAP_STACK']],
  ['kernel text by page', (dma) => dma.unmapPage({ dma: mapped(dma, 0x30), length: 4096 }, BOTH), ['MAP_TEXT']],
  [
    'vmalloc memory',
    (dma) => assert.equal(dma.mapSingle({ address: 0x4000_0000n, length: 16 }, BOTH), DMA_MAPPING_ERROR),
    ['MAP_VMALLOC'],
  ],
  [
    'an address without memory',
    (dma) => assert.equal(dma.mapSingle({ address: 0x9000_0000n, length: 16 }, BOTH), DMA_MAPPING_ERROR),
    ['MAP_INVALID'],
  ],
  ['sync of what was never mapped', (dma) => dma.syncForCpu({ dma: 0x5000n, length: 16 }, BOTH), ['SYNC_UNKNOWN']],
  [
    'sync past the end',
    (dma) => {
      const address = mapped(dma);
      dma.syncForCpu({ dma: address + 4000n, length: 200 }, BOTH);
      dma.unmapPage({ dma: address, length: 4096 }, BOTH);
    },
    ['SYNC_OUTSIDE'],
  ],
  [
    'sync to the CPU with another direction',
    (dma) => {
      const address = mapped(dma, 0, FROM);
      dma.syncForCpu({ dma: address, length: 16 }, TO);
      dma.unmapPage({ dma: address, length: 4096 }, FROM);
    },
    ['SYNC_DIRECTION'],
  ],
  [
    'sync for the CPU of what the device reads',
    (dma) => {
      const address = mapped(dma, 0, TO);
      dma.syncForCpu({ dma: address, length: 16 }, FROM);
      dma.unmapPage({ dma: address, length: 4096 }, TO);
    },
    ['SYNC_READ_ONLY'],
  ],
  [
    'sync for the device of what it writes',
    (dma) => {
      const address = mapped(dma, 0, FROM);
      dma.syncForDevice({ dma: address, length: 16 }, TO);
      dma.unmapPage({ dma: address, length: 4096 }, FROM);
    },
    ['SYNC_WRITE_ONLY'],
  ],
  [
    'list synced with another count',
    (dma) => {
      const list = threePages();
      dma.mapSg(list, BOTH);
      dma.syncSgForCpu(list, BOTH, 1);
      dma.unmapSg(list, BOTH);
    },
    ['SYNC_NENTS'],
  ],
  [
    'segment longer than claimed',
    (dma) => {
      dma.device.maxSegment = 8192;
      const list = new SgList([piece(0, 0, 16384)]);
      dma.mapSg(list, BOTH);
      dma.unmapSg(list, BOTH);
    },
    ['SEGMENT_LONG'],
  ],
  [
    'segment across a boundary',
    (dma) => {
      dma.device.segmentBoundary = 0x1fffn;
      const list = new SgList([piece(0, 0, 16384)]);
      dma.mapSg(list, BOTH);
      dma.unmapSg(list, BOTH);
    },
    ['SEGMENT_BOUNDARY'],
  ],
  [
    'the same memory twice',
    (dma) => {
      const [one, two] = [mapped(dma), mapped(dma)];
      dma.unmapPage({ dma: one, length: 4096 }, BOTH);
      dma.unmapPage({ dma: two, length: 4096 }, BOTH);
    },
    ['OVERLAP'],
  ],
];

for (const [what, act, expected] of MISUSES) {
  test(`reported: ${what}`, () => {
    const world = behindIommu({ cpu });
    act(world.dma, world.raw);
    assert.deepEqual(names(world.debug), expected);
    assert.equal(world.debug.counters.errors, expected.length);
  });
}

test('what is right is not reported', () => {
  const world = behindIommu({ cpu });
  const { dma } = world;
  const single = dma.mapSingle({ address: 0x1000_1010n, length: 100 }, TO);
  assert.equal(dma.mappingError(single), false);
  dma.unmapSingle({ dma: single, length: 100 }, TO);
  const from = mapped(dma, 3, FROM);
  dma.syncForCpu({ dma: from + 16n, length: 64 }, FROM);
  dma.syncForDevice({ dma: from, length: 4096 }, FROM);
  dma.unmapPage({ dma: from, length: 4096 }, FROM);
  const list = threePages();
  dma.mapSgTable(list, BOTH);
  dma.syncSgForCpu(list, BOTH);
  dma.syncSgForDevice(list, BOTH);
  dma.unmapSg(list, BOTH);
  const buffer = dma.allocCoherent(10000);
  assert.ok(buffer);
  dma.freeCoherent(buffer);
  const pages = dma.allocPages(8192, FROM);
  assert.ok(pages);
  dma.freePages(pages, FROM);
  const bar = dma.mapResource({ address: 0xfebd_0000n, length: 8192 }, BOTH);
  assert.equal(dma.mappingError(bar), false);
  dma.unmapResource({ dma: bar, length: 8192 }, BOTH);
  world.debug.assertClean();
  assert.equal(world.debug.release(world.device), 0);
  assert.deepEqual([world.debug.counters.entries, world.debug.counters.cachelines, world.ops.frames], [0, 0, 0]);
  assert.equal(world.memory.used, 0);
});

test('a device that only reads may be given the same memory twice', () => {
  const { dma, debug } = behindIommu();
  const [one, two] = [mapped(dma, 0, TO), mapped(dma, 0, TO)];
  dma.unmapPage({ dma: one, length: 4096 }, TO);
  dma.unmapPage({ dma: two, length: 4096 }, TO);
  debug.assertClean();
});

test('the ninth mapping of a cacheline is one too many; skipped syncs forgive overlaps but not that', () => {
  const { dma, debug } = behindIommu();
  for (let count = 0; count < 8; count += 1) dma.mapPage(piece(0), BOTH, 0x20);
  assert.deepEqual(names(debug), []);
  dma.mapPage(piece(0), BOTH, 0x20);
  assert.deepEqual(names(debug), ['OVERLAP_LIMIT']);
});

test('a driver that leaves mappings behind is reported once, with their number', () => {
  const { dma, debug, device } = behindIommu();
  mapped(dma, 0);
  mapped(dma, 1);
  assert.equal(debug.release(device), 2);
  assert.deepEqual(names(debug), ['PENDING']);
  assert.match(debug.reports[0]?.message ?? '', /e1000 nic: .* 2 mappings/);
  assert.throws(() => debug.assertClean(), /DMADEBUG_PENDING|2 mappings/);
});

test('an empty pool switches the debugger off, as in older kernels; newer ones grow', () => {
  const old = new DmaDebug({ entries: 2, most: 2 });
  const { raw, device } = behindIommu();
  const dma = old.watch(raw);
  for (const page of [0, 1, 2, 3]) dma.mapPage(piece(page), BOTH);
  assert.deepEqual(names(old), ['OUT_OF_ENTRIES']);
  assert.equal(old.disabled, true);
  assert.equal(old.release(device), 0); // it sees nothing any more
  const grown = new DmaDebug({ entries: 2 });
  const again = grown.watch(behindIommu().raw);
  for (const page of [0, 1, 2, 3]) again.mapPage(piece(page), BOTH);
  assert.deepEqual([grown.disabled, grown.counters.total, grown.counters.free], [false, 34, 30]);
  assert.equal(grown.counters.minFree, 0);
});

test('only the first report is shown, and only of the driver that is looked at', () => {
  const shown: string[] = [];
  const log: Log = { info: () => {}, warn: (message) => shown.push(message) };
  const debug = new DmaDebug({ log });
  const device = new DmaDevice('gpu', 'i915');
  const report = new PinionError('DMADEBUG_OVERLAP', 'EEXIST', 'x');
  debug.report(device, report);
  debug.report(device, report);
  assert.equal(shown.length, 1);
  debug.showAll = true;
  debug.driverFilter = 'e1000';
  debug.report(device, report);
  assert.equal(shown.length, 1);
  debug.driverFilter = 'i915';
  debug.report(device, report);
  assert.deepEqual([shown.length, debug.counters.errors], [2, 4]);
});

test('of several mappings at one address the one that agrees is meant; if none agrees, none is', () => {
  const device = new DmaDevice('nic');
  const { memory, ops } = identity();
  const debug = new DmaDebug();
  const dma = debug.watch(new DeviceDma({ device, ops }));
  const [one, two] = [dma.mapPage(piece(0), TO), dma.mapPage({ ...piece(0), length: 100 }, TO)];
  assert.equal(one, two);
  assert.equal(dma.mappingError(one), false); // tests the first
  assert.equal(dma.mappingError(two), false); // and the second
  dma.unmapPage({ dma: one, length: 50 }, TO);
  assert.deepEqual(names(debug), ['FREE_UNKNOWN']);
  dma.unmapPage({ dma: two, length: 100 }, TO);
  assert.equal(debug.counters.entries, 1);
  assert.equal(memory.used, 0);
});

test('memory that one device never gave back is reported when another driver maps it', () => {
  const { raw, debug, dma } = behindIommu();
  mapped(dma, 7);
  const other = debug.watch(new DeviceDma({ device: new DmaDevice('disk', 'ahci'), ops: identity().ops }));
  const address = other.mapPage({ ...piece(7) }, FROM);
  assert.equal(other.mappingError(address), false);
  assert.deepEqual(names(debug), ['OVERLAP']);
  assert.match(debug.reports[0]?.message ?? '', /^ahci disk/);
  assert.equal(raw.device.driver, 'e1000');
});

test('the bucket of an address is its number of 8 KiB, modulo 16384', () => {
  assert.equal(bucketOf(0x12345678n), 0x11a2);
  assert.equal(bucketOf(0n), 0);
  assert.equal(bucketOf((1n << 64n) - 1n), 16383);
});

test('a mapping is found from any byte of it, also buckets away', () => {
  const { dma, debug } = behindIommu();
  const list = new SgList([piece(0, 0, 65536)]);
  dma.mapSg(list, BOTH);
  const start = list.segments[0]?.dma ?? 0n;
  for (const at of [0n, 8191n, 8192n, 40000n, 65520n]) dma.syncForCpu({ dma: start + at, length: 16 }, BOTH);
  debug.assertClean();
  dma.unmapSg(list, BOTH);
});

test('with stacks the debugger remembers where a mapping was made', () => {
  const debug = new DmaDebug({ stacks: true });
  const dma = debug.watch(behindIommu().raw);
  dma.mapPage(piece(0), BOTH);
  assert.match(debug.dump()[0]?.stack ?? '', /dma-debug\.test/);
});

test('options that make no sense are refused', () => {
  for (const options of [{ entries: 0 }, { entries: 1.5 }, { entries: 10, most: 9 }]) {
    assert.throws(() => new DmaDebug(options), { name: 'DMA_BAD_OPTION' });
  }
});

/** No IOMMU over the same frames. */
function identity() {
  const { memory } = behindIommu();
  return { memory, ops: new DirectDma({ memory, lastFrame: BASE + 255 }) };
}
