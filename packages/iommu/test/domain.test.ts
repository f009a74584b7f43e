import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame as at, type Errno, LAST_FRAME, PROT_READ, PROT_RW, asPfn as pfn } from '@pinion/core';
import {
  createSoftwareIommu,
  leafFrame,
  leafProt,
  type SoftwareDomain,
  type SoftwareIommuOptions,
} from '@pinion/iommu';
import { HostPages } from './host-pages.js';

const iommu = (options: Partial<SoftwareIommuOptions> = {}) =>
  createSoftwareIommu({ memory: new HostPages(0, 1), ...options });
const domain = (options: Partial<SoftwareIommuOptions> = {}): SoftwareDomain => iommu(options).allocDomain();

const M2 = 512;
const G1 = 512 * 512;
const empty = { tables: 1, leaves4K: 0, leaves2M: 0, leaves1G: 0, frames: 0 };
const shape = ({ stats: { bytes: _, ...rest } }: SoftwareDomain) => rest;

test('a fresh domain holds no memory', () => {
  const fresh = domain();
  assert.deepEqual(fresh.stats, { ...empty, bytes: 0 });
  assert.equal(fresh.lookup(at(0)), undefined);
  assert.equal(fresh.unmap(at(0), 100), 0);
  assert.equal(fresh.stats.bytes, 0);
});

test('a domain says what it is', () => {
  const made = domain({ addressWidth: 48, pageSizes: 0x201000n, coherent: false, hardware: 'test-iommu' });
  assert.equal(made.hardware, 'test-iommu');
  assert.equal(made.pageSizes, 0x201000n);
  assert.deepEqual(made.aperture, { first: 0, last: 2 ** 36 - 1 });
  assert.equal(made.coherent, false);
  assert.equal(domain().pageSizes, 0x40201000n);
  assert.equal(domain({ addressWidth: 21 }).pageSizes, 0x1000n);
});

const shapes: ReadonlyArray<
  readonly [
    what: string,
    options: Partial<SoftwareIommuOptions>,
    map: readonly [number, number, number],
    expected: object,
  ]
> = [
  ['1 GiB aligned on both sides is one leaf', {}, [G1, G1 * 5, G1], { tables: 1, leaves1G: 1 }],
  ['1 GiB in a 48-bit IOMMU needs one more table', { addressWidth: 48 }, [0, 0, G1], { tables: 2, leaves1G: 1 }],
  ['1 GiB aligned to 2 MiB only', {}, [M2, G1, G1], { tables: 3, leaves2M: 512 }],
  ['2 MiB aligned', {}, [M2, M2 * 9, M2], { tables: 2, leaves2M: 1 }],
  ['2 MiB with the host side off by one', {}, [M2, M2 + 1, M2], { tables: 3, leaves4K: 512 }],
  ['small, large, small', {}, [M2 - 1, M2 * 3 - 1, M2 + 2], { tables: 4, leaves4K: 2, leaves2M: 1 }],
  ['2 MiB without such leaves', { pageSizes: 0x1000n }, [M2, M2, M2], { tables: 3, leaves4K: 512 }],
  ['1 GiB without 1 GiB leaves', { pageSizes: 0x201000n }, [0, 0, G1], { tables: 2, leaves2M: 512 }],
  ['1 GiB without 2 MiB leaves', { pageSizes: 0x40001000n }, [0, 0, G1], { tables: 1, leaves1G: 1 }],
  ['a two-level table', { addressWidth: 30 }, [M2, 0, M2], { tables: 1, leaves2M: 1 }],
  ['a five-level table', { addressWidth: 57 }, [2 ** 45 - G1, 0, G1], { tables: 3, leaves1G: 1 }],
  ['a width between two levels', { addressWidth: 42 }, [2 ** 30 - 1, 7, 1], { tables: 4, leaves4K: 1 }],
];
for (const [what, options, [first, to, count], expected] of shapes) {
  test(`leaves: ${what}`, () => {
    const made = domain(options);
    made.map(at(first), pfn(to), count, PROT_RW);
    assert.deepEqual(shape(made), { ...empty, frames: count, ...expected });
    assert.equal(made.lookup(at(first)), to);
    assert.equal(made.lookup(at(first + count - 1)), to + count - 1);
    assert.equal(made.lookup(at(first + count)), undefined);
    assert.equal(made.unmap(at(first), count), count);
    assert.deepEqual(shape(made), empty);
  });
}

test('unmapping one page of a 1 GiB leaf splits it and keeps the rest', () => {
  const made = domain();
  made.map(at(0), pfn(G1), G1, PROT_READ);
  assert.equal(made.unmap(at(M2 + 5), 1), 1);
  assert.deepEqual(shape(made), { tables: 3, leaves4K: 511, leaves2M: 511, leaves1G: 0, frames: G1 - 1 });
  assert.equal(made.lookup(at(M2 + 5)), undefined);
  assert.deepEqual(made.translate(at(M2 + 4)), { pfn: G1 + M2 + 4, prot: PROT_READ });
  assert.deepEqual(made.translate(at(G1 - 1)), { pfn: 2 * G1 - 1, prot: PROT_READ });
});

test('a 1 GiB leaf of an IOMMU without 2 MiB leaves splits into pages', () => {
  const made = domain({ pageSizes: 0x40001000n });
  made.map(at(0), pfn(0), G1, PROT_RW);
  assert.equal(made.unmap(at(9), 2), 2);
  assert.deepEqual(shape(made), { tables: 514, leaves4K: G1 - 2, leaves2M: 0, leaves1G: 0, frames: G1 - 2 });
  assert.equal(made.unmap(at(0), G1), G1 - 2);
  assert.deepEqual(shape(made), empty);
});

test('an unmap over holes counts only what was there, also above the width', () => {
  const made = domain();
  made.map(at(10), pfn(1), 1, PROT_RW);
  made.map(at(M2 * 7), pfn(M2), M2, PROT_RW);
  made.map(made.aperture.last, pfn(3), 1, PROT_RW);
  assert.equal(made.unmap(at(0), LAST_FRAME + 1), M2 + 2);
  assert.deepEqual(shape(made), empty);
});

test('leaves are listed ascending', () => {
  const made = domain();
  made.map(at(M2 * 2), pfn(M2 * 8), M2 + 1, PROT_RW);
  made.map(at(3), pfn(77), 1, PROT_READ);
  assert.deepEqual(
    [...made.leaves()],
    [
      { first: 3, pfn: 77, frames: 1, prot: PROT_READ },
      { first: M2 * 2, pfn: M2 * 8, frames: M2, prot: PROT_RW },
      { first: M2 * 3, pfn: M2 * 9, frames: 1, prot: PROT_RW },
    ],
  );
  assert.deepEqual([...domain().leaves()], []);
});

test('walk gives frame and rights in one number', () => {
  const made = domain();
  made.map(at(5), pfn(2 ** 51 - 2), 1, PROT_READ);
  const leaf = made.walk(at(5));
  assert.equal(leafFrame(leaf), 2 ** 51 - 2);
  assert.equal(leafProt(leaf), PROT_READ);
  assert.equal(made.walk(at(6)), 0);
});

test('the generation grows with an unmap that removed something, and with nothing else', () => {
  const made = domain();
  const before = made.generation;
  made.map(at(1), pfn(1), 1, PROT_RW);
  made.unmap(at(2), 1);
  assert.equal(made.generation, before);
  made.unmap(at(1), 1);
  assert.equal(made.generation, before + 1);
});

const W39 = 2 ** 27;
const refusals: ReadonlyArray<
  readonly [what: string, map: readonly [number, number, number, number], name: string, errno: Errno]
> = [
  ['a range that is partly mapped', [0, 0, 11, 3], 'IOMMU_ALREADY_MAPPED', 'EEXIST'],
  ['a page inside a large leaf', [M2 + 7, 0, 1, 3], 'IOMMU_ALREADY_MAPPED', 'EEXIST'],
  ['a large leaf over a page', [0, 0, M2, 3], 'IOMMU_ALREADY_MAPPED', 'EEXIST'],
  ['count 0', [0, 0, 0, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['a negative count', [0, 0, -1, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['half a page', [0.5, 0, 1, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['a negative frame', [-1, 0, 1, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['NaN', [Number.NaN, 0, 1, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['a range past 2^64', [LAST_FRAME, 0, 2, 3], 'IOMMU_BAD_RANGE', 'EINVAL'],
  ['a negative host frame', [0, -1, 1, 3], 'IOMMU_BAD_FRAME', 'EINVAL'],
  ['a host frame beyond 2^51', [0, 2 ** 51, 1, 3], 'IOMMU_BAD_FRAME', 'EINVAL'],
  ['no rights', [0, 0, 1, 0], 'IOMMU_BAD_PROT', 'EINVAL'],
  ['unknown rights', [0, 0, 1, 7], 'IOMMU_BAD_PROT', 'EINVAL'],
  ['the first page above the width', [W39, 0, 1, 3], 'IOMMU_BEYOND_WIDTH', 'ERANGE'],
  ['a range across the width', [W39 - 1, 0, 2, 3], 'IOMMU_BEYOND_WIDTH', 'ERANGE'],
  ['the last page of 64 bits', [LAST_FRAME, 0, 1, 3], 'IOMMU_BEYOND_WIDTH', 'ERANGE'],
];
for (const [what, [first, to, count, prot], name, errno] of refusals) {
  test(`map refuses ${what} and changes nothing`, () => {
    const made = domain();
    made.map(at(10), pfn(100), 1, PROT_RW);
    made.map(at(M2), pfn(M2), M2, PROT_RW);
    const before = { stats: made.stats, leaves: [...made.leaves()], generation: made.generation };
    assert.throws(() => made.map(at(first), pfn(to), count, prot), { name, errno });
    assert.deepEqual({ stats: made.stats, leaves: [...made.leaves()], generation: made.generation }, before);
  });
}

test('beyond the width older kernels answer EFAULT', () => {
  assert.throws(() => domain({ beyondWidth: 'EFAULT' }).map(at(W39), pfn(0), 1, PROT_RW), {
    name: 'IOMMU_BEYOND_WIDTH_LEGACY',
    errno: 'EFAULT',
  });
});

test('lookups outside the width find nothing, not an alias', () => {
  const made = domain();
  made.map(at(0), pfn(5), 1, PROT_RW);
  for (const frame of [W39, 2 ** 45, LAST_FRAME, -1]) assert.equal(made.lookup(at(frame)), undefined);
});

test('a freed domain is unusable', () => {
  const made = domain();
  made.map(at(0), pfn(5), 1, PROT_RW);
  made.free();
  made.free();
  assert.deepEqual(made.stats, { ...empty, bytes: 0 });
  const freed = { name: 'IOMMU_DOMAIN_FREED', errno: 'EINVAL' };
  assert.throws(() => made.map(at(0), pfn(5), 1, PROT_RW), freed);
  assert.throws(() => made.unmap(at(0), 1), freed);
  assert.throws(() => made.lookup(at(0)), freed);
});

test('an injected failure of a map leaves nothing behind and happens once', () => {
  const hardware = iommu();
  const made = hardware.allocDomain();
  hardware.failures.fail('map', 2, 'ENOMEM');
  made.map(at(0), pfn(5), 1, PROT_RW);
  assert.throws(() => made.map(at(1), pfn(6), 1, PROT_RW), { name: 'IOMMU_INJECTED', errno: 'ENOMEM' });
  assert.equal(made.lookup(at(1)), undefined);
  made.map(at(1), pfn(6), 1, PROT_RW);
  assert.equal(hardware.failures.calls('map'), 3);
  assert.equal(hardware.failures.pending, 0);
});

test('whichever table of a map fails, nothing is left of the map', () => {
  const tables = 5; // 39 bits: three tables for the first page, then one more per 2 MiB that is not aligned
  for (let nth = 1; nth <= tables; nth += 1) {
    const hardware = iommu();
    const made = hardware.allocDomain();
    made.map(at(G1 * 3), pfn(1), 1, PROT_RW);
    const before = [made.stats.tables, [...made.leaves()]];
    hardware.failures.fail('table', nth, 'ENOMEM');
    assert.throws(() => made.map(at(M2 - 1), pfn(9), M2 * 3 + 1, PROT_RW), { name: 'IOMMU_INJECTED', errno: 'ENOMEM' });
    assert.deepEqual([made.stats.tables, [...made.leaves()]], before, `table ${nth}`);
  }
});

test('a planted failure can be taken back, and a senseless one is refused', () => {
  const { failures } = iommu();
  const undo = failures.fail('alloc', 1, 'EIO');
  undo();
  undo();
  failures.fail('attach', 1, 'EIO');
  failures.clear();
  assert.equal(failures.pending, 0);
  for (const nth of [0, -1, 1.5]) {
    assert.throws(() => failures.fail('map', nth, 'EIO'), { name: 'IOMMU_BAD_OPTION', errno: 'EINVAL' });
  }
});
