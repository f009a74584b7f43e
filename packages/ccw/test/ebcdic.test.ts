import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeEbcdic, encodeEbcdic } from '@pinion/ccw';

test('every printable character of ASCII has a code and comes back', () => {
  const all = Array.from({ length: 0x7f - 0x20 }, (_, at) => String.fromCharCode(0x20 + at)).join('');
  assert.equal(decodeEbcdic(encodeEbcdic(all)), all);
  assert.equal(new Set(encodeEbcdic(all)).size, all.length);
});

test('codes as code page 037 has them', () => {
  assert.equal(Buffer.from(encodeEbcdic("AZaz09 .'$[]|")).toString('hex'), 'c1e981a9f0f9404b7d5bbabb4f');
});

test('what has no code is a question mark; zeros vanish', () => {
  assert.equal(decodeEbcdic(encodeEbcdic('a\u20acb')), 'a?b');
  assert.equal(decodeEbcdic(Uint8Array.of(0xc1, 0, 0, 0x05)), 'A?');
});
