import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  CURSOR,
  DISPLAY,
  DRM_PLANE,
  fourcc,
  PALETTE,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_OFFSET,
  PLANE_QUERY,
  PLANE_TILING,
  PVINFO,
  yTileOffset,
} from '@pinion/gvt';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
const XR24 = 4 << 24;
const RGBX = 1 << 20;
const ALPHA = 2 << 4;
const INTEL = 1n << 56n;
const TILING_YF = 5 << 10;

interface Mode {
  readonly control?: number;
  readonly stride?: number;
  readonly width?: number;
  readonly height?: number;
}

/** A guest whose screen shows 64 pages at the beginning of its slice; guest frame n stands at page n. */
function show({ control = XR24, stride = 1, width = 16, height = 16 }: Mode = {}): FakeGuest {
  const guest = new FakeGuest();
  guest.mapPages(guest.low.base, 0, 64);
  guest.write32(DISPLAY.TRANSCONF, PIPE_ENABLE);
  guest.write32(DISPLAY.PIPESRC, ((width - 1) << 16) | (height - 1));
  guest.write32(DISPLAY.PLANE_STRIDE, stride);
  guest.write32(DISPLAY.PLANE_CTL, (PLANE_ENABLE | control) >>> 0);
  guest.write32(DISPLAY.PLANE_SURF, guest.low.base);
  return guest;
}

const query = (guest: FakeGuest, planeType: number = DRM_PLANE.PRIMARY) =>
  guest.device.queryPlane({ flags: PLANE_QUERY.DMABUF, planeType });

describe('formats and their pixels', () => {
  /** A dword at the start of the surface, and the RGB of the first two pixels. */
  const formats: readonly (readonly [
    name: string,
    control: number,
    dword: number,
    pixels: readonly (readonly number[])[],
  ])[] = [
    ['XR24', XR24, 0x80123456, [[0x12, 0x34, 0x56]]],
    ['AR24', XR24 | ALPHA, 0x80123456, [[0x12, 0x34, 0x56]]],
    ['XB24', XR24 | RGBX, 0x80123456, [[0x56, 0x34, 0x12]]],
    ['AB24', XR24 | RGBX | ALPHA, 0x80123456, [[0x56, 0x34, 0x12]]],
    ['XR30', 2 << 24, (0x3ff << 20) | (0x200 << 10) | 0x004, [[255, 128, 1]]],
    ['XB30', (2 << 24) | RGBX, (0x3ff << 20) | (0x200 << 10) | 0x004, [[1, 128, 255]]],
    [
      'RG16',
      14 << 24,
      0x07e0f800,
      [
        [255, 0, 0],
        [0, 255, 0],
      ],
    ],
    [
      'C8',
      12 << 24,
      0x0000ff02,
      [
        [0x0a, 0x0b, 0x0c],
        [0x77, 0x88, 0x99],
      ],
    ],
    [
      'YUYV',
      0,
      0x80eb8010,
      [
        [0, 0, 0],
        [255, 255, 255],
      ],
    ],
    [
      'UYVY',
      1 << 16,
      0xeb801080,
      [
        [0, 0, 0],
        [255, 255, 255],
      ],
    ],
    [
      'YVYU',
      2 << 16,
      0x5a51_f051,
      [
        [254, 0, 0],
        [254, 0, 0],
      ],
    ],
    [
      'VYUY',
      3 << 16,
      0x515a_51f0,
      [
        [254, 0, 0],
        [254, 0, 0],
      ],
    ],
  ];
  for (const [name, control, dword, pixels] of formats) {
    test(name, () => {
      const guest = show({ control });
      guest.write32(PALETTE + 2 * 4, 0x0a0b0c);
      guest.write32(PALETTE + 255 * 4, 0x778899);
      guest.poke(0, 0, [dword >>> 0]);
      assert.equal(query(guest).plane?.drmFormat, fourcc(name));
      const { pixels: shown } = guest.device.frame();
      const got = pixels.map((_, index) => [...shown.subarray(index * 4, index * 4 + 3)]);
      assert.deepEqual(got, pixels);
      assert.equal(shown[3], 255);
      guest.finish();
    });
  }

  test('DRM numbers are those of drm_fourcc.h', () => {
    assert.deepEqual(['C8', 'RG16', 'XR24', 'YUYV'].map(fourcc), [0x20203843, 0x36314752, 0x34325258, 0x56595559]);
  });
});

describe('tilings', () => {
  const tilings: readonly (readonly [what: string, control: number, stride: number, modifier: bigint, rows: number])[] =
    [
      ['linear', XR24, 64, 0n, 16],
      ['X', XR24 | PLANE_TILING.X, 512, INTEL + 1n, 16],
      ['Y', XR24 | PLANE_TILING.Y, 128, INTEL + 2n, 32],
      ['Yf', XR24 | TILING_YF, 128, INTEL + 3n, 32],
      ['Yf of bytes', (12 << 24) | TILING_YF, 64, INTEL + 3n, 32],
    ];
  for (const [what, control, stride, modifier, rows] of tilings) {
    test(what, () => {
      const guest = show({ control });
      const { plane } = query(guest);
      assert.deepEqual([plane?.stride, plane?.drmModifier, plane?.size], [stride, modifier, stride * rows]);
      guest.finish();
    });
  }

  test('Yf is described and exported, but not turned into pixels', () => {
    const guest = show({ control: XR24 | TILING_YF });
    assert.throws(() => guest.device.frame(), { name: 'GVT_BAD_PLANE', errno: 'EINVAL' });
    const plane = guest.device.exportPlane();
    assert.equal(plane?.state, 'live');
    assert.throws(() => plane?.frame(), { name: 'GVT_BAD_PLANE', errno: 'EINVAL' });
    plane?.close();
    guest.finish();
  });

  test('an offset moves the picture inside the surface', () => {
    const guest = show({ control: XR24 | PLANE_TILING.Y, stride: 2, height: 40 });
    guest.write32(PLANE_OFFSET, (9 << 16) | 3);
    const place = yTileOffset((5 + 3) * 4, 7 + 9, 256);
    guest.poke(Math.floor(place / PAGE), place % PAGE, [0x00010203]);
    const at = (7 * 16 + 5) * 4;
    assert.deepEqual([...guest.device.frame().pixels.subarray(at, at + 4)], [1, 2, 3, 255]);
    assert.equal(query(guest).plane?.size, 256 * 64);
    guest.write32(PLANE_OFFSET, 49);
    assert.throws(() => guest.device.frame(), { name: 'GVT_BAD_PLANE', errno: 'EINVAL' });
    guest.finish();
  });
});

/** A cursor of 64 by 64 at page 32, one colour. */
function withCursor(guest: FakeGuest, { x, y, color }: { x: number; y: number; color: number }): void {
  const sign = (value: number) => (value < 0 ? 0x8000 | -value : value);
  guest.poke(32, 0, new Array<number>(64 * 64).fill(color >>> 0));
  guest.write32(CURSOR.CONTROL, 0x27);
  guest.write32(CURSOR.BASE, guest.low.base + 32 * PAGE);
  guest.write32(CURSOR.POSITION, ((sign(y) << 16) | sign(x)) >>> 0);
}

describe('the cursor', () => {
  test('lies on the picture, colours multiplied by alpha already, clipped at all sides', () => {
    const guest = show();
    guest.poke(0, 0, new Array<number>(256).fill(0x00c86432));
    withCursor(guest, { x: 8, y: -63, color: 0x80400000 });
    const { pixels } = guest.device.frame();
    const at = (x: number, y: number) => [...pixels.subarray((y * 16 + x) * 4, (y * 16 + x) * 4 + 3)];
    assert.deepEqual(at(7, 0), [0xc8, 0x64, 0x32]);
    assert.deepEqual(at(8, 0), [0x40 + 100, 50, 25]);
    assert.deepEqual(at(15, 0), at(8, 0));
    assert.deepEqual(at(8, 1), at(7, 0));
    guest.finish();
  });

  const modes: readonly (readonly [mode: number, side: number])[] = [
    [0x07, 64],
    [0x27, 64],
    [0x22, 128],
    [0x23, 256],
  ];
  for (const [mode, side] of modes) {
    test(`mode 0x${mode.toString(16)} is ${side} by ${side}`, () => {
      const guest = show();
      withCursor(guest, { x: 3, y: -4, color: 0 });
      guest.write32(CURSOR.CONTROL, mode);
      guest.write32(PVINFO.CURSOR_X_HOT, 5);
      guest.write32(PVINFO.CURSOR_Y_HOT, side);
      const { plane } = query(guest, DRM_PLANE.CURSOR);
      assert.deepEqual(
        [plane?.width, plane?.height, plane?.stride, plane?.size, plane?.drmFormat],
        [side, side, side * 4, side * side * 4, fourcc('AR24')],
      );
      assert.deepEqual([plane?.xPos, plane?.yPos, plane?.xHot, plane?.yHot], [3, -4, 5, side]);
      guest.write32(PVINFO.CURSOR_Y_HOT, side + 1);
      const { plane: cold } = query(guest, DRM_PLANE.CURSOR);
      assert.deepEqual([cold?.xHot, cold?.yHot], [0xffffffff, 0xffffffff]);
      guest.finish();
    });
  }

  test('one that cannot be shown is left out of the picture, and refused when it is asked for', () => {
    const guest = show();
    withCursor(guest, { x: 0, y: 0, color: 0xffffffff });
    guest.write32(CURSOR.CONTROL, 0x04);
    assert.equal(guest.device.frame().pixels[0], 0);
    assert.throws(() => query(guest, DRM_PLANE.CURSOR), { name: 'GVT_BAD_PLANE', errno: 'EINVAL' });
    guest.write32(CURSOR.CONTROL, 0x27);
    guest.write32(CURSOR.BASE, 0);
    assert.equal(guest.device.frame().pixels[0], 0);
    assert.throws(() => query(guest, DRM_PLANE.CURSOR), { name: 'GVT_PLANE_RANGE', errno: 'EFAULT' });
    guest.write32(CURSOR.CONTROL, 0);
    assert.equal(query(guest, DRM_PLANE.CURSOR).plane, undefined);
    guest.finish();
  });
});

describe('a query', () => {
  test('answers nothing, without an error, for what is off and for a probe', () => {
    const guest = show();
    const probe = guest.device.queryPlane({ flags: 3, planeType: DRM_PLANE.PRIMARY });
    assert.deepEqual(probe, { plane: undefined, bufferId: 0 });
    guest.write32(DISPLAY.PLANE_CTL, XR24);
    assert.deepEqual(query(guest), { plane: undefined, bufferId: 0 });
    guest.write32(DISPLAY.TRANSCONF, 0);
    assert.deepEqual(query(guest, DRM_PLANE.CURSOR), { plane: undefined, bufferId: 0 });
    assert.equal(guest.device.exportPlane(), undefined);
    guest.finish();
  });

  test('tells all of a picture', () => {
    const guest = show({ stride: 3, width: 20, height: 10 });
    guest.mapPages(guest.low.base, 7, 1);
    assert.deepEqual(query(guest).plane, {
      type: 'primary',
      start: guest.low.base,
      startGfn: 7,
      size: 1920,
      width: 20,
      height: 10,
      stride: 192,
      drmFormat: fourcc('XR24'),
      drmModifier: 0n,
      xPos: 0,
      yPos: 0,
      xHot: 0,
      yHot: 0,
    });
    guest.finish();
  });

  const refused: readonly (readonly [what: string, flags: number, planeType: number])[] = [
    ['no flags', 0, DRM_PLANE.PRIMARY],
    ['a region', PLANE_QUERY.REGION, DRM_PLANE.PRIMARY],
    ['a probe of nothing', PLANE_QUERY.PROBE, DRM_PLANE.PRIMARY],
    ['a probe of a region', PLANE_QUERY.PROBE | PLANE_QUERY.REGION, DRM_PLANE.PRIMARY],
    ['an unknown flag', PLANE_QUERY.DMABUF | 8, DRM_PLANE.PRIMARY],
    ['an overlay', PLANE_QUERY.DMABUF, DRM_PLANE.OVERLAY],
    ['plane type 3', PLANE_QUERY.DMABUF, 3],
  ];
  for (const [what, flags, planeType] of refused) {
    test(`refuses ${what}`, () => {
      const guest = show();
      assert.throws(() => guest.device.queryPlane({ flags, planeType }), { name: 'GVT_BAD_QUERY', errno: 'EINVAL' });
      guest.finish();
    });
  }
});
