import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, frameRange } from '@pinion/core';
import type { PpgttMm, PpgttRoot } from '@pinion/gvt';
import { at, FakeTables, type FakeTablesOptions, IPS, P, PS, RW } from './fake-tables.js';

const PAGE = 4096;
const L4: PpgttRoot = { levels: 4, pdps: [1 * PAGE] };
const L3: PpgttRoot = { levels: 3, pdps: [3 * PAGE, 0, 0, 3 * PAGE] };

/** Guest frames 1..4 are the levels of a table whose first entry leads to guest frame 9; 2048 guest pages. */
const start = (options: FakeTablesOptions = {}) => {
  const guest = new FakeTables({ pages: 2048, ...options });
  for (const table of [1, 2, 3]) guest.entry(table, 0, table + 1, P | RW);
  guest.entry(4, 0, 9, P | RW);
  return guest;
};

/** Pins and unpins: what is between two dispatches is made good. */
const dispatch = (mm: PpgttMm): void => {
  mm.pin();
  mm.unpin();
};

describe('a 4-level table', () => {
  test('leads an engine to the real page, which is held as long as the table', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(0), mm.translate(0xfff), mm.translate(PAGE)], [9, 9, undefined]);
    assert.deepEqual([guest.count(9), guest.pins.pages], [1, 1]);
    mm.pin();
    const memory = mm.memory('bcs');
    memory.writeDword(0x10, 0x12345678);
    guest.pins.page(9).set([7], 0x20);
    assert.deepEqual([guest.pins.page(9)[0x10], memory.readDword(0x20), guest.faults.count], [0x78, 7, 0]);
    mm.unpin();
    guest.ppgtt.release(mm);
    assert.deepEqual([guest.ppgtt.stats.mms, guest.count(9)], [0, 0]);
    guest.finish();
  });

  test('an access over the border of two pages finds both', () => {
    const guest = start();
    guest.entry(4, 1, 30, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    mm.memory('rcs').write(PAGE - 50, new Uint8Array(100).fill(5));
    assert.deepEqual([guest.pins.page(9)[PAGE - 1], guest.pins.page(30)[49], guest.pins.page(30)[50]], [5, 5, 0]);
    const back = new Uint8Array(100);
    mm.memory('rcs').read(PAGE - 50, back);
    assert.ok(back.every((byte) => byte === 5));
    mm.unpin();
    guest.finish();
  });

  test('every level takes its nine bits', () => {
    const guest = start();
    guest.entry(1, 300, 5, P | RW);
    guest.entry(5, 200, 6, P | RW);
    guest.entry(6, 100, 7, P | RW);
    guest.entry(7, 50, 40, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(at(300, 200, 100, 50)), mm.translate(at(300, 200, 100, 51))], [40, undefined]);
    guest.finish();
  });

  test('a frame above 32 bits of address is a frame, and bits above 45 are not', () => {
    const guest = new FakeTables({
      pages: 2 ** 20 + 16,
      hostPages: 16,
      place: (gfn) => (gfn < 8 ? gfn : gfn === 2 ** 20 + 5 ? 9 : -1),
    });
    for (const table of [1, 2, 3]) guest.entry(table, 0, table + 1, P | RW);
    guest.store(4, 0, new Uint8Array(Uint32Array.of(0x5003, 0xffffc001).buffer));
    assert.equal(guest.ppgtt.acquire(L4).translate(0), 2 ** 20 + 5);
    guest.finish();
  });
});

describe('a 3-level table', () => {
  test('has four roots, of which some may be none', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L3);
    const gib = 2 ** 30;
    assert.deepEqual(
      [0, gib, 2 * gib, 3 * gib].map((address) => mm.translate(address)),
      [9, undefined, undefined, 9],
    );
    assert.deepEqual([guest.ppgtt.stats.tables, guest.count(9)], [2, 1]);
    guest.finish();
  });

  test('ends at 4 GiB', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L3);
    mm.pin();
    const memory = mm.memory('bcs');
    assert.deepEqual([mm.translate(2 ** 32), memory.readDword(2 ** 32), guest.faults.count], [undefined, 0, 1]);
    assert.deepEqual(
      [memory.owns(0, 2 ** 32 - 1), memory.owns(0, 2 ** 32), memory.owns(5, 4), memory.owns(-1, 4)],
      [true, false, false, false],
    );
    mm.unpin();
    guest.finish();
  });
});

describe('references', () => {
  test('equal roots are one mm, which the last reference ends', () => {
    const guest = start();
    const first = guest.ppgtt.acquire(L4);
    assert.equal(guest.ppgtt.acquire({ levels: 4, pdps: [PAGE, 77] }), first);
    guest.ppgtt.createByRoot(L4);
    guest.ppgtt.release(first);
    guest.ppgtt.destroyByRoot(L4);
    assert.equal(guest.ppgtt.stats.mms, 1);
    guest.ppgtt.release(first);
    assert.equal(guest.ppgtt.stats.mms, 0);
    guest.ppgtt.release(first);
    assert.throws(() => first.pin(), { name: 'GVT_MM_GONE', errno: 'ENOENT' });
    guest.finish();
  });

  test('the guest cannot take away what a workload uses', () => {
    const guest = start();
    guest.ppgtt.createByRoot(L4);
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    guest.ppgtt.destroyByRoot(L4);
    const refused = { name: 'GVT_NO_MM', errno: 'EINVAL' };
    assert.throws(() => guest.ppgtt.destroyByRoot(L4), refused);
    assert.throws(() => guest.ppgtt.destroyByRoot(L3), refused);
    assert.equal(mm.memory('bcs').readDword(0), 0);
    assert.equal(guest.faults.count, 0);
    mm.unpin();
    guest.ppgtt.release(mm);
    assert.equal(guest.ppgtt.stats.mms, 0);
    guest.finish();
  });

  test('two tables that share a page table share its shadow', () => {
    const guest = start();
    for (const table of [11, 12]) guest.entry(table, 0, table + 1, P | RW);
    guest.entry(13, 5, 4, P | RW);
    const [one, other] = [guest.ppgtt.acquire(L4), guest.ppgtt.acquire({ levels: 4, pdps: [11 * PAGE] })];
    assert.deepEqual([guest.ppgtt.stats.tables, guest.count(9), other.translate(at(0, 0, 5, 0))], [7, 1, 9]);
    guest.entry(4, 0, 30, P | RW);
    assert.deepEqual(
      [one.translate(0), other.translate(at(0, 0, 5, 0)), guest.count(9), guest.count(30)],
      [30, 30, 0, 1],
    );
    guest.ppgtt.release(one);
    assert.deepEqual([guest.ppgtt.stats.tables, other.translate(at(0, 0, 5, 0)), guest.count(30)], [4, 30, 1]);
    guest.finish();
  });

  test('one page table under two entries, with and without 64 KiB pages, has a shadow for each', () => {
    const guest = start();
    guest.entry(3, 1, 4, P | RW | IPS);
    guest.entry(4, 0, 64, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(0), mm.translate(PAGE), mm.translate(at(0, 0, 1, 1))], [64, undefined, 65]);
    assert.deepEqual([guest.ppgtt.stats.tables, guest.ppgtt.stats.guestPages, guest.count(64)], [5, 4, 2]);
    guest.finish();
  });
});

describe('large pages', () => {
  test('64 KiB: 16 pages, aligned, at every 16th entry', () => {
    const guest = start();
    guest.entry(3, 0, 4, P | RW | IPS);
    guest.entry(4, 0, 70, P | RW);
    guest.entry(4, 17, 200, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual(
      [0, 15, 16, 17].map((page) => mm.translate(page * PAGE)),
      [64, 79, undefined, undefined],
    );
    assert.deepEqual([guest.ppgtt.stats.mapped, guest.pins.pages], [16, 16]);
    guest.entry(4, 3, 200, P | RW);
    guest.entry(4, 16, 80, P | RW);
    assert.deepEqual([mm.translate(3 * PAGE), mm.translate(17 * PAGE), guest.pins.pages], [67, 81, 32]);
    guest.entry(4, 0, 0, 0);
    assert.deepEqual([mm.translate(0), mm.translate(15 * PAGE), guest.pins.pages], [undefined, undefined, 16]);
    guest.finish();
  });

  test('64 KiB: while the guest has not switched them on the bit means nothing', () => {
    const guest = start({ ips: false });
    guest.entry(3, 0, 4, P | RW | IPS);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(0), mm.translate(PAGE), guest.pins.pages], [9, undefined, 1]);
    guest.finish();
  });

  test('2 MiB: one mapping, whose low address bits do not count', () => {
    const guest = start();
    guest.entry(3, 1, 512 + 77, P | RW | PS);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(at(0, 0, 1, 0)), mm.translate(at(0, 0, 1, 511))], [512, 1023]);
    assert.deepEqual([guest.ppgtt.stats.mapped, guest.backend.usage], [2, { mappings: 2, pages: 513 }]);
    mm.pin();
    mm.memory('bcs').writeDword(at(0, 0, 1, 300) + 4, 6);
    assert.equal(guest.pins.page(812)[4], 6);
    mm.unpin();
    guest.entry(3, 1, 0, 0);
    assert.deepEqual([mm.translate(at(0, 0, 1, 0)), guest.pins.pages], [undefined, 1]);
    guest.finish();
  });

  test('2 MiB of scattered host pages: 512 mappings, and what is no memory is scratch', () => {
    const guest = start({ place: (gfn) => (gfn === 600 ? -1 : gfn ^ 1) });
    guest.entry(3, 1, 512, P | RW | PS);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual(
      [mm.translate(at(0, 0, 1, 87)), mm.translate(at(0, 0, 1, 88)), mm.translate(at(0, 0, 1, 89))],
      [599, undefined, 601],
    );
    assert.deepEqual([guest.ppgtt.stats.tables, guest.ppgtt.stats.guestPages, guest.pins.pages], [5, 4, 512]);
    guest.entry(3, 1, 0, 0);
    assert.equal(guest.pins.pages, 1);
    guest.finish();
  });

  test('1 GiB is refused when the table is made', () => {
    const guest = start();
    guest.entry(2, 5, 512, P | RW | PS);
    const refused = { name: 'GVT_HUGE_ENTRY', errno: 'EINVAL' };
    assert.throws(() => guest.ppgtt.acquire(L4), refused);
    assert.throws(() => guest.ppgtt.createByRoot(L4), refused);
    assert.deepEqual([guest.ppgtt.stats.mms, guest.ppgtt.stats.tables, guest.pins.pages], [0, 0, 0]);
    guest.finish();
  });

  test('1 GiB is refused when it is written, and at each dispatch until it is gone', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    const refused = { name: 'GVT_HUGE_ENTRY', errno: 'EINVAL' };
    guest.entry(2, 0, 512, P | RW | PS);
    assert.deepEqual([guest.refused, mm.translate(0), guest.pins.pages], [['GVT_HUGE_ENTRY'], undefined, 0]);
    assert.throws(() => mm.pin(), refused);
    assert.throws(() => mm.pin(), refused);
    guest.entry(2, 0, 3, P | RW);
    dispatch(mm);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });

  test('1 GiB in one table is not the trouble of another', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire({ levels: 3, pdps: [3 * PAGE, 0, 0, 0] });
    guest.ppgtt.createByRoot(L4);
    guest.entry(2, 0, 512, P | RW | PS);
    assert.deepEqual(guest.refused, ['GVT_HUGE_ENTRY']);
    dispatch(mm);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });
});

describe('trapped writes', () => {
  test('8 bytes: the new page is taken before the old one is given back', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    const before = guest.pins.unpinCalls;
    guest.entry(4, 0, 9, P | RW);
    assert.deepEqual([guest.pins.unpinCalls, guest.count(9)], [before, 1]);
    guest.entry(3, 0, 4, P | RW);
    assert.deepEqual([guest.pins.unpinCalls, guest.ppgtt.stats.tables], [before, 4]);
    guest.entry(4, 0, 10, P | RW);
    assert.deepEqual([mm.translate(0), guest.count(9), guest.count(10)], [10, 0, 1]);
    guest.finish();
  });

  test('8 bytes at a directory: what is below is shadowed, and given back', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(5, 7, 50, P | RW);
    assert.equal(guest.watched.size, 4);
    guest.entry(3, 9, 5, P | RW);
    assert.deepEqual([mm.translate(at(0, 0, 9, 7)), guest.watched.size, guest.count(50)], [50, 5, 1]);
    guest.entry(2, 0, 0, 0);
    assert.deepEqual([mm.translate(0), [...guest.watched.keys()], guest.pins.pages], [undefined, [1, 2], 0]);
    guest.finish();
  });

  test('4 bytes: scratch until the next dispatch reads the whole', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    guest.half(4, 0, false, 10 * PAGE + 3);
    assert.deepEqual([mm.translate(0), guest.count(9), guest.count(10)], [undefined, 0, 0]);
    guest.half(4, 0, true, 0);
    assert.deepEqual([mm.translate(0), guest.count(10)], [undefined, 0]);
    dispatch(mm);
    assert.deepEqual([mm.translate(0), guest.count(10)], [10, 1]);
    guest.finish();
  });

  test('4 bytes that change nothing cost the mapping until the next dispatch', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    guest.half(3, 0, true, 0);
    assert.deepEqual([mm.translate(0), guest.ppgtt.stats.tables], [undefined, 3]);
    dispatch(mm);
    assert.deepEqual([mm.translate(0), guest.ppgtt.stats.tables], [9, 4]);
    guest.finish();
  });

  const odd: readonly (readonly [offset: number, length: number])[] = [
    [0, 1],
    [6, 2],
    [2, 4],
    [4, 8],
    [1, 3],
  ];
  for (const [offset, length] of odd) {
    test(`${length} bytes at +${offset}: refused, and read again at the next dispatch`, () => {
      const guest = start();
      const mm = guest.ppgtt.acquire(L4);
      const bytes = guest.pins.page(4).slice(offset, offset + length);
      guest.store(4, offset, bytes);
      assert.deepEqual([guest.refused, mm.translate(0)], [['GVT_TRACK_ACCESS'], undefined]);
      dispatch(mm);
      assert.equal(mm.translate(0), 9);
      guest.finish();
    });
  }

  test('a write to a page that is no table is not ours', () => {
    const guest = start();
    assert.throws(() => guest.ppgtt.guestWrite(0x9000n, new Uint8Array(8)), {
      name: 'GVT_NOT_TRACKED',
      errno: 'ENXIO',
    });
    guest.finish();
  });

  test('a trap that comes late, when the table is gone', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    const late = guest.watched.get(4);
    guest.ppgtt.release(mm);
    late?.(0x4000n, new Uint8Array(8));
    assert.deepEqual([guest.refused, guest.ppgtt.stats.tables], [['GVT_NOT_TRACKED'], 0]);
    guest.finish();
  });

  test('in failsafe mode the page is let go, and nothing follows it any more', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    guest.failsafe = true;
    guest.entry(4, 0, 10, P | RW);
    assert.deepEqual([mm.translate(0), [...guest.watched.keys()]], [9, [1, 2, 3]]);
    guest.finish();
  });
});

describe('tables that are let go', () => {
  const after = (count: number, most = 8) => start({ ppgtt: { outOfSync: { after: count, most } } });

  test('a table of pages is written to unseen from the second trap to the next dispatch', () => {
    const guest = after(2);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(4, 1, 31, P | RW);
    assert.ok(guest.watched.has(4));
    guest.entry(4, 2, 32, P | RW);
    assert.deepEqual([guest.watched.has(4), guest.ppgtt.stats.unprotected], [false, 1]);
    guest.entry(4, 0, 30, P | RW);
    guest.entry(4, 2, 0, 0);
    assert.deepEqual([mm.translate(0), mm.translate(2 * PAGE)], [9, 32]);
    dispatch(mm);
    assert.deepEqual([mm.translate(0), mm.translate(PAGE), mm.translate(2 * PAGE)], [30, 31, undefined]);
    assert.deepEqual([guest.watched.has(4), guest.ppgtt.stats.unprotected, guest.count(9)], [true, 0, 0]);
    guest.finish();
  });

  test('a directory never is', () => {
    const guest = after(2);
    guest.ppgtt.acquire(L4);
    for (let n = 0; n < 5; n++) guest.entry(3, n + 1, 4, P | RW);
    assert.ok(guest.watched.has(3));
    guest.finish();
  });

  test('nor a page that is also a table of another level', () => {
    const guest = after(1);
    guest.entry(3, 1, 3, P | RW);
    guest.ppgtt.acquire(L4);
    guest.entry(3, 5, 6, P | RW);
    assert.ok(guest.watched.has(3));
    guest.finish();
  });

  test('one that becomes a table of another level is watched again', () => {
    const guest = after(1);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(4, 1, 31, P | RW);
    assert.ok(!guest.watched.has(4));
    guest.entry(4, 2, 32, P | RW);
    guest.entry(2, 1, 4, P | RW);
    assert.ok(guest.watched.has(4));
    dispatch(mm);
    assert.equal(mm.translate(2 * PAGE), 32);
    guest.finish();
  });

  test('the oldest is watched again when there are too many, and still compared', () => {
    const guest = after(1, 1);
    guest.entry(3, 1, 5, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(4, 1, 31, P | RW);
    guest.entry(4, 2, 32, P | RW);
    guest.entry(5, 1, 41, P | RW);
    assert.deepEqual([guest.watched.has(4), guest.watched.has(5), guest.ppgtt.stats.unprotected], [true, false, 1]);
    dispatch(mm);
    assert.deepEqual([mm.translate(2 * PAGE), mm.translate(at(0, 0, 1, 1))], [32, 41]);
    guest.finish();
  });
});

describe('a hypervisor that cannot trap writes', () => {
  test('every table is compared at each dispatch', () => {
    const guest = start({ trap: false });
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(4, 0, 30, P | RW);
    guest.entry(5, 3, 50, P | RW);
    guest.entry(3, 8, 5, P | RW);
    assert.deepEqual([mm.translate(0), guest.watched.size], [9, 0]);
    dispatch(mm);
    assert.deepEqual([mm.translate(0), mm.translate(at(0, 0, 8, 3)), guest.count(9)], [30, 50, 0]);
    guest.finish();
  });
});

describe('tables that are not what they seem', () => {
  test('a page that points at itself is a table of all levels and the page behind them', () => {
    const guest = new FakeTables();
    guest.entry(1, 511, 1, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.equal(mm.translate(at(511, 511, 511, 511)), 1);
    assert.deepEqual([guest.ppgtt.stats.tables, guest.ppgtt.stats.guestPages, guest.count(1)], [4, 1, 1]);
    guest.entry(1, 510, 7, P | RW);
    assert.deepEqual([mm.translate(at(511, 511, 511, 510)), guest.count(7)], [7, 1]);
    guest.entry(1, 511, 0, 0);
    assert.deepEqual([guest.ppgtt.stats.tables, mm.translate(at(511, 511, 511, 510))], [2, undefined]);
    guest.finish();
  });

  test('two pages that point at each other', () => {
    const guest = new FakeTables();
    guest.entry(1, 0, 2, P | RW);
    guest.entry(2, 0, 1, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.equal(mm.translate(0), 1);
    guest.entry(1, 0, 0, 0);
    assert.deepEqual([mm.translate(0), guest.ppgtt.stats.tables, guest.pins.pages], [undefined, 1, 0]);
    guest.finish();
  });

  test('a root that is no memory', () => {
    const guest = start();
    const refused = { name: 'GVT_PPGTT_ROOT', errno: 'EFAULT' };
    assert.throws(() => guest.ppgtt.acquire({ levels: 4, pdps: [5000 * PAGE] }), refused);
    assert.throws(() => guest.ppgtt.acquire({ levels: 3, pdps: [3 * PAGE, 3 * PAGE, 5000 * PAGE, 0] }), refused);
    assert.deepEqual([guest.ppgtt.stats.mms, guest.ppgtt.stats.tables, guest.pins.pages], [0, 0, 0]);
    guest.finish();
  });

  for (const pdp of [2 ** 46 + PAGE, 2 ** 63 + PAGE]) {
    test(`a root at ${pdp}: only its bits 45:12 count`, () => {
      const guest = start();
      assert.equal(guest.ppgtt.acquire({ levels: 4, pdps: [pdp] }).translate(0), 9);
      guest.finish();
    });
  }

  test('a root of zero is none: every access is a fault', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire({ levels: 4, pdps: [0] });
    mm.pin();
    assert.equal(mm.memory('rcs').readDword(0), 0);
    assert.equal(guest.faults.list[0]?.level, 4);
    mm.unpin();
    guest.finish();
  });

  test('a directory that is no memory is scratch, and a page, and 600 of them are four lines in the log', () => {
    const guest = start();
    guest.entry(2, 1, 5000, P | RW);
    for (let index = 1; index < 512; index++) guest.entry(4, index, 4000 + index, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(at(0, 1, 0, 0)), mm.translate(PAGE), mm.translate(0)], [undefined, undefined, 9]);
    assert.deepEqual([guest.pins.pages, guest.log.warnings.length], [1, 4]);
    guest.finish();
  });

  test('a 2 MiB page of which only some can be locked: the rest is scratch, and each is given back once', () => {
    const guest = start({ limit: 100, place: (gfn) => gfn ^ 1 });
    guest.entry(3, 1, 512, P | RW | PS);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual(
      [mm.translate(at(0, 0, 1, 98)), mm.translate(at(0, 0, 1, 99)), guest.pins.pages],
      [610, undefined, 100],
    );
    guest.entry(3, 1, 0, 0);
    assert.equal(guest.pins.pages, 1);
    guest.finish();
  });

  test('a page beyond the limit of locked pages is scratch', () => {
    const guest = start({ limit: 1 });
    guest.entry(4, 1, 30, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    assert.deepEqual([mm.translate(0), mm.translate(PAGE), guest.pins.pages], [9, undefined, 1]);
    guest.finish();
  });
});

describe('when tables run out', () => {
  const few = (maxTables: number) => {
    const guest = start({ ppgtt: { maxTables } });
    const others = [11, 21].map((first) => {
      for (let table = first; table < first + 3; table++) guest.entry(table, 0, table + 1, P | RW);
      guest.entry(first + 3, 0, first + 90, P | RW);
      return { levels: 4, pdps: [first * PAGE] } as const;
    });
    return { guest, roots: [L4, ...others] };
  };

  test('the one pinned longest ago gives up its shadow, and has it again when it is pinned', () => {
    const { guest, roots } = few(8);
    const [a, b] = [guest.ppgtt.acquire(roots[0] ?? L4), guest.ppgtt.acquire(roots[1] ?? L4)];
    dispatch(b);
    dispatch(a);
    const c = guest.ppgtt.acquire(roots[2] ?? L4);
    assert.deepEqual(
      [a, b, c].map((mm) => mm.translate(0)),
      [9, undefined, 111],
    );
    assert.deepEqual([guest.ppgtt.stats.mms, guest.ppgtt.stats.shadowed, guest.ppgtt.stats.tables], [3, 2, 8]);
    dispatch(b);
    assert.deepEqual(
      [a, b, c].map((mm) => mm.translate(0)),
      [undefined, 101, 111],
    );
    guest.finish();
  });

  test('what is pinned keeps its shadow', () => {
    const { guest, roots } = few(8);
    const [a, b] = [guest.ppgtt.acquire(roots[0] ?? L4), guest.ppgtt.acquire(roots[1] ?? L4)];
    a.pin();
    b.pin();
    assert.throws(() => guest.ppgtt.acquire(roots[2] ?? L4), { name: 'GVT_NO_TABLES', errno: 'ENOMEM' });
    assert.deepEqual([a.translate(0), b.translate(0), guest.ppgtt.stats.mms], [9, 101, 2]);
    b.unpin();
    assert.equal(guest.ppgtt.acquire(roots[2] ?? L4).translate(0), 111);
    a.unpin();
    guest.finish();
  });

  test('a 2 MiB page that needs a table to be split and finds none: nothing is left of it', () => {
    const guest = start({ ppgtt: { maxTables: 4 }, place: (gfn) => gfn ^ 1 });
    guest.entry(3, 1, 512, P | RW | PS);
    assert.throws(() => guest.ppgtt.acquire(L4), { name: 'GVT_NO_TABLES' });
    assert.deepEqual([guest.ppgtt.stats.tables, guest.ppgtt.stats.mapped, guest.pins.pages], [0, 0, 0]);
    guest.entry(3, 1, 0, 0);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(3, 1, 512, P | RW | PS);
    assert.deepEqual([guest.ppgtt.stats.tables, mm.translate(0), guest.pins.pages], [0, undefined, 0]);
    assert.throws(() => mm.pin(), { name: 'GVT_NO_TABLES' });
    guest.finish();
  });

  test('a single table that needs more than there are is refused, and everything it had is back', () => {
    const { guest, roots } = few(3);
    assert.throws(() => guest.ppgtt.acquire(roots[0] ?? L4), { name: 'GVT_NO_TABLES' });
    assert.deepEqual([guest.ppgtt.stats.tables, guest.watched.size, guest.pins.pages], [0, 0, 0]);
    guest.finish();
  });

  test('a trapped write that needs a table may take it from its own mm', () => {
    const { guest, roots } = few(4);
    const mm = guest.ppgtt.acquire(roots[0] ?? L4);
    guest.entry(5, 0, 60, P | RW);
    guest.entry(3, 1, 5, P | RW);
    assert.deepEqual([mm.translate(0), guest.ppgtt.stats.tables, guest.pins.pages], [undefined, 0, 0]);
    assert.throws(() => mm.pin(), { name: 'GVT_NO_TABLES' });
    guest.entry(3, 1, 0, 0);
    dispatch(mm);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });
});

describe('memory that goes away', () => {
  const unmap = (guest: FakeTables, first: number, count: number): void => {
    const range = frameRange(asIovaFrame(first), count);
    guest.ppgtt.scrub(range);
    guest.backend.releaseRange(range);
  };

  test('a page: its entry leads to scratch until the guest writes it again', () => {
    const guest = start();
    guest.entry(4, 1, 30, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    const memory = mm.memory('bcs');
    memory.writeDword(0, 1);
    unmap(guest, 9, 1);
    assert.deepEqual([memory.readDword(0), memory.readDword(PAGE), guest.faults.count, guest.pins.pages], [0, 0, 1, 1]);
    mm.unpin();
    dispatch(mm);
    assert.equal(mm.translate(0), undefined);
    guest.entry(4, 0, 9, P | RW);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });

  test('a page under a 64 KiB and one under a 2 MiB entry', () => {
    const guest = start();
    guest.entry(3, 0, 4, P | RW | IPS);
    guest.entry(4, 0, 64, P | RW);
    guest.entry(3, 1, 512, P | RW | PS);
    const mm = guest.ppgtt.acquire(L4);
    unmap(guest, 70, 1);
    assert.deepEqual([mm.translate(5 * PAGE), mm.translate(6 * PAGE), guest.pins.pages], [69, undefined, 15 + 512]);
    unmap(guest, 1000, 1);
    assert.deepEqual([mm.translate(at(0, 0, 1, 0)), guest.pins.pages], [undefined, 15]);
    guest.finish();
  });

  test('a table: what is below it goes too, and it is watched no more', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    unmap(guest, 3, 1);
    assert.deepEqual([mm.translate(0), guest.pins.pages, [...guest.watched.keys()]], [undefined, 0, [1, 2]]);
    dispatch(mm);
    guest.finish();
  });

  test('the root: no shadow until it is pinned again', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    unmap(guest, 0, 2);
    assert.deepEqual([mm.memory('bcs').readDword(0), guest.faults.count, guest.ppgtt.stats.tables], [0, 1, 0]);
    mm.unpin();
    dispatch(mm);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });

  test('everything at once, and a range that nothing knows', () => {
    const guest = start();
    guest.ppgtt.acquire(L4);
    guest.ppgtt.acquire(L3);
    unmap(guest, 0, 2048);
    assert.deepEqual([guest.ppgtt.stats.tables, guest.pins.pages, guest.ppgtt.stats.mms], [0, 0, 2]);
    unmap(guest, 2 ** 52 - 10, 10);
    guest.finish();
  });
});

test('of two guest frames that are one host page, each entry holds its own', () => {
  for (const first of [0, 1]) {
    const guest = new FakeTables({ place: (gfn) => (gfn === 21 ? 20 : gfn) });
    for (const [table, next] of [
      [1, 2],
      [2, 3],
      [3, 4],
    ] as const)
      guest.entry(table, 0, next, P | RW);
    for (const index of [0, 1]) guest.entry(4, index, 20 + index, P | RW);
    guest.ppgtt.acquire(L4);
    guest.entry(4, first, 0, 0);
    assert.deepEqual([guest.count(20), guest.count(21)], first === 0 ? [0, 1] : [1, 0]);
    guest.finish();
  }
});

describe('resets', () => {
  test('of the engines: the mms stay and have their shadows again when they are pinned', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    guest.ppgtt.invalidateAll();
    assert.deepEqual([guest.ppgtt.stats.mms, guest.ppgtt.stats.tables, guest.pins.pages], [1, 0, 0]);
    dispatch(mm);
    assert.equal(mm.translate(0), 9);
    guest.finish();
  });

  test('of the device: every mm is gone, whoever has references', () => {
    const guest = start();
    guest.ppgtt.createByRoot(L4);
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    guest.ppgtt.destroyAll();
    assert.deepEqual([mm.memory('bcs').readDword(0), guest.faults.count, guest.ppgtt.stats.mms], [0, 1, 0]);
    assert.throws(() => mm.pin(), { name: 'GVT_MM_GONE' });
    mm.unpin();
    mm.unpin();
    const again = guest.ppgtt.acquire(L4);
    guest.ppgtt.release(mm);
    assert.equal(again.translate(0), 9);
    guest.finish();
  });
});

describe('faults', () => {
  const cases: readonly (readonly [what: string, address: number, level: number])[] = [
    ['top level', at(1, 0, 0, 0), 4],
    ['third level', at(0, 1, 0, 0), 3],
    ['directory', at(0, 0, 1, 0), 2],
    ['page', at(0, 0, 0, 1), 1],
    ['beyond the address space', 2 ** 48, 4],
    ['before it', -4, 4],
  ];
  for (const [what, address, level] of cases) {
    test(`no entry: ${what}`, () => {
      const guest = start();
      const mm = guest.ppgtt.acquire(L4);
      mm.pin();
      const memory = mm.memory('vecs');
      memory.writeDword(address, 1);
      assert.equal(memory.readDword(address), 0);
      const fault = { source: 'vecs', address, table: 'ppgtt', level };
      assert.deepEqual(guest.faults.list, [
        { ...fault, write: true },
        { ...fault, write: false },
      ]);
      mm.unpin();
      guest.finish();
    });
  }

  test('a write to a read-only page', () => {
    const guest = start();
    guest.entry(4, 0, 9, P);
    guest.pins.page(9).fill(5);
    const mm = guest.ppgtt.acquire(L4);
    mm.pin();
    const memory = mm.memory('rcs');
    memory.writeDword(0, 1);
    assert.deepEqual([memory.readDword(0), guest.faults.list.map(({ write }) => write)], [0x05050505, [true]]);
    mm.unpin();
    guest.finish();
  });

  test('an access to what is not pinned', () => {
    const guest = start();
    const mm = guest.ppgtt.acquire(L4);
    const memory = mm.memory('rcs');
    mm.pin();
    memory.writeDword(0, 1);
    mm.unpin();
    memory.writeDword(0, 2);
    assert.deepEqual([guest.pins.page(9)[0], guest.faults.count], [1, 1]);
    guest.finish();
  });
});

describe('quirks', () => {
  test('split-64k-unmaps-one: 15 pages of an entry that went stay until close', () => {
    const guest = start({ quirks: ['split-64k-unmaps-one'] });
    guest.entry(3, 0, 4, P | RW | IPS);
    guest.entry(4, 0, 64, P | RW);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(4, 0, 0, 0);
    assert.deepEqual(
      [mm.translate(0), mm.translate(PAGE), guest.count(64), guest.count(65)],
      [undefined, undefined, 0, 1],
    );
    guest.finish(Array.from({ length: 15 }, (_, piece) => ({ gfn: asGfn(65 + piece), size: PAGE, refs: 1 })));
  });

  test('large-leaf-skipped: a 2 MiB page of a table that went stays until close, one that was overwritten does not', () => {
    const guest = start({ quirks: ['large-leaf-skipped'] });
    guest.entry(3, 1, 512, P | RW | PS);
    guest.entry(3, 2, 1024, P | RW | PS);
    const mm = guest.ppgtt.acquire(L4);
    guest.entry(3, 2, 0, 0);
    assert.equal(guest.count(1024), 0);
    guest.ppgtt.release(mm);
    assert.equal(guest.count(512), 1);
    guest.finish([{ gfn: asGfn(512), size: 2 ** 21, refs: 1 }]);
  });
});
