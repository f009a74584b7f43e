/** The blitter. Pins cost nothing here; with PINION_BENCH_JSON the rows also go to that file. */
import { appendFileSync } from 'node:fs';
import { type Clock, type PinApi, PinionError, silentLog } from '@pinion/core';
import { BCS, createGvtDriver, GTT_OFFSET, REGION, xyColorBlt, xySrcCopyBlt } from '@pinion/gvt';

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

const unused = (): never => {
  throw new PinionError('BENCH_UNUSED', 'ENOTTY', 'not part of what is measured');
};

/** Pins cost nothing here: what is measured is the cache. Pages lie one after the other in `memory`. */
function freePins(memory: Uint8Array): PinApi {
  return {
    pages: 0,
    pin: unused,
    pinAt: unused,
    unpinAt: unused,
    count: () => 0,
    unpin: () => {},
    pinInto: (first, count, _prot, out) => {
      for (let page = 0; page < count; page++) out[page] = first + page;
    },
    bytes: (pfn, count) => memory.subarray(pfn * 4096, (pfn + count) * 4096),
  };
}

const SCREEN = { width: 1920, height: 1080, pitch: 7680 };
const SCREEN_BYTES = SCREEN.pitch * SCREEN.height;

/** A vGPU with two screens mapped at the start of its high slice. */
function startVgpu() {
  const screenPages = Math.ceil(SCREEN_BYTES / 4096);
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

/** Blits of a whole screen, next to a fill or a copy of as many bytes in one piece. */
function benchBlits(): Row[] {
  const { run, first, second } = startVgpu();
  const rect = { x1: 0, y1: 0, x2: SCREEN.width, y2: SCREEN.height };
  const screen = (address: number) => ({ address, pitch: SCREEN.pitch });
  const [target, flat, other] = [screen(first), new Uint8Array(SCREEN_BYTES), new Uint8Array(SCREEN_BYTES).fill(1)];
  const fillFlat = () => flat.fill(7);
  const copyFlat = () => flat.set(other);
  const jobs = [
    { operation: 'fill', job: xyColorBlt({ target, rect, color: 0xff336699 }), plain: fillFlat },
    { operation: 'copy', job: xySrcCopyBlt({ target, rect, source: screen(second) }), plain: copyFlat },
    {
      operation: 'copy, overlapping',
      job: xySrcCopyBlt({ target, rect, source: screen(first + SCREEN.pitch) }),
      plain: copyFlat,
    },
    { operation: 'copy, xor', job: xySrcCopyBlt({ target, rect, source: screen(second), rop: 0x66 }), plain: copyFlat },
  ];
  const rate = (time: number) => SCREEN_BYTES / 1e3 / time;
  return jobs.map(({ operation, job, plain }) => {
    run(job);
    plain();
    const value = rate(median(ROUNDS * 3, () => run(job)));
    const yardstick = rate(median(ROUNDS * 3, plain));
    return { case: '1920x1080x32', operation, value, unit: 'MB/s', yardstick };
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
