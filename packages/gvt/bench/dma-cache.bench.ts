/** The DMA cache beside entries in two red-black trees in C. Pins cost nothing here; with PINION_BENCH_JSON the rows also go to that file. */
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { asGfn, asIovaFrame, asPfn, frameRange } from '@pinion/core';
import { DmaCache, type PageSource, SIZE_4K } from '@pinion/gvt';

const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);

const OPERATIONS = ['map', 'map again', 'unmap', 'last unmap', 'release by range', 'bytes per entry'] as const;
/** Nanoseconds per operation, and bytes. */
type Timings = Readonly<Record<(typeof OPERATIONS)[number], number>>;

interface Case {
  readonly count: number;
  readonly order: 'sequential' | 'random';
  /** Guest frames from one page to the next. */
  readonly stride: number;
}

const freePins: PageSource = {
  unpin: () => {},
  pinInto: (first, count, _prot, out) => {
    for (let page = 0; page < count; page++) out[page] = first + page;
  },
};

/** The frames of a case; `yardstick/two-trees.c` draws the same numbers from the same generator. */
function framesOf({ count, order, stride }: Case): Float64Array {
  const frames = Float64Array.from({ length: count }, (_, at) => at * stride);
  let state = 1;
  for (let at = count - 1; order === 'random' && at > 0; at--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = state % (at + 1);
    [frames[at], frames[other]] = [frames[other] ?? 0, frames[at] ?? 0];
  }
  return frames;
}

function measure(about: Case): Timings {
  const frames = framesOf(about);
  const cache = new DmaCache(freePins);
  const each = (run: (frame: number) => void): number => {
    const start = performance.now();
    for (let at = 0; at < frames.length; at++) run(frames[at] ?? 0);
    return ((performance.now() - start) * 1e6) / about.count;
  };
  const mapAll = (): number => each((frame) => cache.map(asGfn(frame), SIZE_4K));
  const unmapAll = (): number => each((frame) => cache.unmap(asPfn(frame)));
  const [map, again] = [mapAll(), mapAll()];
  const bytes = cache.bytes / cache.entries;
  const [unmap, last] = [unmapAll(), unmapAll()];
  mapAll();
  const start = performance.now();
  cache.releaseRange(frameRange(asIovaFrame(0), about.count * about.stride));
  const range = ((performance.now() - start) * 1e6) / about.count;
  if (cache.entries !== 0) throw new RangeError(`${cache.entries} entries are left`);
  return {
    map,
    'map again': again,
    unmap,
    'last unmap': last,
    'release by range': range,
    'bytes per entry': bytes,
  };
}

/** Runs the C program; without a compiler it answers undefined, after one notice. */
function compileYardstick(): (about: Case) => Timings | undefined {
  // dist-test/bench -> bench/yardstick
  const source = fileURLToPath(new URL('../../bench/yardstick/two-trees.c', import.meta.url));
  const program = join(mkdtempSync(join(tmpdir(), 'pinion-bench-')), 'two-trees');
  const compiler = process.env['CC'] ?? 'cc';
  const done = spawnSync(compiler, ['-O2', '-o', program, source], { encoding: 'utf8' });
  if (done.status !== 0) {
    process.stdout.write(`notice: no ratios, '${compiler}' did not compile the yardstick\n`);
    return () => undefined;
  }
  return ({ order, count, stride }) =>
    // why: the program prints one flat JSON object with the names of OPERATIONS; it is ours.
    JSON.parse(execFileSync(program, [order, `${count}`, `${stride}`], { encoding: 'utf8' })) as Timings;
}

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function compare(about: Case, yardstick: (about: Case) => Timings | undefined) {
  const ours: Timings[] = [];
  const theirs: Timings[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(measure(about));
    const timings = yardstick(about);
    if (timings !== undefined) theirs.push(timings);
  }
  return OPERATIONS.map((operation) => ({
    case: `${about.count} pages, ${about.order}, stride ${about.stride}`,
    operation,
    value: middle(ours.map((timings) => timings[operation])),
    unit: operation === 'bytes per entry' ? 'B' : 'ns',
    ...(theirs.length === 0 ? {} : { yardstick: middle(theirs.map((timings) => timings[operation])) }),
  }));
}

const cases: readonly Case[] = [65_536, 1_048_576].flatMap((count): Case[] => [
  { count, order: 'sequential', stride: 1 },
  { count, order: 'random', stride: 1 },
  { count, order: 'random', stride: 64 },
]);

measure({ count: 65_536, order: 'random', stride: 1 }); // so that the first case is not the one that is compiled
const yardstick = compileYardstick();
const rows = cases.flatMap((about) => compare(about, yardstick));
for (const row of rows) {
  const ratio =
    'yardstick' in row
      ? `  two trees in C ${row.yardstick?.toFixed(0)} ${row.unit}, ${(row.value / (row.yardstick ?? 1)).toFixed(2)} x`
      : '';
  const value = `${row.value.toFixed(0).padStart(6)} ${row.unit}`;
  process.stdout.write(`gvt  ${row.case.padEnd(34)} ${row.operation.padEnd(18)} ${value}${ratio}\n`);
}
const file = process.env['PINION_BENCH_JSON'];
if (file !== undefined && file !== '') appendFileSync(file, `${JSON.stringify({ bench: 'gvt-dma-cache', rows })}\n`);
