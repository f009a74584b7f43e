import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, frameRange } from '@pinion/core';
import {
  BCS,
  displayOwner,
  KvmBackend,
  type LeftoverReport,
  miStoreDword,
  NO_OWNER,
  SIZE_2M,
  SIZE_4K,
  xyColorBlt,
  xySrcCopyBlt,
} from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions, POISON } from './fake-guest.js';

const PAGE = 4096;
/** Guest frames 0x100..0x10f are mapped at the start of the high slice; the ring is guest frame 0. */
const FIRST = 0x100;
const COUNT = 16;
const COLOR = 0x11223344;

function start(options: FakeGuestOptions = {}): FakeGuest {
  const guest = new FakeGuest({ pages: 2048, ...options });
  guest.mapPages(guest.high.base, FIRST, COUNT);
  guest.startRing(guest.low.base, 0);
  return guest;
}

const entries = (guest: FakeGuest): number[] =>
  Array.from({ length: COUNT }, (_, at) => at).filter(
    (at) => guest.device.ggtt.hostEntry(guest.high.base / PAGE + at)?.dma !== undefined,
  );
const all = Array.from({ length: COUNT }, (_, at) => at);
const range = (first: number, count: number) => frameRange(asIovaFrame(first), count);

describe('a mapping that goes away', () => {
  const table: readonly (readonly [what: string, first: number, count: number, left: readonly number[]])[] = [
    ['holding just the first page', FIRST, 1, all.slice(1)],
    ['holding just a middle page', FIRST + 7, 1, all.filter((at) => at !== 7)],
    ['holding just the last page', FIRST + 15, 1, all.slice(0, 15)],
    ['ending with the first page', FIRST - 64, 65, all.slice(1)],
    ['beginning with the last page', FIRST + 15, 64, all.slice(0, 15)],
    ['around all of them', FIRST - 4, COUNT + 8, []],
    ['exactly all of them', FIRST, COUNT, []],
    ['ending before them', FIRST - 16, 16, all],
    ['beginning behind them', FIRST + 16, 16, all],
    ['at the end of the address space', 2 ** 52 - 16, 16, all],
  ];
  for (const [what, first, count, left] of table) {
    test(`${what} takes its pages and no other`, () => {
      const guest = start();
      guest.device.dmaUnmap(range(first, count));
      assert.deepEqual(entries(guest), left);
      for (const at of all) assert.equal(guest.pins.count(asIovaFrame(FIRST + at)), left.includes(at) ? 1 : 0);
      assert.equal(guest.readEntry(guest.high.base), (BigInt(FIRST) << 12n) | 3n);
      guest.finish();
    });
  }

  test('takes all there is', () => {
    const guest = start();
    guest.device.dmaUnmap(range(0, 2 ** 52));
    assert.deepEqual([guest.pins.pages, guest.device.stats.tableEntries], [0, 0]);
    guest.finish();
  });

  test('is idempotent, and harmless before open and after close', () => {
    const guest = start();
    guest.unmap(FIRST, COUNT);
    guest.device.dmaUnmap(range(FIRST, COUNT));
    guest.finish();
    guest.device.dmaUnmap(range(0, 2 ** 52));
    assert.equal(guest.pins.pages, 0);
  });

  test('takes every entry on a page and every reference', () => {
    const guest = start();
    for (let page = 0; page < 100; page++) guest.mapPages(guest.low.base + (20 + page) * PAGE, FIRST, 1);
    const { backend } = guest.device;
    backend.dmaPinGuestPage?.(guest.pins.hostFrame(FIRST));
    assert.ok(backend instanceof KvmBackend);
    assert.equal(backend.cache?.refs(asGfn(FIRST)), 102);
    guest.unmap(FIRST, 1);
    assert.deepEqual([guest.device.stats.tableEntries, guest.pins.count(asIovaFrame(FIRST))], [16, 0]);
    guest.finish();
  });

  test('a table rewritten afterwards leads to the scratch page, and to the page once it is mapped again', () => {
    const guest = start();
    guest.device.dmaUnmap(range(FIRST, 1));
    assert.deepEqual(guest.device.ggtt.hostEntry(guest.high.base / PAGE), { present: true, dma: undefined });
    guest.mapPages(guest.high.base, FIRST, 1);
    assert.equal(guest.device.ggtt.hostEntry(guest.high.base / PAGE)?.dma, guest.pins.hostFrame(FIRST));
    guest.unmap(FIRST, 1);
    guest.mapPages(guest.high.base, FIRST, 1);
    assert.deepEqual(guest.device.ggtt.hostEntry(guest.high.base / PAGE), { present: true, dma: undefined });
    guest.finish();
  });
});

describe('a 2 MiB mapping that starts below the range', () => {
  const straddle = (options: FakeGuestOptions) => {
    const guest = start(options);
    guest.device.backend.dmaMapGuestPage(asGfn(0x200), SIZE_2M);
    guest.device.dmaUnmap(range(0x201, 1));
    return guest;
  };

  test('is released as a whole', () => {
    const guest = straddle({});
    assert.equal(guest.pins.count(asIovaFrame(0x201)), 0);
    assert.equal(guest.pins.count(asIovaFrame(0x200)), 0);
    guest.finish();
  });

  test('quirk straddle-missed: is missed, and only that', () => {
    const guest = straddle({ quirks: ['straddle-missed'] });
    assert.equal(guest.pins.count(asIovaFrame(0x201)), 1);
    guest.unmap(FIRST, COUNT);
    assert.deepEqual(entries(guest), []);
    guest.device.dmaUnmap(range(0x200, 1));
    assert.equal(guest.pins.count(asIovaFrame(0x201)), 0);
    guest.finish();
  });
});

describe('during a running job', () => {
  /** A copy of a 6 MB surface, long enough for several slices, whose pages are the same few guest pages over and over. */
  const big = (guest: FakeGuest, pages: number) => {
    for (let page = 0; page < pages; page++) {
      guest.mapPages(guest.high.base + (100 + page) * PAGE, FIRST + (page % COUNT), 1);
    }
    return { address: guest.high.base + 100 * PAGE, pitch: PAGE };
  };
  const rect = { x1: 0, y1: 0, x2: 1024, y2: 1500 };

  test('a fill stops touching the pages at once and ends with faults', () => {
    const guest = start();
    guest.submit(xyColorBlt({ target: big(guest, 1500), rect, color: COLOR }));
    guest.firstSlice();
    assert.equal(guest.device.engine, 'running');
    assert.equal(guest.peek(FIRST + 3, 0), COLOR);
    const given = guest.pins.hostPages(range(FIRST, COUNT));
    guest.unmap(FIRST, COUNT);
    guest.clock.drain();
    assert.ok(given.every((page) => page.every((byte) => byte === POISON)));
    assert.equal(guest.device.engine, 'idle');
    assert.ok(guest.device.stats.faults > 0);
    assert.equal(guest.read32(BCS.HEAD), guest.read32(BCS.TAIL));
    guest.finish();
  });

  test('a copy reads zeros instead of what the pages have become', () => {
    const guest = start();
    const target = { address: guest.high.base + 3000 * PAGE, pitch: PAGE };
    for (let page = 0; page < 1500; page++) guest.mapPages(target.address + page * PAGE, 0x200 + (page % 1024), 1);
    guest.submit(xySrcCopyBlt({ target, rect, source: big(guest, 1500) }));
    guest.firstSlice();
    assert.equal(guest.device.engine, 'running');
    guest.unmap(FIRST, COUNT);
    guest.clock.drain();
    for (let gfn = 0x200; gfn < 0x600; gfn++) assert.ok(!guest.pins.page(gfn).includes(POISON));
    guest.finish();
  });

  test('of a range it does not use changes nothing', () => {
    const guest = start();
    guest.submit(xyColorBlt({ target: big(guest, 1500), rect, color: COLOR }));
    guest.firstSlice();
    guest.unmap(0x700, 16);
    guest.clock.drain();
    for (const at of all) assert.equal(guest.peek(FIRST + at, PAGE - 4), COLOR);
    assert.equal(guest.device.stats.faults, 0);
    guest.finish();
  });

  test('of the ring itself: what is left reads as no-operations', () => {
    const guest = start();
    guest.submit(xyColorBlt({ target: big(guest, 1500), rect, color: COLOR }), miStoreDword(guest.high.base, 1));
    guest.firstSlice();
    guest.unmap(0, 1);
    guest.clock.drain();
    assert.deepEqual([guest.device.engine, guest.peek(FIRST, 0)], ['idle', COLOR]);
    guest.finish();
  });

  test('close and reset end it where it stands', () => {
    for (const end of ['close', 'reset'] as const) {
      const guest = start();
      guest.submit(xyColorBlt({ target: big(guest, 1500), rect, color: COLOR }));
      guest.firstSlice();
      guest.device[end]();
      assert.deepEqual([guest.pins.pages, guest.clock.waiting, guest.device.engine], [0, 0, 'idle']);
      guest.finish();
    }
  });
});

describe('a guest that is killed with full tables', () => {
  const kill = (options: FakeGuestOptions) => {
    const reports: LeftoverReport[] = [];
    const guest = start({ ...options, onLeftovers: (report) => reports.push(report) });
    guest.device.backend.dmaPinGuestPage?.(guest.pins.hostFrame(FIRST + 2), displayOwner(3));
    guest.device.backend.dmaMapGuestPage(asGfn(0x200), SIZE_2M);
    guest.submit(miStoreDword(guest.high.base, 1));
    guest.finish();
    return { guest, reports };
  };

  test('the core drops what its table holds; the rest is named and released', () => {
    const { guest, reports } = kill({});
    assert.deepEqual(reports, [
      {
        device: 'vgpu',
        leftovers: [
          { gfn: FIRST + 2, size: SIZE_4K, refs: 1, owner: displayOwner(3) },
          { gfn: 0x200, size: SIZE_2M, refs: 1, owner: NO_OWNER },
        ],
      },
    ]);
    assert.match(
      guest.log.warnings.join(),
      /2 mappings left over, released: gfn 0x102 size 0x1000 refs 1, mapped by display buffer 0x3; gfn 0x200/,
    );
  });

  test('quirk cache-destroyed-first: every table entry is a leftover', () => {
    const { reports } = kill({ quirks: ['cache-destroyed-first'] });
    const expected = [...all.map((at) => [FIRST + at, at === 2 ? 2 : 1]), [0, 1], [0x200, 1]];
    assert.deepEqual(
      reports.map(({ leftovers }) => leftovers.map(({ gfn, refs }) => [gfn, refs])),
      [expected],
    );
  });

  test('an ordinary close leaves nothing to report', () => {
    const reports: LeftoverReport[] = [];
    const guest = start({ onLeftovers: (report) => reports.push(report) });
    guest.finish();
    assert.deepEqual([reports, guest.log.warnings], [[], []]);
  });

  test('a listener that throws does not keep pages', () => {
    const guest = start({ onLeftovers: () => assert.fail('from the listener') });
    guest.device.backend.dmaMapGuestPage(asGfn(9), SIZE_4K);
    guest.finish();
    assert.match(guest.log.warnings.join(), /listener of leftovers threw/);
  });
});
