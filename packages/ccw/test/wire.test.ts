import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Ccw,
  commandOrb,
  decodeCcw,
  decodeCcw0,
  decodeExtent,
  decodeIrb,
  decodeLocate,
  decodeOrb,
  encodeCcw,
  encodeExtent,
  encodeIrb,
  encodeLocate,
  encodeOrb,
  movesData,
  ORB,
} from '@pinion/ccw';
import fc from 'fast-check';

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });

test('an ORB is three big-endian words', () => {
  assert.equal(hex(encodeOrb({ intparm: 0xabcd, word1: 0x00c2_8000, cpa: 0x1000 })), '0000abcd00c2800000001000');
  assert.equal(commandOrb(8, ORB.SUSPEND).word1, 0x08c2_ff00);
});

test('G.8: the program that reads 8 blocks from block 100', () => {
  const extent = { permission: 1, blockSize: 512, locator: 100, begin: 0, end: 7 };
  assert.equal(hex(encodeExtent(extent)), '40000200000000640000000000000007');
  assert.equal(hex(encodeLocate({ operation: 6, count: 8, block: 0 })), '0600000800000000');
  const read: Ccw = { command: 0x42, flags: 0, count: 4096, address: 0x5000 };
  assert.equal(hex(encodeCcw(read)), '4200100000005000');
  assert.equal(hex(encodeCcw({ command: 0x63, flags: 0x40, count: 16, address: 0x2000 })), '6340001000002000');
});

test('every command ending in 8 is a TIC in format 0, and loses flags and count', () => {
  for (const first of ['08', '18', '78', 'f8'])
    assert.deepEqual(decodeCcw0(bytes(`${first}000100 ff00ffff`)), { command: 8, flags: 0, count: 0, address: 0x100 });
  assert.deepEqual(decodeCcw0(bytes('e4001000 60000007')), { command: 0xe4, flags: 0x60, count: 7, address: 0x1000 });
});

test('an IRB carries sense bytes exactly after a unit check', () => {
  const end = { word0: 0x0080_4017, cpa: 8, deviceStatus: 0x0e, channelStatus: 0, count: 16 };
  const sense = bytes(`8002${'00'.repeat(30)}`);
  const block = encodeIrb({ ...end, sense });
  assert.equal(hex(block), `00824017000000080e0000100080000001200000${'00'.repeat(12)}8002${'00'.repeat(62)}`);
  assert.deepEqual(decodeIrb(block), { ...end, word0: 0x0082_4017, sense });
  assert.equal(hex(encodeIrb(end).subarray(0, 20)), '00804017000000080e0000100080000000000000');
});

const moves: readonly (readonly [what: string, ccw: Partial<Ccw>, moves: boolean])[] = [
  ['a read', { command: 0x02 }, true],
  ['NOP', { command: 0x03 }, false],
  ['another control command', { command: 0x07 }, true],
  ['count 0', { command: 0x02, count: 0 }, false],
  ['a read that skips', { command: 0x02, flags: 0x10 }, false],
  ['a read backward that skips', { command: 0x0c, flags: 0x10 }, false],
  ['a sense that skips', { command: 0xe4, flags: 0x10 }, false],
  ['a write with the skip flag', { command: 0x01, flags: 0x10 }, true],
];
for (const [what, ccw, expected] of moves)
  test(`${what} ${expected ? 'moves' : 'moves no'} data`, () => {
    assert.equal(movesData({ command: 2, flags: 0, count: 1, address: 0, ...ccw }), expected);
  });

test('what is encoded is decoded', () => {
  fc.assert(
    fc.property(u32, u32, u32, fc.integer({ min: 0, max: 0xffff }), (a, b, c, count) => {
      assert.deepEqual(decodeOrb(encodeOrb({ intparm: a, word1: b, cpa: c })), { intparm: a, word1: b, cpa: c });
      const ccw = { command: a & 0xff, flags: b & 0xff, count, address: c };
      assert.deepEqual(decodeCcw(encodeCcw(ccw)), ccw);
      const extent = { permission: a & 3, blockSize: count, locator: a, begin: b, end: c };
      assert.deepEqual(decodeExtent(encodeExtent(extent)), extent);
      const locate = { operation: a & 15, count, block: b };
      assert.deepEqual(decodeLocate(encodeLocate(locate)), locate);
    }),
  );
});
