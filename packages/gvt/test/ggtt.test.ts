import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, frameRange } from '@pinion/core';
import { GTT_OFFSET, REGION, staticBackend } from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions } from './fake-guest.js';

const PAGE = 4096;
const GFN = 0x12345;
const HOST_PAGES = 64;
/** Guest frame 0x12345 and the first few are memory, nothing else is. */
const MEMORY: FakeGuestOptions = {
  pages: GFN + 1,
  hostPages: HOST_PAGES,
  place: (gfn) => (gfn === GFN ? HOST_PAGES - 1 : gfn < 32 ? gfn : -1),
};
const ENTRY = (BigInt(GFN) << 12n) | 3n;
const LOW = 0x12345003;

const start = (options: FakeGuestOptions = {}) => {
  const guest = new FakeGuest({ ...MEMORY, ...options });
  const address = guest.low.base + 7 * 4096;
  const offset = GTT_OFFSET + (address / 4096) * 8;
  const pins = () => guest.pins.count(asIovaFrame(GFN));
  const host = () => guest.device.ggtt.hostEntry(address / 4096);
  return { guest, address, offset, pins, host, mapped: { present: true, dma: guest.pins.hostFrame(GFN) } };
};
const SCRATCH = { present: true, dma: undefined };
const ABSENT = { present: false, dma: undefined };

describe('entries in two halves', () => {
  test('low half first: scratch and no pin until the high half', () => {
    const { guest, address, offset, pins, host, mapped } = start();
    guest.write32(offset, LOW);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [BigInt(LOW), ABSENT, 0]);
    guest.write32(offset + 4, 0);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [ENTRY, mapped, 1]);
    guest.finish();
  });

  test('high half first: the same end', () => {
    const { guest, address, offset, pins, host, mapped } = start();
    guest.write32(offset + 4, 0);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [0n, ABSENT, 0]);
    guest.write32(offset, LOW);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [ENTRY, mapped, 1]);
    guest.finish();
  });

  test('the same half twice: the later value counts', () => {
    const { guest, address, offset, pins, host, mapped } = start();
    guest.write32(offset, 0x111003);
    guest.write32(offset, LOW);
    assert.deepEqual([guest.readEntry(address), host(), guest.pins.pages], [BigInt(LOW), ABSENT, 0]);
    guest.write32(offset + 4, 0);
    assert.deepEqual([host(), pins(), guest.pins.pages], [mapped, 1, 1]);
    guest.finish();
  });

  test('one half of a finished entry takes it down until the other comes', () => {
    const { guest, address, offset, pins, host, mapped } = start();
    guest.writeEntry(address, ENTRY | (1n << 40n));
    assert.deepEqual([guest.pins.pages, host()], [0, SCRATCH]);
    guest.writeEntry(address, ENTRY);
    guest.write32(offset, LOW);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [BigInt(LOW), ABSENT, 0]);
    guest.write32(offset + 4, 0);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [ENTRY, mapped, 1]);
    guest.finish();
  });

  test('a whole write forgets a half that waited', () => {
    const { guest, address, offset, pins, host, mapped } = start();
    guest.write32(offset, 0x111003);
    guest.writeEntry(address, ENTRY);
    assert.deepEqual([host(), pins()], [mapped, 1]);
    guest.write32(offset + 4, 0);
    assert.deepEqual([guest.readEntry(address), host(), pins()], [0n, ABSENT, 0]);
    guest.finish();
  });
});

describe('whole entries', () => {
  test('writing the same value again never unpins', () => {
    const { guest, address, pins } = start();
    guest.writeEntry(address, ENTRY);
    const before = guest.pins.unpinCalls;
    guest.writeEntry(address, ENTRY);
    assert.deepEqual([pins(), guest.pins.unpinCalls, guest.device.stats.cacheEntries], [1, before, 1]);
    guest.finish();
  });

  test('another page replaces the old one; a cleared entry gives its page back', () => {
    const { guest, address, pins, host } = start();
    guest.writeEntry(address, ENTRY);
    guest.writeEntry(address, (9n << 12n) | 1n);
    assert.deepEqual([pins(), guest.pins.count(asIovaFrame(9)), host()?.dma], [0, 1, guest.pins.hostFrame(9)]);
    guest.writeEntry(address, 9n << 12n);
    assert.deepEqual([guest.readEntry(address), host(), guest.pins.pages], [9n << 12n, ABSENT, 0]);
    guest.finish();
  });

  test('many entries on one page are one pin until the last goes', () => {
    const { guest, pins } = start();
    for (let page = 0; page < 300; page++) guest.writeEntry(guest.high.base + page * 4096, ENTRY);
    assert.deepEqual(
      [pins(), guest.device.stats],
      [1, { tableEntries: 300, cacheEntries: 1, cachePages: 1, faults: 0 }],
    );
    for (let page = 0; page < 299; page++) guest.writeEntry(guest.high.base + page * 4096, 0n);
    assert.equal(pins(), 1);
    guest.writeEntry(guest.high.base + 299 * 4096, 0n);
    assert.equal(pins(), 0);
    guest.finish();
  });

  const refused: readonly (readonly [what: string, entry: bigint, options: FakeGuestOptions])[] = [
    ['a frame that is not mapped', (5000n << 12n) | 1n, {}],
    ['the highest frame an entry can name', 0x3ffffffff000n | 1n, {}],
    ['a frame above the limit of locked pages', ENTRY, { limit: 0 }],
  ];
  for (const [what, entry, options] of refused) {
    test(`${what} becomes the scratch page, present; the write succeeds and the old page goes`, () => {
      const { guest, address, host } = start(options);
      guest.writeEntry(address, entry);
      assert.deepEqual([guest.readEntry(address), host(), guest.pins.pages], [entry, SCRATCH, 0]);
      assert.match(guest.log.warnings.join(), /scratch page/);
      guest.finish();
    });
  }

  test('a frame that the hypervisor knows to be none becomes the scratch page, present, without a line in the log', () => {
    const hypervisor = staticBackend({ memory: [{ first: asGfn(0), last: asGfn(31) }] });
    const { guest, address, host } = start({ hypervisor });
    guest.writeEntry(address, (4n << 12n) | 1n);
    assert.equal(host()?.dma, guest.pins.hostFrame(4));
    guest.writeEntry(address, (32n << 12n) | 1n);
    assert.deepEqual([guest.readEntry(address), host(), guest.log.warnings], [(32n << 12n) | 1n, SCRATCH, []]);
    guest.finish();
  });

  test('address bits above 45 are not part of the frame', () => {
    const { guest, address, host, mapped } = start();
    guest.writeEntry(address, ENTRY | (0xffn << 46n));
    assert.deepEqual(host(), mapped);
    guest.finish();
  });

  test('a thousand refused entries are four lines in the log', () => {
    const { guest } = start();
    for (let page = 0; page < 1000; page++) guest.writeEntry(guest.low.base + page * 4096, (5000n << 12n) | 1n);
    assert.equal(guest.log.warnings.length, 4);
    guest.finish();
  });
});

describe('two guest frames that are one host page', () => {
  /** Guest frames 5 and 9 are the same host page. */
  const alias = () => {
    const guest = new FakeGuest({ place: (gfn) => (gfn === 9 ? 5 : gfn) });
    const { base } = guest.low;
    guest.mapPages(base, 5, 1);
    guest.mapPages(base + PAGE, 9, 1);
    return { guest, base };
  };
  const pinned = ({ pins }: FakeGuest) => [5, 9].map((gfn) => pins.count(asIovaFrame(gfn)));

  for (const [first, second, frame] of [
    [0, 1, 5],
    [1, 0, 9],
  ] as const) {
    test(`each entry holds its own: entry ${first} goes first`, () => {
      const { guest, base } = alias();
      guest.writeEntry(base + first * PAGE, 0n);
      assert.deepEqual(
        pinned(guest),
        [5, 9].map((gfn) => (gfn === frame ? 0 : 1)),
      );
      guest.writeEntry(base + second * PAGE, 0n);
      assert.deepEqual(pinned(guest), [0, 0]);
      guest.finish();
    });

    test(`an entry that stays is held when the memory of frame ${frame} goes`, () => {
      const { guest, base } = alias();
      guest.writeEntry(base + first * PAGE, 0n);
      guest.device.dmaUnmap(frameRange(asIovaFrame(frame), 1));
      assert.equal(guest.pins.pages, 1);
      assert.equal(guest.device.stats.tableEntries, 1);
      guest.finish();
    });
  }
});

describe('outside the slices', () => {
  const places: readonly (readonly [what: string, address: (guest: FakeGuest) => number, owned: boolean])[] = [
    ['first page of the low slice', (g) => g.low.base, true],
    ['last page of the low slice', (g) => g.low.base + g.low.size - 4096, true],
    ['first page of the high slice', (g) => g.high.base, true],
    ['last page of the high slice', (g) => g.high.base + g.high.size - 4096, true],
    ['page before the low slice', (g) => g.low.base - 4096, false],
    ['page after the low slice', (g) => g.low.base + g.low.size, false],
    ['page before the high slice', (g) => g.high.base - 4096, false],
    ['page after the high slice', (g) => g.high.base + g.high.size, false],
    ['page 0', () => 0, false],
    ['last page of the table', () => 2 ** 32 - 4096, false],
  ];
  for (const [what, where, owned] of places) {
    test(`${what} is ${owned ? 'ours' : 'foreign: reads zero, writes vanish'}`, () => {
      const { guest, pins } = start();
      const address = where(guest);
      guest.writeEntry(address, ENTRY);
      assert.deepEqual([guest.readEntry(address), pins()], owned ? [ENTRY, 1] : [0n, 0]);
      guest.write32(GTT_OFFSET + (address / 4096) * 8, LOW);
      assert.equal(guest.readEntry(address), owned ? BigInt(LOW) : 0n);
      assert.equal(guest.device.ggtt.hostEntry(address / 4096) !== undefined, owned);
      guest.finish();
    });
  }
});

describe('accesses that are not 4 or 8 aligned bytes', () => {
  const cases: readonly (readonly [at: number, length: number])[] = [
    [0, 1],
    [0, 2],
    [2, 2],
    [4, 3],
    [1, 8],
    [8, 9],
  ];
  for (const [at, length] of cases) {
    test(`${length} bytes at +${at}`, () => {
      const { guest, offset, pins } = start();
      const error = { name: 'GVT_REGION_FAULT', errno: 'EFAULT' };
      assert.throws(() => guest.device.writeRegion(REGION.BAR0, offset + at, new Uint8Array(length)), error);
      assert.throws(() => guest.device.readRegion(REGION.BAR0, offset + at, new Uint8Array(length)), error);
      assert.equal(pins(), 0);
      guest.finish();
    });
  }

  test('a long access is cut into entries', () => {
    const { guest, offset, address } = start();
    const entries = new BigUint64Array([ENTRY, (4n << 12n) | 1n, 0n]);
    guest.device.writeRegion(REGION.BAR0, offset, new Uint8Array(entries.buffer));
    assert.deepEqual(
      [guest.readEntry(address), guest.readEntry(address + 4096), guest.pins.pages],
      [ENTRY, 0x4001n, 2],
    );
    const back = new Uint8Array(24);
    guest.device.readRegion(REGION.BAR0, offset, back);
    assert.deepEqual(new BigUint64Array(back.buffer), entries);
    guest.finish();
  });
});
