import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GDRST, miBatchBufferEnd, xTileOffset, xyColorBlt, xySrcCopyBlt, yTileOffset } from '@pinion/gvt';
import { type Commands, ExeclistGuest, FRAME, OWN_PAGES } from './execlist-guest.js';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
const BYTES = OWN_PAGES * PAGE;
/** Pages 32 and on are the target, those below the source; page 63 is for the batch. */
const HALF = 32 * PAGE;
const BATCH = OWN_PAGES - 1;

/** A guest whose own memory holds something uneven; the batch runs in it. */
function draw(...commands: Commands): {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly error: string | undefined;
} {
  const guest = new ExeclistGuest();
  const read = () => {
    const all = new Uint8Array(BYTES);
    for (let page = 0; page < OWN_PAGES; page++) all.set(guest.pins.page(FRAME.PAGES + page), page * PAGE);
    return all;
  };
  for (let page = 0; page < OWN_PAGES; page++)
    guest.pins
      .page(FRAME.PAGES + page)
      .set(Uint8Array.from({ length: PAGE }, (_, at) => at * 7 + page * 13 + (at >> 6)));
  guest.poke(FRAME.PAGES + BATCH, 0, [...commands, miBatchBufferEnd()].flat());
  const before = read();
  guest.execute(guest.context('bcs'), [0x18800101, BATCH * PAGE, 0]);
  const after = read();
  const error = guest.device.engineError?.toString();
  guest.finish();
  return { before, after, error };
}

const point = (x: number, y: number): number => ((y << 16) | x) >>> 0;
type Tiling = 0 | 1 | 2;
const offset: Readonly<Record<Tiling, (x: number, y: number, pitch: number) => number>> = {
  0: (x, y, pitch) => y * pitch + x,
  1: xTileOffset,
  2: yTileOffset,
};

describe('golden values', () => {
  test('a byte of a tile', () => {
    assert.deepEqual([yTileOffset(20, 3, 128), xTileOffset(20, 3, 512)], [564, 1556]);
  });

  test('a full screen filled and copied', () => {
    const rect = { x1: 0, y1: 0, x2: 1920, y2: 1080 };
    const target = { address: 0x1234_5000_0000, pitch: 7680 };
    assert.deepEqual(
      xyColorBlt({ target, rect, color: 0xff336699 }),
      [0x54300005, 0x03f01e00, 0x00000000, 0x04380780, 0x50000000, 0x1234, 0xff336699],
    );
    assert.deepEqual(
      xySrcCopyBlt({ target, rect, source: { address: 0x5678_6000_0000, pitch: 7680 } }),
      [0x54f00008, 0x03cc1e00, 0x00000000, 0x04380780, 0x50000000, 0x1234, 0x00000000, 0x00001e00, 0x60000000, 0x5678],
    );
  });
});

describe('XY_FAST_COPY_BLT', () => {
  interface Copy {
    readonly to: Tiling;
    readonly from: Tiling;
    readonly depth: number;
  }
  const fast = ({ to, from, depth }: Copy, pitches: readonly [number, number]): number[] => [
    (0x50800008 | (from << 20) | (to << 13)) >>> 0,
    ((depth << 24) | (to === 0 ? pitches[0] : pitches[0] / 4)) >>> 0,
    point(5, 3),
    point(5 + 20, 3 + 40),
    HALF,
    0,
    point(2, 7),
    from === 0 ? pitches[1] : pitches[1] / 4,
    0,
    0,
  ];
  const pixels: readonly (readonly [depth: number, bytes: number])[] = [
    [0, 1],
    [1, 2],
    [3, 4],
    [4, 8],
    [5, 16],
  ];
  for (const to of [0, 1, 2] as const) {
    for (const from of [0, 1, 2] as const) {
      test(`from ${'lxy'[from]} to ${'lxy'[to]}, all depths`, () => {
        for (const [depth, bytes] of pixels) {
          const { before, after, error } = draw(fast({ to, from, depth }, [1024, 512]));
          const expected = before.slice();
          for (let y = 0; y < 40; y++) {
            for (let x = 0; x < 20 * bytes; x++) {
              const source = offset[from](2 * bytes + x, 7 + y, 512);
              expected[HALF + offset[to](5 * bytes + x, 3 + y, 1024)] = before[source] ?? 0;
            }
          }
          assert.deepEqual([error, Buffer.compare(after, expected)], [undefined, 0], `depth ${depth}`);
        }
      });
    }
  }

  const refused: readonly (readonly [what: string, change: (command: number[]) => void])[] = [
    ['Yf target tiles', (command) => change(command, 0, (word) => word | (3 << 13))],
    ['Yf source tiles', (command) => change(command, 0, (word) => word | (3 << 20))],
    ['a reserved depth', (command) => change(command, 1, (word) => word | (2 << 24) | (4 << 24))],
    [
      'a tiled pitch of half a tile',
      (command) => {
        change(command, 0, (word) => word | (1 << 13));
        change(command, 1, () => 0x03000040);
      },
    ],
    [
      'a tiled surface inside a page',
      (command) => {
        change(command, 0, (word) => word | (1 << 20));
        change(command, 8, () => 64);
      },
    ],
  ];
  for (const [what, spoil] of refused) {
    test(`${what}: refused, nothing is drawn`, () => {
      const command = fast({ to: 0, from: 0, depth: 3 }, [1024, 512]);
      spoil(command);
      const { before, after, error } = draw(command);
      assert.match(error ?? '', /^GVT_BAD_COMMAND/);
      assert.equal(Buffer.compare(before, after), 0);
    });
  }
});

function change(command: number[], at: number, how: (word: number) => number): void {
  command[at] = how(command[at] ?? 0) >>> 0;
}

describe('setups', () => {
  const setup = (clip: boolean, rop = 0xf0): number[] => [
    0x40700008,
    ((clip ? 1 << 30 : 0) | (3 << 24) | (rop << 16) | 256) >>> 0,
    point(2, 2),
    point(6, 6),
    HALF,
    0,
    0xbbbbbbbb,
    0x11223344,
    0,
    0,
  ];
  const dword = (bytes: Uint8Array, x: number, y: number) =>
    new DataView(bytes.buffer).getUint32(HALF + y * 256 + x * 4, true);

  test('a pixel, inside the clip rectangle and outside', () => {
    const { after, before } = draw(setup(true), [0x49000000, point(3, 4)], [0x49000000, point(7, 4)]);
    assert.deepEqual([dword(after, 3, 4), dword(after, 7, 4)], [0x11223344, dword(before, 7, 4)]);
  });

  test('scan lines, clipped or not', () => {
    for (const clip of [true, false]) {
      const { after, before } = draw(setup(clip), [0x49400001, point(0, 0), point(10, 4)]);
      for (let y = 0; y < 8; y++)
        for (let x = 0; x < 12; x++) {
          const drawn = x < 10 && y < 4 && (!clip || (x >= 2 && x < 6 && y >= 2 && y < 6));
          assert.equal(dword(after, x, y), drawn ? 0x11223344 : dword(before, x, y));
        }
    }
  });

  test('with an operation', () => {
    const { after, before } = draw(setup(false, 0x5a), [0x49000000, point(1, 1)]);
    assert.equal(dword(after, 1, 1), (dword(before, 1, 1) ^ 0x11223344) >>> 0);
  });

  for (const [what, reset] of [
    ['a reset of the engine', (guest: FakeGuest) => guest.write32(GDRST, 8)],
    ['a reset of the device', (guest: FakeGuest) => guest.device.reset()],
  ] as const) {
    test(`${what} forgets the setup`, () => {
      const guest = new FakeGuest();
      const { base } = guest.low;
      const again = () => {
        guest.mapPages(base + PAGE, 20, 1);
        guest.startRing(base, 10);
      };
      again();
      const setUp = [0x40700008, (3 << 24) | (0xf0 << 16) | 64, 0, 0, base + PAGE, 0, 0, 0x11223344, 0, 0];
      guest.run(setUp, [0x49000000, point(1, 0)]);
      assert.deepEqual([guest.peek(20, 4), guest.device.engineError], [0x11223344, undefined]);
      guest.poke(20, 4, [0]);
      reset(guest);
      again();
      guest.run([0x49000000, point(1, 0)]);
      assert.deepEqual([guest.peek(20, 4), guest.device.engineError?.name], [0, 'GVT_BAD_ADDRESS']);
      guest.finish();
    });
  }

  test('a setup whose operation needs a source is refused when it draws', () => {
    assert.match(draw(setup(false, 0xcc), [0x49000000, point(1, 1)]).error ?? '', /^GVT_BAD_COMMAND/);
  });
});

describe('all operations', () => {
  test('a fill by every code that needs no source, a copy by every one that needs no pattern', () => {
    const row = { x1: 0, y1: 0, x2: 4, y2: 1 };
    const bit = (code: number, p: number, s: number, d: number) => (code >> ((p << 2) | (s << 1) | d)) & 1;
    const combine = (code: number, p: number, s: number, d: number) => {
      let out = 0;
      for (let at = 0; at < 32; at++) out |= bit(code, (p >>> at) & 1, (s >>> at) & 1, (d >>> at) & 1) << at;
      return out >>> 0;
    };
    const codes = Array.from({ length: 256 }, (_, code) => code);
    const fills = codes.filter((code) => [0, 1, 4, 5].every((at) => ((code >> at) & 1) === ((code >> (at + 2)) & 1)));
    const copies = codes.filter((code) => (code & 15) === code >> 4);
    assert.deepEqual([fills.length, copies.length], [16, 16]);
    const at = (index: number) => ({ address: HALF + index * 256, pitch: 256 });
    const color = 0x0f3355aa;
    const commands = [
      ...fills.map((rop, index) => xyColorBlt({ target: at(index), rect: row, rop, color })),
      ...copies.map((rop, index) =>
        xySrcCopyBlt({ target: at(16 + index), rect: row, rop, source: { address: 0, pitch: 256 } }),
      ),
    ];
    const { before, after, error } = draw(...commands);
    assert.equal(error, undefined);
    const view = (bytes: Uint8Array) => new DataView(bytes.buffer);
    for (const [index, code] of [...fills, ...copies].entries()) {
      const target = HALF + index * 256;
      const [p, s] = index < 16 ? [color, 0] : [0, view(before).getUint32(0, true)];
      const expected = combine(code, p, s, view(before).getUint32(target, true));
      assert.equal(view(after).getUint32(target, true), expected, `code 0x${code.toString(16)}`);
    }
  });
});
