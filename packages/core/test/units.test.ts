import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ADDRESS_SPACE_SIZE,
  asIovaFrame,
  formatRange,
  frameAddress,
  frameCount,
  frameRange,
  gpaFrame,
  hex,
  iovaFrame,
  LAST_FRAME,
  PAGE_SIZE,
  pageOffset,
  pagesToBytes,
  rangeHolds,
  rangesOverlap,
  vaddrFrame,
} from '@pinion/core';
import fc from 'fast-check';

const LAST_BYTE = ADDRESS_SPACE_SIZE - 1n;
const frames = fc.maxSafeNat().map((n) => n % (LAST_FRAME + 1));

test('every frame of a 64-bit space survives the way to bytes and back', () => {
  fc.assert(fc.property(frames, (frame) => iovaFrame(frameAddress(frame)) === frame));
});

test('an address is its frame and its offset', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: LAST_BYTE }), (address) => {
      assert.equal(frameAddress(iovaFrame(address)) + BigInt(pageOffset(address)), address);
    }),
  );
});

test('the last page of the address space is an ordinary page', () => {
  assert.equal(iovaFrame(LAST_BYTE), LAST_FRAME);
  assert.equal(vaddrFrame(LAST_BYTE), LAST_FRAME);
  assert.equal(gpaFrame(LAST_BYTE - 4095n), LAST_FRAME);
  assert.equal(pageOffset(LAST_BYTE), PAGE_SIZE - 1);
  assert.equal(frameCount(frameRange(asIovaFrame(LAST_FRAME), 1)), 1);
  assert.equal(formatRange(frameRange(asIovaFrame(LAST_FRAME), 1)), '[0xfffffffffffff000, 0xffffffffffffffff]');
});

test('the whole space has 2^52 frames and 2^64 bytes', () => {
  const whole = { first: 0, last: LAST_FRAME };
  assert.equal(frameCount(whole), 2 ** 52);
  assert.equal(pagesToBytes(2 ** 52), ADDRESS_SPACE_SIZE);
});

test('ranges are closed at both ends', () => {
  const range = frameRange(asIovaFrame(16), 4);
  assert.deepEqual(range, { first: 16, last: 19 });
  const held = [15, 16, 19, 20].map((frame) => rangeHolds(range, frame));
  assert.deepEqual(held, [false, true, true, false]);
});

const overlaps: readonly (readonly [what: string, first: number, last: number, overlap: boolean])[] = [
  ['ends just before', 8, 9, false],
  ['ends at the first frame', 8, 10, true],
  ['lies inside', 12, 13, true],
  ['covers all of it', 0, 100, true],
  ['is the same', 10, 19, true],
  ['begins at the last frame', 19, 30, true],
  ['begins just behind', 20, 30, false],
];
for (const [what, first, last, overlap] of overlaps) {
  test(`a range that ${what} ${overlap ? 'overlaps' : 'does not overlap'}`, () => {
    assert.equal(rangesOverlap({ first: 10, last: 19 }, { first, last }), overlap);
    assert.equal(rangesOverlap({ first, last }, { first: 10, last: 19 }), overlap);
  });
}

test('two ranges overlap exactly when they share a frame', () => {
  const range = fc.tuple(fc.nat(30), fc.nat(5)).map(([first, more]) => ({ first, last: first + more }));
  fc.assert(
    fc.property(range, range, (a, b) => {
      const shared = Array.from({ length: 40 }, (_, frame) => frame).some((f) => rangeHolds(a, f) && rangeHolds(b, f));
      assert.equal(rangesOverlap(a, b), shared);
    }),
  );
});

test('addresses print as hex', () => {
  assert.deepEqual([hex(255), hex(LAST_BYTE), hex(0)], ['0xff', '0xffffffffffffffff', '0x0']);
});
