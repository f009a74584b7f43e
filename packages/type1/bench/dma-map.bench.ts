/**
 * The ordered map of mappings beside the C red-black tree: insert, find and remove one of 1, 256 and 65 535 mappings of 1 to 16
 * pages, and the translation of one IOVA among 250 and 50 000. The orders are random; removals come in another order.
 */
import { fileURLToPath } from 'node:url';
import { DmaMap } from '@pinion/type1';
import { servedAsSubject, startSubject } from './child.js';
import { order, xorshift } from './orders.js';
import { median, ROUNDS, type Row, report } from './report.js';
import { compileYardstick, type Timings } from './yardstick.js';

const LOOKUPS = 1 << 20;
const LIMIT = 65_535;

/** What stands for a mapping: the fields that a translation reads. */
class Mapping {
  readonly first: number;
  readonly last: number;
  readonly vaddr: number;

  constructor(first: number, last: number, vaddr: number) {
    this.first = first;
    this.last = last;
    this.vaddr = vaddr;
  }
}

const noMapping = new Mapping(-1, -1, -1);

/** Mappings of 1 to 16 pages with gaps of 0 to 15 pages, as the C program draws them. */
function mappings(count: number): Mapping[] {
  const next = xorshift(3);
  let at = 256;
  return Array.from({ length: count }, (_, i) => {
    const mapping = new Mapping(at, at + (next() & 15), i * 16);
    at = mapping.last + 1 + (next() & 15);
    return mapping;
  });
}

function framesToFind(all: readonly Mapping[]): Float64Array {
  const next = xorshift(6);
  return Float64Array.from({ length: LOOKUPS }, () => {
    const { first, last } = all[next() % all.length] ?? noMapping;
    return first + (next() % (last - first + 1));
  });
}

function insertAll(map: DmaMap<Mapping>, all: readonly Mapping[]): void {
  for (let i = 0; i < all.length; i++) map.insert(all[i] ?? noMapping);
}

function removeAll(map: DmaMap<Mapping>, all: readonly Mapping[]): void {
  for (let i = 0; i < all.length; i++) map.remove(all[i] ?? noMapping);
}

/** Translates each frame: finds the mapping and computes where its page is. @returns a sum that needs every answer. */
function translateAll(map: DmaMap<Mapping>, frames: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < frames.length; i++) {
    const frame = frames[i] ?? 0;
    const mapping = map.find(frame);
    if (mapping !== undefined) sum = (sum + mapping.vaddr + (frame - mapping.first)) | 0;
  }
  return sum;
}

const since = (begin: number): number => (performance.now() - begin) * 1e6;
/** Keeps the sums in use. */
let checksum = 0;

interface Work {
  readonly one: readonly Mapping[];
  readonly other: readonly Mapping[];
  readonly frames: Float64Array;
  readonly same: Float64Array;
}

const work = new Map<number, Work>();

/** Made once per size, so that the collector does not move these objects while the map is measured. */
function workFor(count: number): Work {
  const known = work.get(count);
  if (known !== undefined) return known;
  const all = mappings(count);
  const frames = framesToFind(all);
  const made = {
    one: [...order(count, 1, 4)].map((i) => all[i] ?? noMapping),
    other: [...order(count, 1, 5)].map((i) => all[i] ?? noMapping),
    frames,
    same: frames.map(() => all[0]?.first ?? 0),
  };
  work.set(count, made);
  return made;
}

function measure(count: number): Timings {
  const { one, other, frames, same } = workFor(count);
  const repeat = Math.max(4, Math.ceil(65_536 / count));
  const map = new DmaMap<Mapping>();
  const spent = { insert: 0, find: 0, same: 0, remove: 0 };
  let bytes = 0;
  let indexed = 0;
  for (let round = 0; round < repeat; round++) {
    let begin = performance.now();
    insertAll(map, one);
    spent.insert += since(begin);
    if (round === 0) {
      bytes = map.byteSize() / count;
      begin = performance.now();
      checksum ^= translateAll(map, frames);
      spent.find = since(begin);
      indexed = map.byteSize() / count;
      begin = performance.now();
      checksum ^= translateAll(map, same);
      spent.same = since(begin);
    }
    begin = performance.now();
    removeAll(map, other);
    spent.remove += since(begin);
  }
  if (map.size !== 0) throw new RangeError(`${map.size} entries left`);
  return {
    insert: spent.insert / count / repeat,
    find: spent.find / LOOKUPS,
    'find same': spent.same / LOOKUPS,
    remove: spent.remove / count / repeat,
    bytes,
    'bytes indexed': indexed,
    checksum,
  };
}

let warm = false;
function measureWarm(count: number): Timings {
  if (!warm) for (const size of [1, 300, 40_000, 300]) measure(size);
  warm = true;
  return measure(count);
}

/** Rows of one size: our operation, the tree's, and the target that design.md sets. */
type Plan = readonly [ours: string, name: string, theirs: string | undefined, target?: Row['target']];
const x = (most: number): NonNullable<Row['target']> => ({ kind: 'x', most });
const abs = (most: number): NonNullable<Row['target']> => ({ kind: 'abs', most });

const TIMES: readonly Plan[] = [
  ['insert', 'insert one', 'insert'],
  ['find', 'find one', 'find'],
  ['remove', 'remove one (tree: find, erase)', 'find and erase'],
  ['remove', 'remove one (tree: erase a known one)', 'erase'],
];
const PLANS: ReadonlyMap<number, readonly Plan[]> = new Map([
  [1, TIMES],
  [256, TIMES],
  [
    LIMIT,
    [
      ['insert', 'insert one', 'insert', x(1.5)],
      ['find', 'find one', 'find', x(0.6)],
      ['remove', 'remove one (tree: find, erase)', 'find and erase', x(1.5)],
      ['remove', 'remove one (tree: erase a known one)', 'erase'],
      ['bytes', 'per entry', undefined, abs(38.4)],
      ['bytes indexed', 'per entry, with its index', undefined, abs(38.4)],
    ],
  ],
  [
    250,
    [
      ['find same', 'translate, same mapping', 'find same', abs(11.4)],
      ['find', 'translate, random of 250', 'find', abs(24)],
    ],
  ],
  [50_000, [['find', 'translate, random of 50 000', 'find', abs(45)]]],
]);

async function main(): Promise<void> {
  const yardstick = compileYardstick();
  const { ask, stop } = startSubject(fileURLToPath(import.meta.url), 'DmaMap');
  const rows: Row[] = [];
  for (const [count, plan] of PLANS) {
    const tree: Timings[] = [];
    const ours: Timings[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const timings = yardstick('maps', String(count));
      if (timings !== undefined) tree.push(timings);
      ours.push(await ask(String(count)));
    }
    rows.push(...plan.map((line) => rowOf(count, line, { ours, tree })));
  }
  stop();
  report('dma-map', rows);
}

const at = (runs: readonly Timings[], name: string): number => median(runs.map((run) => run[name] ?? Number.NaN));

function rowOf(count: number, plan: Plan, runs: { ours: Timings[]; tree: Timings[] }): Row {
  const [ours, name, theirs, target] = plan;
  const bytes = ours.startsWith('bytes');
  const yardstick = bytes ? 64 : theirs !== undefined && runs.tree.length > 0 ? at(runs.tree, theirs) : undefined;
  return {
    case: `${count} mapping${count === 1 ? '' : 's'}`,
    subject: 'DmaMap',
    operation: name,
    value: at(runs.ours, ours),
    unit: bytes ? 'B' : 'ns',
    ...(yardstick === undefined ? {} : { yardstick }),
    ...(target === undefined ? {} : { target }),
  };
}

if (!servedAsSubject((_, [count]) => measureWarm(Number(count)))) await main();
