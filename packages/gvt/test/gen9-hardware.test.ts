import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GEN9_HARDWARE } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

/** What a driver writes, and what it then finds where it looks. */
const answers: readonly (readonly [
  what: string,
  writes: readonly (readonly [number, number])[],
  at: number,
  found: number,
])[] = [
  ['render is awake', [[0xa278, 0x0001_0001]], 0x0d84, 1],
  [
    'two wake it, one lets go',
    [
      [0xa278, 0x0001_0001],
      [0xa278, 0x8000_8000],
      [0xa278, 0x0001_0000],
    ],
    0x0d84,
    0x8000,
  ],
  ['the rest is awake', [[0xa188, 0x0001_0001]], 0x130044, 1],
  ['media is awake', [[0xa270, 0x0001_0001]], 0x0d88, 1],
  [
    'media sleeps again',
    [
      [0xa270, 0x0001_0001],
      [0xa270, 0x0001_0000],
    ],
    0x0d88,
    0,
  ],
  ['there is room for writes', [], 0x120008, 0x3f],
  ['a TLB is flushed', [[0x4264, 1]], 0x4264, 0],
  ['slices and subslices', [[0x9120, 0xffffffff]], 0x9120, 0x02800000],
  ['mailbox is free', [[0x138124, 0x8000_0007]], 0x138124, 0],
  ['mailbox: the clock may change', [[0x138124, 0x8000_0007]], 0x138128, 1],
  [
    'mailbox: latencies of the lower levels',
    [
      [0x138128, 0],
      [0x138124, 0x8000_0006],
    ],
    0x138128,
    0x1e1a1100,
  ],
  [
    'mailbox: latencies of the higher levels',
    [
      [0x138128, 1],
      [0x138124, 0x8000_0006],
    ],
    0x138128,
    0x61514b3d,
  ],
  [
    'mailbox: voltages',
    [
      [0x138128, 4],
      [0x138124, 0x8000_0005],
    ],
    0x138128,
    5,
  ],
  [
    'mailbox: a command that nobody knows',
    [
      [0x138128, 4],
      [0x138124, 0x8000_00f0],
    ],
    0x138128,
    4,
  ],
  ['fuses are read', [], 0x42000, 0x8e000000],
  ['power wells are on', [[0x45404, 0xffffffff]], 0x45404, 0xf00003ff],
  [
    'power wells are off',
    [
      [0x45404, 0xffffffff],
      [0x45404, 0],
    ],
    0x45404,
    0,
  ],
  ['display buffer has power', [[0x45008, 0x8000_0010]], 0x45008, 0xc0000010],
  ['display buffer has none', [[0x45008, 0x4000_0010]], 0x45008, 0x10],
  ['a PLL is locked', [[0x46010, 0x8000_0001]], 0x46010, 0xc0000000],
  ['no PLL is locked', [], 0x6c060, 0],
  [
    'the first and the third are',
    [
      [0x46010, 0x8000_0000],
      [0x46040, 0x8000_0000],
    ],
    0x6c060,
    0x10001,
  ],
  [
    'all are',
    [
      [0x46010, 0x8000_0000],
      [0x46014, 0x8000_0000],
      [0x46040, 0x8000_0000],
      [0x46060, 0x8000_0000],
    ],
    0x6c060,
    0x01010101,
  ],
  ['a port that is off is idle', [[0x64300, 0]], 0x64300, 0x80],
  ['a port that is on is not', [[0x64300, 0x8000_0082]], 0x64300, 0x80000002],
  ['the idle pattern was sent', [[0x64340, 0x8000_0200]], 0x64344, 1 << 25],
  ['the status of a link is not written', [[0x64344, 0x0200_0000]], 0x64344, 0],
  ['a panel is on', [[0xc7204, 1]], 0xc7200, 0x80000008],
  [
    'a panel is off',
    [
      [0xc7204, 1],
      [0xc7204, 0],
    ],
    0xc7200,
    0,
  ],
];

describe('what a driver waits for', () => {
  for (const [what, writes, at, found] of answers) {
    test(what, () => {
      const guest = new FakeGuest();
      for (const [offset, value] of writes) guest.write32(offset, value);
      assert.equal(guest.read32(at), found);
      guest.finish();
    });
  }

  test('a reset takes everything back', () => {
    const guest = new FakeGuest();
    for (const [, writes] of answers) for (const [offset, value] of writes) guest.write32(offset, value);
    guest.device.reset();
    assert.deepEqual(
      [0x0d84, 0x45404, 0x6c060, 0xc7200].map((offset) => guest.read32(offset)),
      [0, 0, 0, 0],
    );
    guest.finish();
  });

  test('every register is named once', () => {
    const offsets = GEN9_HARDWARE.map(({ offset }) => offset);
    assert.equal(new Set(offsets).size, offsets.length);
  });
});
