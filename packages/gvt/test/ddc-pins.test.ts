import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakeGuest } from './fake-guest.js';

const PINS = [0xc5010, 0xc5014, 0xc5018, 0xc501c, 0xc5020, 0xc5024];
const PIN_D = 0xc5024;
const [DIRECTION_MASK, OUT, VALUE_MASK, VALUE, IN] = [1, 2, 4, 8, 16];
const DATA = 8;

/** What a driver without a controller does: a line is pulled low, or let go. */
const pull = (guest: FakeGuest, low: boolean, line: number): void =>
  guest.write32(PIN_D, (DIRECTION_MASK | VALUE_MASK | (low ? OUT : 0)) << line);
const level = (guest: FakeGuest, line: number): number => ((guest.read32(PIN_D) >>> line) & IN) / IN;

test('a line is low while it is pulled down, and high when it is let go or driven high', () => {
  const guest = new FakeGuest();
  for (const line of [0, DATA]) {
    assert.equal(level(guest, line), 1, 'nobody pulls');
    pull(guest, true, line);
    assert.equal(level(guest, line), 0);
    pull(guest, false, line);
    assert.equal(level(guest, line), 1);
    guest.write32(PIN_D, (DIRECTION_MASK | OUT | VALUE_MASK | VALUE) << line);
    assert.equal(level(guest, line), 1, 'driven high');
  }
  guest.finish();
});

test('without its mask bit neither direction nor value changes, and mask bits read as zero', () => {
  const guest = new FakeGuest();
  pull(guest, true, DATA);
  guest.write32(PIN_D, (VALUE | OUT) << DATA);
  assert.equal(guest.read32(PIN_D) & 0x1f00, OUT << DATA, 'still low');
  guest.write32(PIN_D, 0);
  assert.equal(level(guest, DATA), 0);
  guest.finish();
});

test('an address that a driver sends bit by bit gets no answer', () => {
  const guest = new FakeGuest();
  const data = (bit: number): void => pull(guest, bit === 0, DATA);
  const clock = (bit: number): void => pull(guest, bit === 0, 0);
  data(0); // start
  clock(0);
  for (let bit = 7; bit >= 0; bit -= 1) {
    data((0xa1 >> bit) & 1);
    clock(1);
    assert.equal(level(guest, 0), 1, 'nobody holds the clock');
    clock(0);
  }
  data(1);
  clock(1);
  assert.equal(level(guest, DATA), 1, 'no acknowledgement');
  guest.finish();
});

test('whatever is written to whichever pin, only lines that are driven low read low', () => {
  const guest = new FakeGuest();
  fc.assert(
    fc.property(
      fc.constantFrom(...PINS),
      fc.array(fc.integer({ min: 0, max: 0xffffffff }), { maxLength: 6 }),
      (pin, values) => {
        for (const value of values) guest.write32(pin, value);
        const word = guest.read32(pin);
        for (const line of [0, DATA]) {
          const bits = word >>> line;
          assert.equal((bits & IN) === 0, (bits & OUT) !== 0 && (bits & VALUE) === 0);
          assert.equal(bits & (DIRECTION_MASK | VALUE_MASK), 0);
        }
      },
    ),
  );
  guest.finish();
});
