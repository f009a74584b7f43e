/**
 * The whole backend, as a container calls it: map and unmap, find (by a copy of 4 bytes and by a pin of one page) at 1, 256 and
 * 65 535 mappings; 1 Mi pins straight and through the mediator's pin API, which also notes who pinned; unmap of 1 GiB with pins
 * in it and beside it, and with 1 and 8 devices. The C tree's column is the bare tree: no check, no page, no charge.
 */
import {
  asIovaFrame,
  createMediator,
  definePlugin,
  EXTENSION,
  frameAddress,
  type IommuBackend,
  type PinApi,
  PROT_READ,
} from '@pinion/core';
import { type1 } from '@pinion/type1';
import { group, LIMITS, memory, openBackend, task } from './fake-host.js';
import { order, xorshift } from './orders.js';
import { median, ROUNDS, type Row, report } from './report.js';
import { compileYardstick, type Timings, type Yardstick } from './yardstick.js';

type Backend = Required<IommuBackend>;
const SIZES = [1, 256, 65_535];
const PAIRS = 1 << 15;
const FINDS = 1 << 17;
const PINS = 1 << 20;
const BATCH = 512;
const GIB_PAGES = 1 << 18;
/** A mapping every 32 frames, of 1 to 16 pages; the frames from 20 on stay free for the pairs. */
const SPACING = 32;
const FREE = 20;
const frameOf = (slot: number): number => SPACING * (slot + 8);

const map = (backend: Backend, first: number, count: number): void =>
  backend.map({ flags: 3, iova: frameAddress(first), size: frameAddress(count), vaddr: frameAddress(first) }, task);
const unmap = (backend: Backend, first: number, count: number): Promise<unknown> =>
  backend.unmap({ flags: 0, iova: frameAddress(first), size: frameAddress(count) }, task);

/** Nanoseconds per operation of `work`, which does `count` of them. */
async function timed(count: number, work: () => void | Promise<void>): Promise<number> {
  const begin = performance.now();
  await work();
  return ((performance.now() - begin) * 1e6) / count;
}

async function measureMaps(size: number): Promise<Timings> {
  const backend = await openBackend(1);
  const next = xorshift(3);
  const slots = order(size, 1, 4);
  for (const slot of slots) map(backend, frameOf(slot), 1 + (next() & 15));
  const wanted = Int32Array.from({ length: FINDS }, () => frameOf(next() % size));
  const bytes = new Uint8Array(4);
  const out = new Float64Array(1);
  const pairs = await timed(PAIRS, async () => {
    for (let i = 0; i < PAIRS; i++) {
      const first = (wanted[i] ?? 0) + FREE;
      map(backend, first, 1);
      await unmap(backend, first, 1);
    }
  });
  const copy = await timed(FINDS, () => {
    for (const first of wanted) backend.dmaRw(frameAddress(first), bytes, false);
  });
  const pin = await timed(FINDS, () => {
    for (const first of wanted) {
      backend.pinPages(group, asIovaFrame(first), 0, 1, PROT_READ, out);
      backend.unpinPages(asIovaFrame(first), 0, 1);
    }
  });
  backend.release();
  return { 'map and unmap': pairs, 'copy 4 bytes': copy, 'pin and unpin': pin };
}

/** Pins and unpins 1 Mi pages, `batch` a call. */
async function measurePins(pins: Pick<PinApi, 'pinInto' | 'unpin'>, batch: number): Promise<Timings> {
  const out = new Float64Array(batch);
  const pin = await timed(PINS, () => {
    for (let page = 0; page < PINS; page += batch) pins.pinInto(asIovaFrame(page), batch, PROT_READ, out);
  });
  const unpin = await timed(PINS, () => {
    for (let page = 0; page < PINS; page += batch) pins.unpin(asIovaFrame(page), batch);
  });
  return { 'first pin': pin, 'last unpin': unpin };
}

/** The backend without core in front of it. */
async function straight(run: (pins: Pick<PinApi, 'pinInto' | 'unpin'>) => Promise<Timings>): Promise<Timings> {
  const backend = await openBackend(1);
  map(backend, 0, PINS);
  const timings = await run({
    pinInto: (first, count, prot, out) => backend.pinPages(group, first, 0, count, prot, out),
    unpin: (first, count) => backend.unpinPages(first, 0, count),
  });
  backend.release();
  return timings;
}

/** The same through a mediator. */
async function mediated(run: (pins: PinApi) => Promise<Timings>): Promise<Timings> {
  const given: PinApi[] = [];
  const driver = definePlugin({
    name: 'bench',
    core: '^0.1',
    register: (scope) =>
      scope.vendorDriver({
        name: 'bench',
        deviceApi: 'bench',
        types: [{ id: 'only' }],
        pins: true,
        create(context) {
          given.push(context.pins);
          return { dmaUnmap: () => {} };
        },
      }),
  });
  const mediator = await createMediator({ memory, plugins: [type1({ parameters: () => LIMITS }), driver] });
  const mdev = await mediator.registerParent('p', 'bench').create('only', '00000000-0000-4000-8000-000000000001');
  const container = mediator.openContainer(task);
  const file = mdev.group.open(task);
  file.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  await file.openDevice(mdev.uuid);
  container.mapDma({ iova: 0n, size: frameAddress(PINS), vaddr: 0n, prot: PROT_READ });
  const [pins] = given;
  if (pins === undefined) throw new RangeError('the driver was given no pin API');
  const timings = await run(pins);
  await mediator.close();
  return timings;
}

interface UnmapCase {
  readonly pins: number;
  readonly devices: number;
  /** Pages pinned in another mapping. */
  readonly elsewhere: number;
}
const UNMAPS: readonly UnmapCase[] = [
  ...[1, 1_000, 100_000].flatMap((pins) => [1, 8].map((devices) => ({ pins, devices, elsewhere: 0 }))),
  { pins: 1_000, devices: 1, elsewhere: PINS },
];

/** Unmaps 1 GiB with pins spread over it; the first device gives them back one by one. @returns ns per unmap. */
async function measureUnmap({ pins, devices, elsewhere }: UnmapCase): Promise<number> {
  const stride = Math.floor(GIB_PAGES / pins);
  const out = new Float64Array(1);
  const backend: Backend = await openBackend(devices, () => {
    for (let i = 0; i < pins; i++) backend.unpinPages(asIovaFrame(i * stride), 0, 1);
  });
  const pin = (page: number): void => backend.pinPages(group, asIovaFrame(page), 0, 1, PROT_READ, out);
  if (elsewhere > 0) map(backend, 2 * GIB_PAGES, elsewhere);
  for (let i = 0; i < elsewhere; i++) pin(2 * GIB_PAGES + i);
  const times: number[] = [];
  for (let i = 0; i < (pins < 10_000 ? 40 : 4); i++) {
    map(backend, 0, GIB_PAGES);
    for (let at = 0; at < pins; at++) pin(at * stride);
    times.push(await timed(1, async () => void (await unmap(backend, 0, GIB_PAGES))));
  }
  return median(times);
}

const TREE: Readonly<Record<string, (c: Timings) => number | undefined>> = {
  'map and unmap': (c) => (c['insert'] ?? 0) + (c['find and erase'] ?? 0),
  'copy 4 bytes': (c) => c['find'],
};

/** Rounds of a measurement as rows of medians. */
async function rows(
  about: { case: string; subject: string },
  measure: () => Promise<Timings>,
  tree: Yardstick,
  args: string[],
): Promise<Row[]> {
  const all: Timings[] = [];
  const c: Timings[] = [];
  await measure(); // why: the first run compiles
  for (let round = 0; round < ROUNDS; round++) {
    all.push(await measure());
    c.push(tree(...args) ?? {});
  }
  return Object.keys(all[0] ?? {}).map((operation): Row => {
    const value = median(all.map((run) => run[operation] ?? Number.NaN));
    const yardstick = median(
      c.flatMap((run) => (Object.keys(run).length > 0 ? (TREE[operation]?.(run) ?? run[operation] ?? []) : [])),
    );
    return { ...about, operation, value, unit: 'ns', ...(Number.isFinite(yardstick) ? { yardstick } : {}) };
  });
}

async function unmapRows(each: UnmapCase): Promise<Row[]> {
  const times: number[] = [];
  await measureUnmap(each); // why: the first run compiles
  for (let round = 0; round < ROUNDS; round++) times.push(await measureUnmap(each));
  const beside = each.elsewhere > 0 ? `, ${each.elsewhere} pins beside` : '';
  const about = {
    case: `${each.pins} pins, ${each.devices} device(s)${beside}`,
    subject: 'backend',
    unit: 'ns',
  } as const;
  const value = median(times);
  return [
    { ...about, operation: 'unmap 1 GiB', value },
    { ...about, operation: 'per pinned page', value: value / each.pins },
  ];
}

/** The design asks that costs grow no faster than log n. */
function growth(all: readonly Row[]): string[] {
  const of = (size: number, operation: string): number =>
    all.find((row) => row.case === `${size} mappings` && row.operation === operation)?.value ?? Number.NaN;
  const most = Math.log2(65_535);
  return ['map and unmap', 'copy 4 bytes', 'pin and unpin'].map((operation) => {
    const times = of(65_535, operation) / of(1, operation);
    return `growth 1 -> 65 535 mappings, ${operation}: ${times.toFixed(2)} x (log n: ${most.toFixed(0)} x) ${times <= most ? 'hit' : 'MISS'}`;
  });
}

const tree = compileYardstick();
const all: Row[] = [];
for (const size of SIZES) {
  const about = { case: `${size} mappings`, subject: 'backend' };
  all.push(...(await rows(about, () => measureMaps(size), tree, ['maps', String(size)])));
}
for (const batch of [1, BATCH]) {
  const args = ['pins', 'sequential', String(PINS), '1'];
  const what = `1 Mi pins, ${batch} a call`;
  all.push(
    ...(await rows({ case: what, subject: 'backend' }, () => straight((pins) => measurePins(pins, batch)), tree, args)),
  );
  all.push(
    ...(await rows(
      { case: what, subject: 'mediator' },
      () => mediated((pins) => measurePins(pins, batch)),
      tree,
      args,
    )),
  );
}
for (const each of UNMAPS) all.push(...(await unmapRows(each)));
report(
  'backend',
  all.filter(({ value }) => Number.isFinite(value)),
);
for (const line of growth(all)) process.stdout.write(`${line}\n`);
