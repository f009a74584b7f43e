import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BCS_SWCTRL, type Depth, type Rect, SWCTRL, xyColorBlt, xySetupClip, xySrcCopyBlt } from '@pinion/gvt';
import fc from 'fast-check';
import { FakeGuest } from './fake-guest.js';

const PAGE = 4096;
/** Guest pages of the drawing area; the ring stands behind them. */
const PAGES = 40;
const RING = PAGES;
/** The page of a pattern in memory, behind the ring's in graphics memory, too. */
const PATTERN = PAGES + 1;
/** The area begins inside the slice, so that what runs out of it meets pages with nothing behind them. */
const AREA = 1024 * 1024;

/** Something uneven. */
const BEFORE = Uint8Array.from({ length: PAGES * PAGE }, (_, at) => at * 31 + (at >> 8));

/** The area in a scattered order of host pages, and a ring. */
function start(): FakeGuest {
  const guest = new FakeGuest({ pages: PAGES + 3, place: (gfn) => (gfn * 7) % (PAGES + 3) });
  guest.mapPages(guest.low.base + AREA, 0, PAGES);
  guest.startRing(guest.high.base, RING);
  guest.mapPages(guest.high.base + PAGE, PATTERN, 1);
  return guest;
}

function fillArea(guest: FakeGuest): void {
  for (let gfn = 0; gfn < PAGES; gfn++) guest.pins.page(gfn).set(BEFORE.subarray(gfn * PAGE, (gfn + 1) * PAGE));
}

function readArea(guest: FakeGuest): Uint8Array {
  const all = new Uint8Array(PAGES * PAGE);
  for (let gfn = 0; gfn < PAGES; gfn++) all.set(guest.pins.page(gfn), gfn * PAGE);
  return all;
}

interface Spec {
  /** Byte offset of the surface in the area. */
  readonly at: number;
  readonly pitch: number;
  readonly tiled: boolean;
  /** Tiles are Y tiles: BCS_SWCTRL says so. */
  readonly yTiles?: boolean;
}
/** Eight by eight pixels: in memory, in the command, or two colours. */
interface PatternSpec {
  readonly kind: 'memory' | 'immediate' | 'mono' | 'transparent';
  readonly bytes: Uint8Array;
  readonly seedX: number;
  readonly seedY: number;
  readonly background: number;
}
interface Job {
  readonly target: Spec;
  readonly source?: Spec;
  readonly from: { readonly x: number; readonly y: number };
  readonly rect: Rect;
  readonly clip?: Rect | undefined;
  readonly depth: Depth;
  readonly rop: number;
  readonly color: number;
  /** Header bits 21:20. */
  readonly write: number;
  readonly pattern?: PatternSpec;
}

const BYTES = [1, 2, 2, 4] as const;

/** Where a byte of a surface lies, said the slow way. */
function place({ at, pitch, tiled, yTiles }: Spec, x: number, y: number): number {
  if (!tiled) return at + y * pitch + x;
  if (yTiles) {
    const tile = Math.floor(y / 32) * (pitch / 128) + Math.floor(x / 128);
    return at + tile * PAGE + Math.floor((x % 128) / 16) * 512 + (y % 32) * 16 + (x % 16);
  }
  const tile = Math.floor(y / 8) * (pitch / 512) + Math.floor(x / 512);
  return at + tile * PAGE + (((y % 8) + 8) % 8) * 512 + (((x % 512) + 512) % 512);
}

/** A byte of the pattern at a pixel of the target; undefined: nothing is drawn there. */
function patternByte({ color, depth, pattern }: Job, at: { x: number; y: number; byte: number }): number | undefined {
  const solid = (color >>> (at.byte * 8)) & 0xff;
  if (pattern === undefined) return solid;
  const [column, row] = [(at.x + pattern.seedX) & 7, (at.y + pattern.seedY) & 7];
  if (pattern.kind === 'memory' || pattern.kind === 'immediate')
    return pattern.bytes[(row * 8 + column) * BYTES[depth] + at.byte] ?? 0;
  if ((((pattern.bytes[row] ?? 0) >> (7 - column)) & 1) === 1) return solid;
  return pattern.kind === 'transparent' ? undefined : (pattern.background >>> (at.byte * 8)) & 0xff;
}

/** One bit at a time: pixel by pixel, the source as it was before. */
function reference(before: Uint8Array, job: Job): Uint8Array {
  const after = before.slice();
  const bytes = BYTES[job.depth];
  for (let y = job.rect.y1; y < job.rect.y2; y++) {
    for (let x = job.rect.x1; x < job.rect.x2; x++) {
      const { clip } = job;
      if (clip && (x < clip.x1 || x >= clip.x2 || y < clip.y1 || y >= clip.y2)) continue;
      for (let byte = 0; byte < bytes; byte++) {
        if (bytes === 4 && (byte === 3 ? job.write & 2 : job.write & 1) === 0) continue;
        const to = place(job.target, x * bytes + byte, y);
        if (to < 0 || to >= after.length) continue;
        const sx = (job.from.x + x - job.rect.x1) * bytes + byte;
        const s = job.source ? (before[place(job.source, sx, job.from.y + y - job.rect.y1)] ?? 0) : 0;
        const p = patternByte(job, { x, y, byte });
        if (p === undefined) continue;
        const d = before[to] ?? 0;
        let out = 0;
        for (let bit = 0; bit < 8; bit++) {
          const row = (((p >> bit) & 1) << 2) | (((s >> bit) & 1) << 1) | ((d >> bit) & 1);
          out |= ((job.rop >> row) & 1) << bit;
        }
        after[to] = out;
      }
    }
  }
  return after;
}

/** The commands of a job for a guest. */
function commands(guest: FakeGuest, job: Job): number[][] {
  const surface = ({ at, pitch, tiled }: Spec) => ({ address: guest.low.base + AREA + at, pitch, tiled });
  const common = {
    target: surface(job.target),
    rect: job.rect,
    depth: job.depth,
    rop: job.rop,
    clip: job.clip !== undefined,
  };
  const blit = job.source
    ? xySrcCopyBlt({ ...common, source: surface(job.source), from: job.from })
    : xyColorBlt({ ...common, color: job.color });
  blit[0] = (((blit[0] ?? 0) & ~(3 << 20)) | (job.write << 20)) >>> 0;
  const tiles = (job.source?.yTiles ? SWCTRL.SOURCE_Y : 0) | (job.target.yTiles ? SWCTRL.TARGET_Y : 0);
  const control = [0x11000001, BCS_SWCTRL, 0x30000 | tiles];
  return [control, ...(job.clip ? [xySetupClip(job.clip)] : []), patterned(guest, job, blit)];
}

/** The colour blit as a pattern blit: another opcode, and the pattern instead of the colour. */
function patterned(guest: FakeGuest, { pattern, color }: Job, blit: readonly number[]): number[] {
  if (pattern === undefined) return [...blit];
  const { kind, bytes, seedX, seedY, background } = pattern;
  const dwords = [...new Uint32Array(bytes.slice().buffer)];
  const operands = {
    memory: [guest.high.base + PAGE, 0],
    immediate: dwords,
    mono: [background, color, ...dwords.slice(0, 2)],
    transparent: [background, color, ...dwords.slice(0, 2)],
  }[kind];
  guest.pins.page(PATTERN).set(bytes);
  const opcode = { memory: 0x51, immediate: 0x72, mono: 0x52, transparent: 0x52 }[kind];
  const length = 6 + operands.length;
  const [header = 0, control = 0, ...rest] = blit;
  const first = (header & 0x00300800) | ((2 << 29) | (opcode << 22) | (seedX << 12) | (seedY << 8) | (length - 2));
  return [first >>> 0, (control | (kind === 'transparent' ? 1 << 28 : 0)) >>> 0, ...rest.slice(0, 4), ...operands];
}

function check(guest: FakeGuest, job: Job): void {
  fillArea(guest);
  guest.run(...commands(guest, job));
  assert.equal(guest.device.engineError, undefined);
  assert.equal(Buffer.compare(readArea(guest), reference(BEFORE, job)), 0);
}

/** Runs many jobs on one guest, which must end with nothing. */
function checkAll(jobs: fc.Arbitrary<Job>): void {
  const guest = start();
  fc.assert(
    fc.property(jobs, (job) => check(guest, job)),
    { numRuns: 150 },
  );
  guest.finish();
}

const linear = fc.record({
  at: fc.integer({ min: 0, max: 60_000 }),
  pitch: fc.integer({ min: 320, max: 2048 }),
  tiled: fc.constant(false),
});
const tiled = fc.record({
  at: fc.integer({ min: 0, max: 10 }).map((page) => page * PAGE),
  pitch: fc.integer({ min: 1, max: 4 }).map((tiles) => tiles * 512),
  tiled: fc.constant(true),
});
const yTiled = fc.record({
  at: fc.integer({ min: 0, max: 10 }).map((page) => page * PAGE),
  pitch: fc.integer({ min: 2, max: 8 }).map((tiles) => tiles * 128),
  tiled: fc.constant(true),
  yTiles: fc.constant(true),
});
const surface = fc.oneof(linear, tiled, yTiled);
const rect = fc
  .record({
    x1: fc.integer({ min: 0, max: 40 }),
    y1: fc.integer({ min: 0, max: 30 }),
    w: fc.integer({ min: 0, max: 80 }),
    h: fc.integer({ min: 0, max: 30 }),
  })
  .map(({ x1, y1, w, h }) => ({ x1, y1, x2: x1 + w, y2: y1 + h }));
const depth = fc.constantFrom<Depth[]>(0, 1, 2, 3);
const write = fc.constantFrom(3, 3, 3, 1, 2, 0);
const point = fc.record({ x: fc.integer({ min: 0, max: 40 }), y: fc.integer({ min: 0, max: 30 }) });
const fill = fc.record({
  target: surface,
  from: fc.constant({ x: 0, y: 0 }),
  rect,
  clip: fc.option(rect, { nil: undefined }),
  depth,
  rop: fc.constantFrom(0xf0, 0x00, 0xff, 0x55, 0x5a, 0xaa, 0xa0),
  color: fc.nat(0xffffffff),
  write,
});
const copyRop = fc.constantFrom(0xcc, 0xcc, 0x00, 0xff, 0x55, 0x66, 0x88, 0xee, 0x33);

const pattern = fc.record({
  kind: fc.constantFrom('memory' as const, 'immediate' as const, 'mono' as const, 'transparent' as const),
  seedX: fc.nat(7),
  seedY: fc.nat(7),
  background: fc.nat(0xffffffff),
  seed: fc.nat(255),
});

describe('pixels are those of a naive blitter', () => {
  test('fills', () => checkAll(fill));

  test('fills with patterns: in memory, in the command, of two colours, of one colour and nothing', () => {
    const job = fc.tuple(fill, pattern).map(([one, { seed, ...rest }]) => {
      const bytes = Uint8Array.from({ length: 64 * BYTES[one.depth] }, (_, at) => at * 37 + seed);
      return { ...one, pattern: { ...rest, bytes } };
    });
    checkAll(job);
  });

  test('copies between any two surfaces, also overlapping ones', () => {
    checkAll(fc.record({ ...fillParts(), source: surface, from: point, rop: copyRop }));
  });

  test('copies inside one surface are memmove', () => {
    const copy = fc.record({ ...fillParts(), from: point, rop: copyRop });
    checkAll(copy.map((job) => ({ ...job, source: job.target })));
  });
});

/** The parts that fills and copies share. */
function fillParts() {
  return {
    target: surface,
    rect,
    clip: fc.option(rect, { nil: undefined }),
    depth,
    color: fc.constant(0),
    write,
  };
}

const base: Job = {
  target: { at: 0, pitch: 256, tiled: false },
  from: { x: 0, y: 0 },
  rect: { x1: 0, y1: 0, x2: 64, y2: 64 },
  depth: 3,
  rop: 0xcc,
  color: 0,
  write: 3,
};
const linearAt = (at: number, pitch = 256): Spec => ({ at, pitch, tiled: false });

describe('particular copies', () => {
  const jobs: readonly (readonly [what: string, job: Partial<Job>])[] = [
    ['one row down', { source: linearAt(0), target: linearAt(256) }],
    ['one row up', { source: linearAt(256), target: linearAt(0) }],
    ['one byte right at 8 bpp', { source: linearAt(0), target: linearAt(1), depth: 0 }],
    ['one byte left at 8 bpp', { source: linearAt(1), target: linearAt(0), depth: 0 }],
    ['onto itself', { source: linearAt(0) }],
    ['onto itself with another pitch', { source: linearAt(0, 512) }],
    ['rows longer than the pitch', { source: linearAt(512, 100), target: linearAt(0, 100) }],
    ['negative pitch on both sides', { source: linearAt(64_000, -256), target: linearAt(64_256, -256) }],
    ['from a negative corner', { source: linearAt(9000), from: { x: -3, y: -4 } }],
    ['to a negative corner', { source: linearAt(0), target: linearAt(9000), rect: { x1: -5, y1: -6, x2: 9, y2: 9 } }],
    ['out of the mapped pages on both sides', { source: linearAt(PAGES * PAGE - 3000), target: linearAt(-5000) }],
    [
      'a tile row to the next',
      { source: tiledAt(0), target: tiledAt(0), from: { x: 0, y: 0 }, rect: { x1: 3, y1: 5, x2: 99, y2: 40 } },
    ],
  ];
  for (const [what, job] of jobs) {
    test(what, () => {
      const guest = start();
      check(guest, { ...base, ...job });
      guest.finish();
    });
  }
});

function tiledAt(at: number): Spec {
  return { at, pitch: 512, tiled: true };
}
