import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asIovaFrame, frameRange } from '@pinion/core';
import { G2V, PVINFO, REGION } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

/** Guest frame 512 is the first page of a 2 MiB entry of a per-process table, and behind the first page of the low slice. */
const LARGE = 512;

const start = (first: 'small' | 'large') => {
  const guest = new FakeGuest({ pages: 2048 });
  guest.poke(1, 0, [0x2003, 0]);
  guest.poke(2, 0, [0x3003, 0]);
  guest.poke(3, 0, [LARGE * 4096 + 0x83, 0]);
  const small = () => guest.writeEntry(guest.low.base, BigInt(LARGE * 4096 + 3));
  if (first === 'small') small();
  guest.write32(PVINFO.PDP, 0x1000);
  guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_CREATE);
  if (first === 'large') small();
  const lead = () => guest.device.ggtt.hostEntry(guest.low.base / 4096)?.dma;
  return { guest, lead };
};

describe('a page that a small entry of one table and a large entry of another lead to', () => {
  for (const first of ['small', 'large'] as const) {
    test(`the ${first} one first: one mapping, which goes whole when any page of it goes`, () => {
      const { guest, lead } = start(first);
      assert.deepEqual([guest.device.stats.cacheEntries, guest.device.stats.cachePages], [1, 512]);
      guest.write32(guest.low.base, 5, REGION.BAR2);
      const range = frameRange(asIovaFrame(LARGE + 100), 1);
      guest.device.dmaUnmap(range);
      guest.pins.giveUp(range);
      assert.deepEqual([guest.device.stats.cacheEntries, guest.pins.pages, lead()], [0, 0, undefined]);
      assert.equal(guest.read32(guest.low.base, REGION.BAR2), 0, 'nothing leads to a page that is not held');
      guest.writeEntry(guest.low.base, BigInt(LARGE * 4096 + 3));
      assert.deepEqual([guest.pins.count(asIovaFrame(LARGE)), guest.read32(guest.low.base, REGION.BAR2)], [1, 5]);
      guest.finish();
    });
  }

  test('each drops its own reference', () => {
    const { guest, lead } = start('small');
    guest.write32(PVINFO.G2V_NOTIFY, G2V.L4_DESTROY);
    assert.deepEqual([guest.device.stats.cacheEntries, lead()], [1, guest.pins.hostFrame(LARGE)]);
    guest.writeEntry(guest.low.base, 0n);
    assert.deepEqual([guest.device.stats.cacheEntries, guest.pins.pages], [0, 0]);
    guest.finish();
  });
});
