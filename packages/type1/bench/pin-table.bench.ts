/**
 * Pin, re-pin and unpin one page at 1 Mi pinned pages, every kind of pin table beside the C red-black tree: pages in
 * sequence, all pages in random order, one page in 64 in random order. Re-pins and unpins come in another random order.
 */
import { fileURLToPath } from 'node:url';
import { createPinTable, PIN_TABLE_KINDS, type PinTable, type PinTableKind } from '@pinion/type1';
import { servedAsSubject, startSubject } from './child.js';
import { order } from './orders.js';
import { median, ROUNDS, type Row, report } from './report.js';
import { compileYardstick, type Timings } from './yardstick.js';

const PAGES = 1 << 20;
const CASES = [
  { name: 'sequential', order: 'sequential', stride: 1, bytes: 16, counts: true },
  { name: 'random dense', order: 'random', stride: 1, bytes: 16, counts: true },
  { name: '1 in 64', order: 'random', stride: 64, bytes: 40, counts: true },
  { name: '1 in 64, in sequence', order: 'sequential', stride: 64, bytes: 40, counts: false },
] as const;
const OPERATIONS = ['first pin', 're-pin', 'unpin', 'last unpin'] as const;
const MOST_TIME = 0.25;

/** What a backend does for a pin: count it, or note it. @returns a sum that needs every answer. */
function pinAll(table: PinTable, pages: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < pages.length; i++) {
    const page = pages[i] ?? 0;
    const pfn = table.acquire(page);
    if (pfn < 0) table.insert(page, page + 7);
    else sum = (sum + pfn) | 0;
  }
  return sum;
}

function unpinAll(table: PinTable, pages: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < pages.length; i++) {
    if (table.release(pages[i] ?? 0) === 0) sum = (sum + table.releasedPfn) | 0;
  }
  return sum;
}

/** Keeps the sums in use. */
let checksum = 0;

function timed(pages: Int32Array, work: (table: PinTable, pages: Int32Array) => number, table: PinTable): number {
  const begin = performance.now();
  checksum ^= work(table, pages);
  return ((performance.now() - begin) * 1e6) / pages.length;
}

function measure(kind: PinTableKind, how: string, pages: { count: number; stride: number }): Timings {
  const { count, stride } = pages;
  const random = how === 'random';
  const [one, other] = random
    ? [order(count, stride, 1), order(count, stride, 2)]
    : [order(count, stride), order(count, stride)];
  const table = createPinTable(kind, count * stride);
  const first = timed(one, pinAll, table);
  const bytes = table.byteSize() / count;
  const again = timed(other, pinAll, table);
  const unpin = timed(other, unpinAll, table);
  const last = timed(other, unpinAll, table);
  if (table.pages !== 0) throw new RangeError(`${kind}: ${table.pages} pages left`);
  return { 'first pin': first, 're-pin': again, unpin, 'last unpin': last, bytes, checksum };
}

/** The first measurement of a case makes V8 compile and the machine hand out memory; it does not count. */
const warm = new Set<string>();
function measureWarm(kind: PinTableKind, how: string, stride: number): Timings {
  const name = `${how} ${stride}`;
  if (!warm.has(name)) {
    for (let i = 0; i < 4; i++) measure(kind, how, { count: 1 << 16, stride });
    measure(kind, how, { count: PAGES, stride });
  }
  warm.add(name);
  return measure(kind, how, { count: PAGES, stride });
}

const isKind = (name: string): name is PinTableKind => PIN_TABLE_KINDS.some((kind) => kind === name);

async function main(): Promise<void> {
  const yardstick = compileYardstick();
  const subjects = PIN_TABLE_KINDS.map((kind) => ({ kind, ...startSubject(fileURLToPath(import.meta.url), kind) }));
  const rows: Row[] = [];
  for (const each of CASES) {
    const tree: (Timings | undefined)[] = [];
    const seen = new Map<string, Timings[]>(subjects.map(({ kind }) => [kind, []]));
    for (let round = 0; round < ROUNDS; round++) {
      tree.push(yardstick('pins', each.order, String(PAGES), String(each.stride)));
      for (const { kind, ask } of subjects) seen.get(kind)?.push(await ask(each.order, String(each.stride)));
    }
    for (const [kind, all] of seen) rows.push(...rowsOf(each, kind, { all, tree }));
  }
  for (const { stop } of subjects) stop();
  report('pin-table', rows);
}

type Case = (typeof CASES)[number];
function rowsOf(each: Case, kind: string, runs: { all: Timings[]; tree: (Timings | undefined)[] }): Row[] {
  const targeted = kind === 'adaptive' && each.counts;
  const times = OPERATIONS.map((operation): Row => {
    const c = runs.tree.flatMap((run) => run?.[operation] ?? []);
    return {
      case: each.name,
      subject: kind,
      operation,
      value: median(runs.all.map((run) => run[operation] ?? Number.NaN)),
      unit: 'ns',
      ...(c.length > 0 ? { yardstick: median(c) } : {}),
      ...(targeted ? { target: { kind: 'x', most: MOST_TIME } } : {}),
    };
  });
  const bytes = median(runs.all.map((run) => run['bytes'] ?? Number.NaN));
  return [
    ...times,
    {
      case: each.name,
      subject: kind,
      operation: 'per page',
      value: bytes,
      unit: 'B',
      yardstick: 64,
      ...(targeted ? { target: { kind: 'abs', most: each.bytes } } : {}),
    },
  ];
}

const serving = servedAsSubject((subject, [how, stride]) => {
  if (!isKind(subject)) throw new RangeError(`no pin table '${subject}'`);
  return measureWarm(subject, how ?? 'sequential', Number(stride));
});
if (!serving) await main();
