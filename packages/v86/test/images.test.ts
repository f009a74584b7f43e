import assert from 'node:assert/strict';
import test from 'node:test';
import { checkImage } from '@pinion/v86';
import fc from 'fast-check';
import { DEVICES_IMAGE } from './pc.js';

const RAM = 4 << 20;
const changed = (change: (view: DataView) => void): Uint8Array => {
  const image = DEVICES_IMAGE.slice();
  change(new DataView(image.buffer));
  return image;
};
const view = new DataView(DEVICES_IMAGE.buffer);
const PROGRAM_HEADER = view.getUint32(28, true);
const HEADER =
  Array.from({ length: 2048 }, (_, n) => n * 4).find((at) => view.getUint32(at, true) === 0x1bad_b002) ?? 0;

test('the guests of this package can be booted', () => {
  checkImage(DEVICES_IMAGE, RAM);
});

const bad: readonly (readonly [what: string, image: Uint8Array, problem: RegExp])[] = [
  ['nothing', new Uint8Array(0), /0 bytes are less than an ELF header/],
  ['a text', new TextEncoder().encode('#!/bin/sh\n'.repeat(20)), /no ELF file/],
  ['64 bits', changed((v) => v.setUint8(4, 2)), /no 32-bit little-endian/],
  ['big endian', changed((v) => v.setUint8(5, 2)), /no 32-bit little-endian/],
  ['another CPU', changed((v) => v.setUint16(18, 40, true)), /another CPU/],
  ['a shared object', changed((v) => v.setUint16(16, 3, true)), /no executable/],
  ['no multiboot header', changed((v) => v.setUint32(HEADER, 0, true)), /no multiboot header/],
  ['a wrong checksum', changed((v) => v.setUint32(HEADER + 8, 1, true)), /no multiboot header/],
  [
    'a wish for its own address table',
    changed((v) => {
      v.setUint32(HEADER + 4, 0x10000, true);
      v.setInt32(HEADER + 8, -(0x1bad_b002 + 0x10000), true);
    }),
    /asks for 0x10000/,
  ],
  ['a header behind the first 8 KiB', late(), /no multiboot header/],
  ['cut in its program headers', DEVICES_IMAGE.subarray(0, PROGRAM_HEADER + 8), /no multiboot header|cut off/],
  ['cut in its segment', DEVICES_IMAGE.subarray(0, 9000), /cut off: the segment for 0x100000/],
  [
    'program headers far away',
    changed((v) => v.setUint32(28, 0xffff_fff0, true)),
    /program headers are not in the file/,
  ],
  ['headers of an odd size', changed((v) => v.setUint16(42, 56, true)), /odd size/],
  ['no segment', changed((v) => v.setUint32(PROGRAM_HEADER, 4, true)), /nothing to load/],
  ['a segment below 1 MiB', changed((v) => v.setUint32(PROGRAM_HEADER + 12, 0x7000, true)), /below 1 MiB/],
  ['a segment beyond RAM', changed((v) => v.setUint32(PROGRAM_HEADER + 12, RAM - 8192, true)), /ends beyond RAM/],
  [
    'a segment over the end of 32 bits',
    changed((v) => v.setUint32(PROGRAM_HEADER + 20, 0xffff_ffff, true)),
    /beyond RAM/,
  ],
  [
    'more in the file than in memory',
    changed((v) => v.setUint32(PROGRAM_HEADER + 20, 16, true)),
    /more bytes in the file/,
  ],
  ['an entry where nothing is', changed((v) => v.setUint32(24, 0x20_0000, true)), /begins at 0x200000/],
];
for (const [what, image, problem] of bad) {
  test(`no kernel: ${what}`, () => {
    assert.throws(() => checkImage(image, RAM), { name: 'V86_BAD_IMAGE', errno: 'EINVAL', message: problem });
  });
}

/** Its header is the first thing in an image that begins later than loaders look. */
function late(): Uint8Array {
  const image = new Uint8Array(DEVICES_IMAGE.length + 8192);
  image.set(DEVICES_IMAGE.subarray(0, 52));
  image.set(DEVICES_IMAGE.subarray(52), 52 + 8192);
  return image;
}

test('whatever bytes come: a kernel or V86_BAD_IMAGE, never another error', () => {
  const junk = fc.array(fc.record({ at: fc.nat(DEVICES_IMAGE.length - 1), value: fc.nat(255) }), { maxLength: 12 });
  fc.assert(
    fc.property(junk, fc.nat(DEVICES_IMAGE.length), (bytes, length) => {
      const image = DEVICES_IMAGE.slice();
      for (const { at, value } of bytes) image[at % 128] = value;
      try {
        checkImage(image.subarray(0, length), RAM);
      } catch (cause) {
        assert.equal(cause instanceof Error && cause.name, 'V86_BAD_IMAGE');
      }
    }),
    { numRuns: 300 },
  );
});
