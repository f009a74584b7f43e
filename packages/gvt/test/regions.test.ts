import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { REGION, REGION_FLAG, REGION_TYPE } from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
const MB = 1024 * 1024;
const { READ, WRITE, MMAP, CAPS } = REGION_FLAG;

describe('region information', () => {
  const rows: readonly (readonly [index: number, flags: number, size: number])[] = [
    [0, READ | WRITE, 16 * MB],
    [1, 0, 0],
    [2, READ | WRITE | MMAP | CAPS, 256 * MB],
    [3, 0, 0],
    [4, 0, 0],
    [5, 0, 0],
    [6, 0, 0],
    [7, READ | WRITE, 4096],
    [8, 0, 0],
    [9, READ | CAPS, 8192],
    [10, READ | WRITE | CAPS, 4096],
  ];
  for (const [index, flags, size] of rows) {
    test(`region ${index}`, () => {
      const guest = new FakeGuest({ apertureMb: 256 });
      const info = guest.device.regionInfo(index);
      assert.deepEqual([info.index, info.flags, info.size, info.offset], [index, flags, size, BigInt(index) << 40n]);
      guest.finish();
    });
  }

  test('BAR2 may be mapped where the vGPU has its slice; types say what the others are', () => {
    const guest = new FakeGuest({ type: 'V5_4' });
    const info = (index: number) => guest.device.regionInfo(index);
    assert.deepEqual(info(REGION.BAR2).areas, [guest.low]);
    assert.deepEqual(info(REGION.OPREGION).type, { type: 0x80008086, subtype: 1 });
    assert.deepEqual(info(REGION.EDID).type, REGION_TYPE.EDID);
    assert.equal(info(REGION.CONFIG).type, undefined);
    guest.finish();
  });

  for (const index of [11, -1, 0.5, Number.NaN]) {
    test(`there is no region ${index}`, () => {
      const guest = new FakeGuest();
      assert.throws(() => guest.device.regionInfo(index), { name: 'GVT_NO_REGION', errno: 'EINVAL' });
      guest.finish();
    });
  }
});

describe('interrupt information', () => {
  test('INTx can be masked, MSI has one vector', () => {
    const guest = new FakeGuest();
    assert.deepEqual(
      [0, 1].map((index) => guest.device.irqInfo(index)),
      [
        { index: 0, flags: 7, count: 1 },
        { index: 1, flags: 9, count: 1 },
      ],
    );
    for (const index of [2, 3, 4, -1, 0.5]) {
      assert.throws(() => guest.device.irqInfo(index), { name: 'GVT_NO_IRQ', errno: 'EINVAL' });
    }
    guest.finish();
  });
});

describe('mmap', () => {
  test('shows what the table leads to at each access', () => {
    const guest = new FakeGuest();
    const window = guest.device.map({ index: REGION.BAR2, offset: guest.low.base, size: 2 * PAGE, shared: true });
    guest.mapPages(guest.low.base, 5, 2);
    guest.poke(5, PAGE - 4, [0x11111111, 0x22222222]);
    const bytes = new Uint8Array(8);
    window.read(PAGE - 4, bytes);
    assert.deepEqual([...bytes], [0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22]);
    guest.mapPages(guest.low.base, 9, 1);
    window.write(0, Uint8Array.of(7));
    assert.deepEqual([guest.peek(9, 0), guest.peek(5, 0)], [7, 0]);
    guest.unmap(9, 1);
    window.read(0, bytes);
    assert.deepEqual([...bytes], [0, 0, 0, 0, 0, 0, 0, 0]);
    guest.finish();
  });

  const refused: readonly (readonly [
    what: string,
    request: (guest: FakeGuest) => { index?: number; offset?: number; size?: number; shared?: boolean },
  ])[] = [
    ['private', () => ({ shared: false })],
    ['BAR0', () => ({ index: REGION.BAR0 })],
    ['config space', () => ({ index: REGION.CONFIG })],
    ['before its slice', ({ low }) => ({ offset: low.base - PAGE })],
    ['over the end of its slice', ({ low }) => ({ offset: low.base + low.size - PAGE, size: 2 * PAGE })],
    ["another's slice", ({ low }) => ({ offset: low.base + low.size })],
    ['nothing', () => ({ size: 0 })],
    ['a negative size', () => ({ size: -PAGE })],
    ['no number', () => ({ size: Number.NaN })],
    ['half a page', () => ({ size: PAGE / 2 })],
    ['from inside a page', ({ low }) => ({ offset: low.base + 1 })],
  ];
  for (const [what, request] of refused) {
    test(`refuses ${what}`, () => {
      const guest = new FakeGuest();
      const whole = { index: REGION.BAR2, offset: guest.low.base, size: PAGE, shared: true, ...request(guest) };
      assert.throws(() => guest.device.map(whole), { name: 'GVT_BAD_MMAP', errno: 'EINVAL' });
      guest.finish();
    });
  }

  test('an access beyond the window is refused', () => {
    const guest = new FakeGuest();
    const window = guest.device.map({ index: REGION.BAR2, offset: guest.low.base, size: PAGE, shared: true });
    for (const [at, length] of [
      [PAGE, 1],
      [PAGE - 3, 4],
      [-1, 1],
    ] as const) {
      const error = { name: 'GVT_FOREIGN_APERTURE', errno: 'EINVAL' };
      assert.throws(() => window.read(at, new Uint8Array(length)), error);
      assert.throws(() => window.write(at, new Uint8Array(length)), error);
    }
    guest.finish();
  });
});
