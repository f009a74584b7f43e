import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame as at, type Errno, PROT_READ, PROT_RW, PROT_WRITE, asPfn as pfn, silentLog } from '@pinion/core';
import { createSoftwareIommu, type DmaFault, type SoftwareIommuOptions } from '@pinion/iommu';
import fc from 'fast-check';
import { HostPages } from './host-pages.js';

const HOST = 1000;

/** A function behind a domain that maps iova pages 16 (rw), 17 (r), 18 (w), 20 (rw, a device's page) and no other. */
function setup(options: Partial<SoftwareIommuOptions> = {}) {
  const memory = new HostPages(HOST, 8);
  const iommu = createSoftwareIommu({ memory, ...options });
  const group = iommu.createGroup();
  const disk = group.addFunction('disk');
  const domain = group.allocDomain();
  group.attach(domain);
  domain.map(at(16), pfn(HOST + 5), 1, PROT_RW);
  domain.map(at(17), pfn(HOST + 2), 1, PROT_READ);
  domain.map(at(18), pfn(HOST + 3), 1, PROT_WRITE);
  domain.map(at(20), pfn(7), 1, PROT_RW);
  return { memory, iommu, group, disk, domain };
}
const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);

test('a read over two pages gathers host pages that do not lie together', () => {
  const { memory, disk, iommu } = setup();
  memory.bytes(pfn(HOST + 5), 1).fill(0xaa);
  memory.bytes(pfn(HOST + 2), 1).fill(0xbb);
  const got = bytes(8, 0);
  disk.read(0x10ffcn, got);
  assert.deepEqual([...got], [0xaa, 0xaa, 0xaa, 0xaa, 0xbb, 0xbb, 0xbb, 0xbb]);
  assert.equal(iommu.faults.total, 0);
});

test('a write lands in the host page and nowhere else', () => {
  const { memory, disk } = setup();
  disk.write(0x10ff8n, bytes(8, 0x11));
  const page = memory.bytes(pfn(HOST + 5), 1);
  assert.deepEqual([...page.subarray(0xff0)], [...bytes(8, 0), ...bytes(8, 0x11)]);
  assert.ok(memory.bytes(pfn(HOST), 5).every((byte) => byte === 0));
});

test('an access of no bytes touches nothing, not even an unmapped address', () => {
  const { disk, iommu } = setup();
  disk.read(0n, bytes(0, 0));
  disk.write(1n << 63n, bytes(0, 0));
  assert.equal(iommu.faults.total, 0);
});

const refused: ReadonlyArray<
  readonly [access: 'read' | 'write', iova: bigint, faultAt: bigint, reason: DmaFault['reason']]
> = [
  ['read', 0x0n, 0x0n, 'unmapped'],
  ['write', 0x13008n, 0x13008n, 'unmapped'],
  ['write', 0x11010n, 0x11010n, 'read-only'],
  ['read', 0x12abcn, 0x12abcn, 'write-only'],
  ['write', 0x10ff8n, 0x11000n, 'read-only'],
  ['read', 0x11ff8n, 0x12000n, 'write-only'],
  ['write', 0x12ff8n, 0x13000n, 'unmapped'],
  ['read', 0x14000n, 0x14000n, 'unreachable'],
  ['write', 0x80_0000_0000n, 0x80_0000_0000n, 'beyond-width'],
  ['read', 0xffff_ffff_ffff_fff0n, 0xffff_ffff_ffff_fff0n, 'beyond-width'],
];
for (const [access, iova, faultAt, reason] of refused) {
  test(`a ${access} at 0x${iova.toString(16)} faults: ${reason}`, () => {
    const { disk, iommu } = setup();
    assert.throws(() => disk[access](iova, bytes(16, 1)), { name: 'IOMMU_FAULT', errno: 'EFAULT' });
    assert.deepEqual(iommu.faults.entries, [{ device: 'disk', group: 0, iova: faultAt, access, reason }]);
  });
}

test('what came before a fault stays done', () => {
  const { memory, disk } = setup();
  assert.throws(() => disk.write(0x10ff8n, bytes(16, 0x77)), { errno: 'EFAULT' });
  assert.deepEqual([...memory.bytes(pfn(HOST + 5), 1).subarray(0xff8)], [...bytes(8, 0x77)]);
  const got = bytes(16, 0);
  memory.bytes(pfn(HOST + 2), 1).fill(0x55);
  assert.throws(() => disk.read(0x11ff8n, got), { errno: 'EFAULT' });
  assert.deepEqual([...got], [...bytes(8, 0x55), ...bytes(8, 0)]);
});

test('the error says who, how, where and why', () => {
  const { disk } = setup();
  assert.throws(() => disk.write(0x11004n, bytes(1, 0)), {
    message: 'DMA write by disk at 0x11004 faulted: read-only',
  });
});

const wrong: ReadonlyArray<readonly [what: string, iova: bigint, length: number, name: string, errno: Errno]> = [
  ['a negative address', -1n, 1, 'IOMMU_BAD_ADDRESS', 'EINVAL'],
  ['an address of 65 bits', 1n << 64n, 1, 'IOMMU_BAD_ADDRESS', 'EINVAL'],
  ['an access past 2^64', (1n << 64n) - 4n, 5, 'IOMMU_BAD_ADDRESS', 'EINVAL'],
];
for (const [what, iova, length, name, errno] of wrong) {
  test(`${what} is no DMA at all`, () => {
    const { disk, iommu } = setup();
    assert.throws(() => disk.read(iova, bytes(length, 0)), { name, errno });
    assert.equal(iommu.faults.total, 0);
  });
}

test('without bus mastering there is no DMA and no fault', () => {
  const { disk, iommu, memory } = setup();
  disk.busMaster = false;
  assert.throws(() => disk.write(0x10000n, bytes(4, 9)), { name: 'IOMMU_BUS_MASTER_OFF', errno: 'EIO' });
  disk.busMaster = true;
  assert.equal(memory.bytes(pfn(HOST + 5), 1)[0], 0);
  disk.write(0x10000n, bytes(4, 9));
  assert.equal(memory.bytes(pfn(HOST + 5), 1)[0], 9);
  assert.equal(iommu.faults.total, 0);
});

test('behind nothing every access faults, before, between and after domains', () => {
  const { disk, iommu, group, domain } = setup();
  disk.read(0x10000n, bytes(4, 0));
  group.detach(domain);
  assert.throws(() => disk.read(0x10000n, bytes(4, 0)), { errno: 'EFAULT' });
  group.removeFunction('disk');
  group.attach(domain);
  disk.busMaster = true;
  assert.throws(() => disk.read(0x10000n, bytes(4, 0)), { errno: 'EFAULT' });
  assert.deepEqual(
    iommu.faults.entries.map(({ reason }) => reason),
    ['no-domain', 'no-domain'],
  );
});

test('a cached translation dies with its mapping', () => {
  const { disk, domain, memory } = setup();
  disk.write(0x10000n, bytes(4, 1));
  domain.unmap(at(16), 1);
  assert.throws(() => disk.write(0x10000n, bytes(4, 2)), { errno: 'EFAULT' });
  domain.map(at(16), pfn(HOST + 6), 1, PROT_READ);
  assert.throws(() => disk.write(0x10000n, bytes(4, 3)), { errno: 'EFAULT' });
  domain.unmap(at(16), 1);
  domain.map(at(16), pfn(HOST + 6), 1, PROT_RW);
  disk.write(0x10000n, bytes(4, 4));
  assert.equal(memory.bytes(pfn(HOST + 5), 1)[0], 1);
  assert.equal(memory.bytes(pfn(HOST + 6), 1)[0], 4);
});

test('a cached translation dies with its domain', () => {
  const { disk, group, domain, memory } = setup();
  disk.write(0x10000n, bytes(1, 1));
  group.detach(domain);
  const other = group.allocDomain();
  other.map(at(16), pfn(HOST), 1, PROT_RW);
  group.attach(other);
  disk.write(0x10000n, bytes(1, 2));
  assert.equal(memory.bytes(pfn(HOST + 5), 1)[0], 1);
  assert.equal(memory.bytes(pfn(HOST), 1)[0], 2);
});

test('translations repeat from the cache, and pages that share a slot still go right', () => {
  const { disk, domain, memory } = setup();
  domain.map(at(16 + 64), pfn(HOST + 1), 1, PROT_RW);
  for (let round = 0; round < 3; round += 1) {
    disk.write(0x10000n, bytes(1, 10 + round));
    disk.write(0x10000n, bytes(1, 10 + round));
    disk.write(0x50000n, bytes(1, 20 + round));
  }
  assert.equal(memory.bytes(pfn(HOST + 5), 1)[0], 12);
  assert.equal(memory.bytes(pfn(HOST + 1), 1)[0], 22);
  assert.deepEqual({ hits: disk.iotlb.hits, misses: disk.iotlb.misses }, { hits: 3, misses: 6 });
});

test('the fault log keeps the newest and counts all', () => {
  const { disk, iommu } = setup({ faultLogSize: 2 });
  for (const page of [1n, 2n, 3n]) assert.throws(() => disk.read(page << 12n, bytes(1, 0)), { errno: 'EFAULT' });
  assert.deepEqual(
    iommu.faults.entries.map(({ iova }) => iova),
    [0x2000n, 0x3000n],
  );
  assert.deepEqual([iommu.faults.total, iommu.faults.dropped], [3, 1]);
  iommu.faults.clear();
  assert.deepEqual([iommu.faults.entries, iommu.faults.total, iommu.faults.dropped], [[], 0, 0]);
});

test('listeners hear of faults; one that throws is logged and stops nobody', () => {
  const warnings: string[] = [];
  const { disk, iommu } = setup({ log: { ...silentLog, warn: (message) => warnings.push(message) } });
  const heard: DmaFault[] = [];
  iommu.faults.listen(() => {
    throw new RangeError('not interested');
  });
  const stop = iommu.faults.listen((fault) => heard.push(fault));
  assert.throws(() => disk.read(0n, bytes(1, 0)), { name: 'IOMMU_FAULT' });
  stop();
  assert.throws(() => disk.read(0n, bytes(1, 0)), { name: 'IOMMU_FAULT' });
  assert.deepEqual(heard, [{ device: 'disk', group: 0, iova: 0n, access: 'read', reason: 'unmapped' }]);
  assert.equal(warnings.length, 2);
});

test('DMA through any mapping does what memory behind a table of pages would do', () => {
  const pages = fc.uniqueArray(fc.nat(15), { minLength: 1, maxLength: 8 });
  const access = fc.record({ write: fc.boolean(), at: fc.nat(16 * 4096 - 1), length: fc.nat(9000), fill: fc.nat(255) });
  fc.assert(
    fc.property(pages, fc.array(access, { maxLength: 8 }), (mapped, accesses) => {
      const memory = new HostPages(0, 8);
      const iommu = createSoftwareIommu({ memory });
      const group = iommu.createGroup();
      const domain = group.allocDomain();
      group.attach(domain);
      const nic = group.addFunction('nic');
      for (const [index, page] of mapped.entries()) domain.map(at(page), pfn(index), 1, PROT_RW);
      const model = new Map(mapped.map((page) => [page, new Uint8Array(4096)]));
      for (const { write, at: start, length, fill } of accesses) {
        const buffer = bytes(length, fill);
        const expected = bytes(length, fill);
        let done = 0;
        for (; done < length; done += 1) {
          const page = model.get((start + done) >> 12);
          if (page === undefined) break;
          if (write) page[(start + done) & 4095] = fill;
          else expected[done] = page[(start + done) & 4095] ?? 0;
        }
        const act = () => (write ? nic.write(BigInt(start), buffer) : nic.read(BigInt(start), buffer));
        if (done < length) assert.throws(act, { errno: 'EFAULT' });
        else act();
        assert.deepEqual(buffer, expected);
      }
      for (const [index, page] of mapped.entries()) assert.deepEqual(memory.bytes(pfn(index), 1), model.get(page));
    }),
    { numRuns: 40 },
  );
});
