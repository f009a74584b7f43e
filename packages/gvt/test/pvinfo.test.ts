import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { G2V, GTT_OFFSET, PVINFO, REGION } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const MB = 1024 * 1024;

describe('what a guest reads', () => {
  test('what the vGPU owns', () => {
    const guest = new FakeGuest({ type: 'V5_4' });
    const magic = new Uint8Array(8);
    guest.device.readRegion(REGION.BAR0, PVINFO.BASE, magic);
    assert.equal(new DataView(magic.buffer).getBigUint64(0, true), 0x4776544776544776n);
    const words = [PVINFO.VERSION, PVINFO.ID, PVINFO.LOW_BASE, PVINFO.LOW_SIZE, PVINFO.HIGH_BASE, PVINFO.HIGH_SIZE];
    assert.deepEqual(
      [...words, PVINFO.FENCES].map((offset) => guest.read32(offset)),
      [1, 1, 128 * MB, 128 * MB, 896 * MB, 512 * MB, 4],
    );
    assert.deepEqual([guest.read32(PVINFO.CURSOR_X_HOT), guest.read32(PVINFO.CURSOR_Y_HOT)], [0xffffffff, 0xffffffff]);
    guest.finish();
  });

  test('48-bit tables and large pages are announced', () => {
    const guest = new FakeGuest();
    assert.equal(guest.read32(PVINFO.CAPS) & 0b10100, 0b10100);
    guest.finish();
  });
});

describe('what a guest writes', () => {
  const kept = [PVINFO.DISPLAY_READY, PVINFO.CURSOR_X_HOT, PVINFO.CURSOR_Y_HOT, PVINFO.PDP, PVINFO.PDP + 28];
  for (const offset of [...kept, PVINFO.DESCRIPTOR, PVINFO.DESCRIPTOR + 4]) {
    test(`+0x${(offset - PVINFO.BASE).toString(16)} is kept`, () => {
      const guest = new FakeGuest();
      guest.write32(offset, 0x12345678);
      assert.deepEqual([guest.read32(offset), guest.device.failsafe], [0x12345678, undefined]);
      guest.finish();
    });
  }

  const lost = [PVINFO.BASE, PVINFO.CAPS, PVINFO.LOW_SIZE, PVINFO.FENCES, 0x78060, 0x78800, 0x7881c, 0x78860, 0x78ffc];
  for (const offset of lost) {
    test(`+0x${(offset - PVINFO.BASE).toString(16)} is lost`, () => {
      const guest = new FakeGuest();
      const before = guest.read32(offset);
      guest.write32(offset, 0x12345678);
      assert.deepEqual([guest.read32(offset), guest.device.failsafe], [before, undefined]);
      guest.finish();
    });
  }

  test('a thousand lost writes are four lines in the log', () => {
    const guest = new FakeGuest();
    for (let n = 0; n < 1000; n++) guest.write32(PVINFO.CAPS, n);
    assert.equal(guest.log.warnings.length, 4);
    guest.finish();
  });
});

/** A guest whose pages 1..4 are the levels of one table that leads to page 9. */
const start = () => {
  const guest = new FakeGuest();
  for (const [table, next] of [
    [1, 2],
    [2, 3],
    [3, 4],
    [4, 9],
  ] as const)
    guest.poke(table, 0, [next * 4096 + 3, 0]);
  const notify = (message: number, ...pdps: readonly number[]) => {
    for (const [n, pdp] of pdps.entries()) guest.write32(PVINFO.PDP + n * 8, pdp);
    guest.write32(PVINFO.G2V_NOTIFY, message);
  };
  return { guest, notify };
};

describe('notifications', () => {
  test('a 4-level table is shadowed, and goes again', () => {
    const { guest, notify } = start();
    notify(G2V.L4_CREATE, 0x1000);
    const { mms, shadowed, tables, guestPages, mapped } = guest.device.ppgtt.stats;
    assert.deepEqual(
      { mms, shadowed, tables, guestPages, mapped },
      { mms: 1, shadowed: 1, tables: 4, guestPages: 4, mapped: 1 },
    );
    assert.deepEqual([guest.pins.pages, guest.read32(PVINFO.G2V_NOTIFY)], [1, G2V.L4_CREATE]);
    notify(G2V.L4_DESTROY, 0x1000);
    assert.deepEqual([guest.device.ppgtt.stats.tables, guest.pins.pages], [0, 0]);
    guest.finish();
  });

  test('a 3-level table has four roots of directories', () => {
    const { guest, notify } = start();
    notify(G2V.L3_CREATE, 0x3000, 0, 0x3000, 0);
    const { mms, tables, mapped } = guest.device.ppgtt.stats;
    assert.deepEqual({ mms, tables, mapped }, { mms: 1, tables: 2, mapped: 1 });
    notify(G2V.L3_DESTROY, 0x3000, 0, 0x3000, 0);
    assert.equal(guest.device.ppgtt.stats.mms, 0);
    guest.finish();
  });

  test('an announcement is taken back as often as it was made', () => {
    const { guest, notify } = start();
    notify(G2V.L4_CREATE, 0x1000);
    notify(G2V.L4_CREATE, 0x1000);
    notify(G2V.L4_DESTROY, 0x1000);
    assert.equal(guest.device.ppgtt.stats.mms, 1);
    notify(G2V.L4_DESTROY, 0x1000);
    assert.deepEqual([guest.device.ppgtt.stats.mms, guest.log.warnings], [0, []]);
    notify(G2V.L4_DESTROY, 0x1000);
    assert.match(guest.log.warnings.join(), /notification 5 failed/);
    guest.finish();
  });

  test('a table whose root is no memory is refused, and nothing stays', () => {
    const { guest, notify } = start();
    notify(G2V.L4_CREATE, 0x7fff000);
    assert.match(guest.log.warnings.join(), /notification 4 failed/);
    assert.deepEqual([guest.device.ppgtt.stats.mms, guest.device.ppgtt.stats.tables], [0, 0]);
    guest.finish();
  });

  test('a vGPU has as many shadow tables as it was given', () => {
    const guest = new FakeGuest({ ppgtt: { maxTables: 1 } });
    for (const pdp of [0x1000, 0x2000]) {
      guest.write32(PVINFO.PDP, pdp);
      guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
    }
    const { mms, shadowed, tables } = guest.device.ppgtt.stats;
    assert.deepEqual({ mms, shadowed, tables }, { mms: 2, shadowed: 1, tables: 1 });
    guest.poke(1, 0, [0x2003, 0]);
    guest.device.reset();
    guest.write32(PVINFO.PDP, 0x1000);
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
    assert.match(guest.log.warnings.join(), /notification 4 failed/);
    guest.finish();
  });

  for (const message of [G2V.DISPLAY_READY, G2V.EXECLIST_CONTEXT_CREATE, G2V.EXECLIST_CONTEXT_DESTROY]) {
    test(`${message} is ignored`, () => {
      const { guest, notify } = start();
      notify(message);
      assert.deepEqual([guest.log.warnings, guest.device.failsafe], [[], undefined]);
      guest.finish();
    });
  }

  test('one that means nothing is logged', () => {
    const { guest, notify } = start();
    notify(99);
    assert.match(guest.log.warnings.join(), /notification 99 means nothing/);
    guest.finish();
  });

  test('a killed guest leaves its tables announced: close takes everything back', () => {
    const { guest, notify } = start();
    notify(G2V.L4_CREATE, 0x1000);
    notify(G2V.L3_CREATE, 0x3000, 0, 0, 0);
    assert.equal(guest.pins.pages, 1);
    guest.finish();
    assert.deepEqual(guest.log.warnings, []);
  });
});

describe('failsafe', () => {
  for (const offset of [0x78808, 0x7880c, 0x78810, 0x78814]) {
    test(`a write to the reserved word +0x${(offset - PVINFO.BASE).toString(16)} ends all emulation until reset`, () => {
      const { guest, notify } = start();
      guest.write32(offset, 1);
      assert.match(guest.device.failsafe ?? '', /reserved word/);
      notify(G2V.L4_CREATE, 0x1000);
      guest.writeEntry(guest.low.base, 0x5003n);
      guest.write32(PVINFO.CAPS, 77);
      assert.deepEqual([guest.device.ppgtt.stats.mms, guest.pins.pages, guest.read32(PVINFO.CAPS)], [0, 0, 77]);
      assert.deepEqual([guest.readEntry(guest.low.base), guest.readEntry(0)], [0x5003n, 0n]);
      guest.write32(GTT_OFFSET, 5);
      guest.device.reset();
      assert.equal(guest.device.failsafe, undefined);
      notify(G2V.L4_CREATE, 0x1000);
      assert.equal(guest.device.ppgtt.stats.mms, 1);
      guest.finish();
    });
  }
});
