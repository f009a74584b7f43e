import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  mergeLoop,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miNoop,
  miStoreDword,
  miUserInterrupt,
  xTileOffset,
  xyColorBlt,
  xySetupClip,
  xySrcCopyBlt,
  yTileOffset,
} from '@pinion/gvt';
import fc from 'fast-check';

const hex = (dwords: readonly number[]): string =>
  dwords.map((dword) => dword.toString(16).padStart(8, '0').toUpperCase()).join(' ');
const screen = { x1: 0, y1: 0, x2: 1920, y2: 1080 };

/** An operation on one word. */
const mergedWord =
  (code: number) =>
  (p: number, s: number, d: number): number => {
    const out = new Uint32Array(1);
    mergeLoop(code)({ pattern: Uint32Array.of(p), source: Uint32Array.of(s), old: Uint32Array.of(d) }, out);
    return out[0] ?? 0;
  };

describe('commands are these dwords', () => {
  const vectors: readonly (readonly [what: string, dwords: readonly number[], expected: string])[] = [
    ['MI_NOOP', miNoop(), '00000000'],
    ['MI_USER_INTERRUPT', miUserInterrupt(), '01000000'],
    ['MI_BATCH_BUFFER_END', miBatchBufferEnd(), '05000000'],
    ['MI_BATCH_BUFFER_START', miBatchBufferStart(0x89abc000), '18800001 89ABC000 00000000'],
    ['MI_BATCH_BUFFER_START, second level', miBatchBufferStart(0x1000, true), '18C00001 00001000 00000000'],
    ['MI_STORE_DWORD_IMM', miStoreDword(0x8000_1004, 0xffff_fffe), '10400002 80001004 00000000 FFFFFFFE'],
    ['MI_FLUSH_DW with a store', miFlushStore(0x0840_0000, 7), '13004002 08400004 00000000 00000007'],
    [
      'XY_COLOR_BLT',
      xyColorBlt({ target: { address: 0x1_2345_6000, pitch: 7680 }, rect: screen, color: 0xff336699 }),
      '54300005 03F01E00 00000000 04380780 23456000 00000001 FF336699',
    ],
    [
      'XY_SRC_COPY_BLT',
      xySrcCopyBlt({
        target: { address: 0x0800_0000, pitch: 7680 },
        rect: screen,
        source: { address: 0x0900_0000, pitch: 7680 },
      }),
      '54F00008 03CC1E00 00000000 04380780 08000000 00000000 00000000 00001E00 09000000 00000000',
    ],
    [
      'XY_SRC_COPY_BLT between tiles, clipped, 565, from a corner',
      xySrcCopyBlt({
        target: { address: 0x2000, pitch: 512, tiled: true },
        rect: { x1: -1, y1: -2, x2: 3, y2: 4 },
        depth: 1,
        rop: 0x66,
        clip: true,
        source: { address: 0x4000, pitch: 1024, tiled: true },
        from: { x: 5, y: 6 },
      }),
      '54F08808 41660080 FFFEFFFF 00040003 00002000 00000000 00060005 00000100 00004000 00000000',
    ],
    ['XY_SETUP_CLIP_BLT', xySetupClip({ x1: 1, y1: 2, x2: 3, y2: 4 }), '40C00001 00020001 00040003'],
  ];
  for (const [what, dwords, expected] of vectors) test(what, () => assert.equal(hex(dwords), expected));
});

describe('raster operations', () => {
  const codes: readonly (readonly [code: number, result: (p: number, s: number, d: number) => number])[] = [
    [0x00, () => 0],
    [0xff, () => -1],
    [0xf0, (p) => p],
    [0xcc, (_p, s) => s],
    [0xaa, (_p, _s, d) => d],
    [0x55, (_p, _s, d) => ~d],
    [0x66, (_p, s, d) => s ^ d],
    [0x5a, (p, _s, d) => p ^ d],
    [0x88, (_p, s, d) => s & d],
    [0xee, (_p, s, d) => s | d],
    [0xe8, (p, s, d) => (p & s) | (p & d) | (s & d)],
  ];
  for (const [code, result] of codes) {
    test(`0x${code.toString(16)}`, () => {
      const operation = mergedWord(code);
      fc.assert(
        fc.property(fc.integer(), fc.integer(), fc.integer(), (p, s, d) =>
          assert.equal(operation(p, s, d) | 0, result(p, s, d) | 0),
        ),
      );
    });
  }

  test('every code is its own truth table', () => {
    for (let code = 0; code < 256; code++) assert.equal(mergedWord(code)(0xf0, 0xcc, 0xaa) & 0xff, code);
  });
});

describe('tiles', () => {
  test('golden offsets', () => {
    assert.equal(xTileOffset(20, 3, 512), 1556);
    assert.equal(yTileOffset(20, 3, 128), 564);
  });

  const further: readonly (readonly [offset: number, expected: number])[] = [
    [xTileOffset(511, 7, 512), 4095],
    [xTileOffset(512, 0, 1024), 4096],
    [xTileOffset(0, 8, 1024), 8192],
    [xTileOffset(513, 9, 1024), 8192 + 4096 + 512 + 1],
    [yTileOffset(127, 31, 128), 4095],
    [yTileOffset(128, 0, 256), 4096],
    [yTileOffset(0, 32, 256), 8192],
  ];
  for (const [offset, expected] of further) test(`offset ${expected}`, () => assert.equal(offset, expected));

  test('every byte of a surface has its own place', () => {
    for (const place of [xTileOffset, yTileOffset]) {
      const seen = new Set<number>();
      for (let y = 0; y < 64; y++) for (let x = 0; x < 1024; x++) seen.add(place(x, y, 1024));
      assert.deepEqual([seen.size, Math.max(...[...seen].slice(-1000))], [65536, 65535]);
    }
  });
});
