import { appendFileSync } from 'node:fs';
import { asIovaFrame as at, type HostMemory, type IovaFrame, PROT_RW, asPfn as pfn } from '@pinion/core';
import { createSoftwareIommu, IovaAllocator, type SoftwareDomain } from '@pinion/iommu';

const PAGES = 1 << 17;
const ROUNDS = 7;
const GIB = 1 << 18;
const LAST_32 = 0xfffff;

interface Row {
  readonly name: string;
  /** Nanoseconds per operation. */
  readonly ns: number;
  /** Median of this many rounds. */
  readonly rounds: number;
}
const rows: Row[] = [];

/** Runs `round` several times, each on what `prepare` made, and keeps the median per operation. */
function measure<T>(name: string, operations: number, prepare: () => T, round: (prepared: T) => unknown): void {
  const times: number[] = [];
  for (let index = 0; index < ROUNDS; index += 1) {
    const prepared = prepare();
    const start = process.hrtime.bigint();
    round(prepared);
    times.push(Number(process.hrtime.bigint() - start) / operations);
  }
  times.sort((a, b) => a - b);
  rows.push({ name, ns: Math.round((times[ROUNDS >> 1] ?? 0) * 100) / 100, rounds: ROUNDS });
}

const page = new Uint8Array(4096);
/** Memory where every frame is the same page: what is measured is the way there. */
const memory: HostMemory = {
  pageClass: () => 'normal',
  bytes: () => page,
  contiguous: () => false,
  unpinPage: () => {},
};
/** A fixed sequence of frames all over `count`, made beforehand. */
function scattered(count: number): Int32Array {
  const frames = new Int32Array(count);
  let x = 1;
  for (let index = 0; index < count; index += 1) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
    frames[index] = (x >>> 8) % count;
  }
  return frames;
}

const fresh = (addressWidth: number): SoftwareDomain => createSoftwareIommu({ memory, addressWidth }).allocDomain();
/** Single pages, no two of them host-contiguous. */
function mapAll(domain: SoftwareDomain): SoftwareDomain {
  for (let frame = 0; frame < PAGES; frame += 1) domain.map(at(frame), pfn(frame ^ 1), 1, PROT_RW);
  return domain;
}
function unmapAll(domain: SoftwareDomain): void {
  for (let frame = 0; frame < PAGES; frame += 1) domain.unmap(at(frame), 1);
}

const random = scattered(PAGES);
for (const width of [39, 48]) {
  const full = mapAll(fresh(width));
  measure(`map one page, ${width} bit`, PAGES, () => fresh(width), mapAll);
  measure(`unmap one page, ${width} bit`, PAGES, () => mapAll(fresh(width)), unmapAll);
  measure(
    `lookup sequential, ${width} bit`,
    PAGES,
    () => full,
    (domain) => {
      let sum = 0;
      for (let frame = 0; frame < PAGES; frame += 1) sum += domain.lookup(at(frame)) ?? 0;
      return sum;
    },
  );
  measure(
    `lookup random, ${width} bit`,
    PAGES,
    () => full,
    (domain) => {
      let sum = 0;
      for (const frame of random) sum += domain.lookup(at(frame)) ?? 0;
      return sum;
    },
  );
}

const LARGE = 2000;
measure(
  'map and unmap 1 GiB as one leaf',
  LARGE,
  () => fresh(39),
  (domain) => {
    for (let index = 0; index < LARGE; index += 1) {
      domain.map(at(GIB), pfn(GIB), GIB, PROT_RW);
      domain.unmap(at(GIB), GIB);
    }
  },
);
measure(
  'map 1 GiB of 4 KiB leaves, per page',
  GIB,
  () => fresh(39),
  (domain) => domain.map(at(0), pfn(1), GIB, PROT_RW),
);
measure(
  'a fresh domain',
  LARGE,
  () => createSoftwareIommu({ memory }),
  (iommu) => {
    for (let index = 0; index < LARGE; index += 1) iommu.allocDomain();
  },
);

const iommu = createSoftwareIommu({ memory });
const group = iommu.createGroup();
group.attach(mapAll(group.allocDomain() as SoftwareDomain)); // why: a group of a software IOMMU makes software domains
const nic = group.addFunction('nic');
const word = new Uint8Array(4);
const addresses = Array.from(random, (frame) => BigInt(frame) << 12n);
measure(
  'DMA read of 4 bytes, same page',
  PAGES,
  () => nic,
  (device) => {
    for (let index = 0; index < PAGES; index += 1) device.read(0x5000n, word);
  },
);
measure(
  'DMA read of 4 bytes, random page',
  PAGES,
  () => nic,
  (device) => {
    for (const iova of addresses) device.read(iova, word);
  },
);
const sheet = new Uint8Array(65536);
measure(
  'DMA write of 64 KiB, per page',
  16 * 500,
  () => nic,
  (device) => {
    for (let index = 0; index < 500; index += 1) device.write(0n, sheet);
  },
);

const RANGES = 1 << 16;
const allocate = (allocator: IovaAllocator): IovaFrame[] =>
  Array.from({ length: RANGES }, () => allocator.allocate(1, LAST_32) ?? at(0));
measure('IOVA alloc from the tree', RANGES, () => new IovaAllocator({ caches: false }), allocate);
measure(
  'IOVA free to the tree, in order of allocation',
  RANGES,
  () => {
    const allocator = new IovaAllocator({ caches: false });
    return { allocator, frames: allocate(allocator) };
  },
  ({ allocator, frames }) => {
    for (const frame of frames) allocator.free(frame);
  },
);
measure(
  'IOVA alloc and free through the cache',
  RANGES,
  () => new IovaAllocator(),
  (allocator) => {
    for (let index = 0; index < RANGES; index += 1) {
      allocator.freeFast(allocator.allocateFast(4, LAST_32, false) ?? 0, 4);
    }
  },
);

const widest = Math.max(...rows.map(({ name }) => name.length));
for (const { name, ns } of rows) process.stdout.write(`${name.padEnd(widest)}  ${ns.toFixed(1).padStart(10)} ns\n`);
const json = process.env['PINION_BENCH_JSON'];
if (json !== undefined && json !== '') appendFileSync(json, `${JSON.stringify({ bench: 'iommu', rows })}\n`);
