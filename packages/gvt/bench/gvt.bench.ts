/** The blitter. Pins cost nothing here; with PINION_BENCH_JSON the rows also go to that file. */
import { appendFileSync } from 'node:fs';
import { type Clock, silentLog } from '@pinion/core';
import { BCS, BCS_SWCTRL, createGvtDriver, GTT_OFFSET, REGION, SWCTRL, xyColorBlt, xySrcCopyBlt } from '@pinion/gvt';
import { freePins, unused } from './free-pins.js';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);

/** One line of the table; `yardstick` is the same work without this driver, in the same run. */
interface Row {
  readonly case: string;
  readonly operation: string;
  readonly value: number;
  readonly unit: 'MB/s';
  readonly yardstick?: number;
}

function milliseconds(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const median = (rounds: number, run: () => void): number =>
  middle(Array.from({ length: rounds }, () => milliseconds(run)));

const SCREEN = { width: 1920, height: 1080, pitch: 7680 };
const SCREEN_BYTES = SCREEN.pitch * SCREEN.height;
/** Rows of whole Y tiles. */
const TILED_ROWS = 1088;

/** A vGPU with two screens mapped at the start of its high slice. */
function startVgpu() {
  const screenPages = (SCREEN.pitch * TILED_ROWS) / 4096;
  const memory = new Uint8Array((2 * screenPages + 1) * 4096);
  const queue: (() => void)[] = [];
  const clock: Clock = {
    now: () => 0,
    after: (_delay, action) => {
      queue.push(action);
      return () => {};
    },
  };
  const driver = createGvtDriver();
  const dma = { read: unused, write: unused };
  driver.create({ name: 'bench', type: 'V5_8', parent: 'gpu', dma, clock, log: silentLog, pins: freePins(memory) });
  const device = driver.device('bench') ?? unused();
  device.open();
  const { base } = device.resources.high;
  const write = (offset: number, words: readonly number[]) =>
    device.writeRegion(REGION.BAR0, offset, new Uint8Array(Uint32Array.from(words).buffer));
  for (let page = 0; page <= 2 * screenPages; page++)
    write(GTT_OFFSET + (base / 4096 + page) * 8, [(page << 12) | 3, 0]);
  const ring = 2 * screenPages;
  const run = (dwords: readonly number[]) => {
    write(BCS.CTL, [0]);
    new Uint32Array(memory.buffer, ring * 4096, dwords.length).set(dwords);
    for (const [register, value] of [
      [BCS.HEAD, 0],
      [BCS.START, base + ring * 4096],
      [BCS.TAIL, Math.ceil(dwords.length / 2) * 8],
      [BCS.CTL, 1],
    ] as const)
      write(register, [value]);
    for (let action = queue.shift(); action; action = queue.shift()) action();
    if (device.engine !== 'idle') unused();
  };
  return { run, first: base, second: base + screenPages * 4096 };
}

type Tiles = 'linear' | 'X' | 'Y';

/** Chooses what "tiled" means for the blits behind it. */
const chooseTiles = (target: Tiles, source: Tiles): number[] => [
  0x11000001,
  BCS_SWCTRL,
  0x30000 | (target === 'Y' ? SWCTRL.TARGET_Y : 0) | (source === 'Y' ? SWCTRL.SOURCE_Y : 0),
];

interface Job {
  readonly operation: string;
  readonly target: Tiles;
  readonly source?: Tiles;
  readonly rop?: number;
  /** Bytes by which the source lies behind the target; default it is another screen. */
  readonly behind?: number;
  /** Pixels by which the rectangle misses the tiles' edges. */
  readonly inset?: number;
}

const FILLS: readonly Job[] = [
  { operation: 'fill, linear', target: 'linear' },
  { operation: 'fill, X tiles', target: 'X' },
  { operation: 'fill, Y tiles', target: 'Y' },
  { operation: 'fill, Y tiles, ragged', target: 'Y', inset: 3 },
  { operation: 'fill, xor', target: 'linear', rop: 0x5a },
];
const COPIES: readonly Job[] = [
  { operation: 'copy, linear', target: 'linear', source: 'linear' },
  { operation: 'copy, linear, overlapping', target: 'linear', source: 'linear', behind: SCREEN.pitch },
  { operation: 'copy, linear, xor', target: 'linear', source: 'linear', rop: 0x66 },
  { operation: 'copy, X to X tiles', target: 'X', source: 'X' },
  { operation: 'copy, Y to Y tiles', target: 'Y', source: 'Y' },
  { operation: 'copy, linear to X tiles', target: 'X', source: 'linear' },
  { operation: 'copy, linear to Y tiles', target: 'Y', source: 'linear' },
  { operation: 'copy, Y tiles to linear', target: 'linear', source: 'Y' },
];

/** Blits of a whole screen, next to a fill or a copy of as many bytes in one piece. */
function benchBlits(): Row[] {
  const { run, first, second } = startVgpu();
  const [flat, other] = [new Uint8Array(SCREEN_BYTES), new Uint8Array(SCREEN_BYTES).fill(1)];
  const fillFlat = () => flat.fill(7);
  const copyFlat = () => flat.set(other);
  const screen = (address: number, tiles: Tiles) => ({ address, pitch: SCREEN.pitch, tiled: tiles !== 'linear' });
  const commands = ({ target, source, rop, behind, inset = 0 }: Job): readonly number[] => {
    const rect = { x1: inset, y1: inset, x2: SCREEN.width - inset, y2: SCREEN.height - inset };
    const common = { target: screen(first, target), rect, ...(rop === undefined ? {} : { rop }) };
    if (source === undefined) return xyColorBlt({ ...common, color: 0xff336699 });
    return xySrcCopyBlt({ ...common, source: screen(behind === undefined ? second : first + behind, source) });
  };
  const rate = (time: number) => SCREEN_BYTES / 1e3 / time;
  return [...FILLS, ...COPIES].map((job) => {
    const plain = job.source === undefined ? fillFlat : copyFlat;
    const dwords = [...chooseTiles(job.target, job.source ?? 'linear'), ...commands(job)];
    run(dwords);
    plain();
    const value = rate(median(ROUNDS * 3, () => run(dwords)));
    const yardstick = rate(median(ROUNDS * 3, plain));
    return { case: '1920x1080x32', operation: job.operation, value, unit: 'MB/s', yardstick };
  });
}

function print(rows: readonly Row[]): void {
  for (const { case: name, operation, value, unit, yardstick } of rows) {
    const ratio =
      yardstick === undefined
        ? ''
        : `  plain memory ${yardstick.toFixed(0)} ${unit}, ${(value / yardstick).toFixed(2)} x`;
    process.stdout.write(
      `gvt  ${name.padEnd(30)} ${operation.padEnd(24)} ${value.toFixed(0).padStart(6)} ${unit}${ratio}\n`,
    );
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'gvt', rows })}\n`);
}

print(benchBlits());
