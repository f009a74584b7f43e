import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FENCE_BASE, REGION, xTileOffset, yTileOffset } from '@pinion/gvt';
import fc from 'fast-check';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
const PITCH = 512;
const PAGES = 8;

/** Guest frames 0.. at the start of the slice, and fence 1 over `PAGES` pages from page 1 on. */
function start(tiles: 'x' | 'y'): FakeGuest {
  const guest = new FakeGuest();
  guest.mapPages(guest.low.base, 0, PAGES + 2);
  const first = guest.low.base + PAGE;
  guest.write32(FENCE_BASE + 8 + 4, first + (PAGES - 1) * PAGE + (PITCH / 128 - 1));
  guest.write32(FENCE_BASE + 8, first | (tiles === 'y' ? 3 : 1));
  return guest;
}

const byteOf = (guest: FakeGuest, offset: number): number =>
  guest.pins.page(Math.floor(offset / PAGE))[offset % PAGE] ?? -1;

describe('a fence', () => {
  for (const [tiles, offsetOf] of [
    ['x', xTileOffset],
    ['y', yTileOffset],
  ] as const) {
    test(`shows ${tiles.toUpperCase()} tiles as rows, and lets them be written`, () => {
      const guest = start(tiles);
      const bytes = Uint8Array.from({ length: 3 * PITCH }, (_, at) => (at * 7) & 0xff);
      const from = 5 * PITCH + 100;
      guest.device.writeRegion(REGION.BAR2, guest.low.base + PAGE + from, bytes);
      for (const [index, byte] of bytes.entries()) {
        const at = from + index;
        const place = PAGE + offsetOf(at % PITCH, Math.floor(at / PITCH), PITCH);
        assert.equal(byteOf(guest, place), byte, `byte ${at}`);
      }
      const back = new Uint8Array(bytes.length);
      guest.device.readRegion(REGION.BAR2, guest.low.base + PAGE + from, back);
      assert.deepEqual(back, bytes);
      guest.finish();
    });

    test(`every byte of ${tiles.toUpperCase()} tiles has one place`, () => {
      const guest = start(tiles);
      const places = new Set<number>();
      for (let at = 0; at < PAGES * PAGE; at += 61) places.add(offsetOf(at % PITCH, Math.floor(at / PITCH), PITCH));
      assert.equal(places.size, Math.ceil((PAGES * PAGE) / 61));
      guest.finish();
    });
  }

  test('ends where it ends: before and behind, memory is as it lies', () => {
    const guest = start('x');
    const bytes = new Uint8Array((PAGES + 2) * PAGE).map((_, at) => at % 251);
    guest.device.writeRegion(REGION.BAR2, guest.low.base, bytes);
    assert.deepEqual([byteOf(guest, 17), byteOf(guest, PAGE - 1)], [17, (PAGE - 1) % 251]);
    assert.equal(byteOf(guest, PAGE + 512), (PAGE + 512) % 251, 'second row of the first tile: pitch is one tile');
    const behind = (PAGES + 1) * PAGE;
    assert.deepEqual([byteOf(guest, behind), byteOf(guest, behind + 99)], [behind % 251, (behind + 99) % 251]);
    guest.finish();
  });

  test('that is not valid, or was cleared by a reset, changes nothing', () => {
    const guest = start('y');
    guest.write32(FENCE_BASE + 8, guest.low.base + PAGE);
    guest.device.writeRegion(REGION.BAR2, guest.low.base + PAGE + 200, Uint8Array.of(9));
    assert.equal(byteOf(guest, PAGE + 200), 9);
    guest.device.reset();
    assert.equal(guest.read32(FENCE_BASE + 12), 0);
    guest.finish();
  });

  test('what is written through it is read through it, whatever the fences say', () => {
    const words = fc.record({
      low: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      high: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    });
    fc.assert(
      fc.property(
        words,
        fc.integer({ min: 0, max: 9 * PAGE }),
        fc.uint8Array({ minLength: 1, maxLength: 600 }),
        (fence, at, bytes) => {
          const guest = new FakeGuest();
          guest.mapPages(guest.low.base, 0, 64);
          const inside = (value: number) => guest.low.base + (value % (32 * PAGE));
          guest.write32(FENCE_BASE, (inside(fence.low) & ~0xffc) >>> 0);
          guest.write32(FENCE_BASE + 4, (inside(fence.high) & ~0xf00) >>> 0);
          guest.device.writeRegion(REGION.BAR2, guest.low.base + at, bytes);
          const back = new Uint8Array(bytes.length);
          guest.device.readRegion(REGION.BAR2, guest.low.base + at, back);
          const mapped = guest.device.stats.faults === 0;
          if (mapped) assert.deepEqual(back, bytes);
          guest.finish();
        },
      ),
      { numRuns: 60 },
    );
  });
});
