import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn } from '@pinion/core';
import { type FrameMapper, PerPageMapper, RegionMapper } from '@pinion/dma';
import { BASE, behindIommu, withoutIommu } from './harness.js';

const MAPPERS: readonly (readonly [name: string, make: (world: ReturnType<typeof behindIommu>) => FrameMapper])[] = [
  ['one IOVA per page', ({ dma }) => new PerPageMapper(dma)],
  ['a contiguous IOVA per region', ({ device, ops }) => new RegionMapper(device, ops)],
];

for (const [name, make] of MAPPERS) {
  test(`${name}: a device reads the guest's page, until it is unmapped`, () => {
    const world = behindIommu();
    const mapper = make(world);
    mapper.addRegion(0x100, 64);
    world.memory.bytes(asPfn(BASE + 9), 1).fill(9);
    const address = mapper.map(0x120, asPfn(BASE + 9));
    assert.equal(mapper.lookup(0x120), address);
    const bytes = new Uint8Array(8);
    world.nic.read(address + 16n, bytes);
    assert.ok(bytes.every((byte) => byte === 9));
    mapper.unmap(0x120);
    mapper.unmap(0x120); // nothing there: skipped
    assert.equal(mapper.lookup(0x120), undefined);
    assert.throws(() => world.nic.read(address, bytes), { name: 'IOMMU_FAULT' });
    mapper.removeRegion(0x100);
    assert.deepEqual([world.ops.frames, mapper.stats.mapped, world.domain.stats.frames], [0, 0, 0]);
    world.debug.assertClean();
  });

  test(`${name}: a region goes with everything in it`, () => {
    const world = behindIommu();
    const mapper = make(world);
    mapper.addRegion(0, 16);
    mapper.addRegion(100, 16);
    for (const gfn of [0, 3, 15, 101]) mapper.map(gfn, asPfn(BASE + gfn));
    mapper.removeRegion(0);
    assert.deepEqual([mapper.stats.mapped, mapper.lookup(3), typeof mapper.lookup(101)], [1, undefined, 'bigint']);
    mapper.removeRegion(100);
    assert.deepEqual([world.ops.frames, world.domain.stats.frames], [0, 0]);
  });

  test(`${name}: refused`, () => {
    const world = behindIommu();
    const mapper = make(world);
    mapper.addRegion(10, 10);
    mapper.map(12, asPfn(BASE));
    const before = world.ops.frames;
    assert.throws(() => mapper.addRegion(19, 1), { name: 'DMA_REGION_OVERLAP', errno: 'EEXIST' });
    assert.throws(() => mapper.map(20, asPfn(BASE)), { name: 'DMA_NO_REGION', errno: 'ENOENT' });
    assert.throws(() => mapper.unmap(9), { name: 'DMA_NO_REGION' });
    assert.throws(() => mapper.removeRegion(11), { name: 'DMA_NO_REGION' });
    assert.throws(() => mapper.map(12, asPfn(BASE + 1)), { name: 'DMA_FRAME_MAPPED', errno: 'EEXIST' });
    assert.equal(world.ops.frames, before);
    world.iommu.failures.fail('map', 1, 'ENOMEM');
    assert.throws(() => mapper.map(13, asPfn(BASE + 2)));
    assert.equal(mapper.stats.mapped, 1);
    mapper.removeRegion(10);
    assert.deepEqual([world.ops.frames, world.domain.stats.frames], [0, 0]);
  });
}

test('entries: as many as pages, or as many as regions; the price is IOVA for pages that are never mapped', () => {
  const [one, two] = [behindIommu(), behindIommu()];
  const [perPage, region] = [new PerPageMapper(one.dma), new RegionMapper(two.device, two.ops)];
  for (const mapper of [perPage, region]) {
    mapper.addRegion(0, 200);
    for (let gfn = 0; gfn < 200; gfn += 4) mapper.map(gfn, asPfn(BASE + gfn));
  }
  assert.deepEqual(perPage.stats, { mapped: 50, ranges: 50, iovaFrames: 50, entries: 50 });
  assert.deepEqual(region.stats, { mapped: 50, ranges: 1, iovaFrames: 200, entries: 1 });
});

test('a region for which there is no IOVA is refused', () => {
  const { device, ops } = behindIommu({ mask: 0x1_ffffn });
  const mapper = new RegionMapper(device, ops);
  assert.throws(() => mapper.addRegion(0, 64), { name: 'DMA_NO_IOVA', errno: 'ENOMEM' });
  assert.equal(ops.frames, 0);
});

test('with no IOMMU the address is the page', () => {
  const { dma, ops } = withoutIommu();
  const mapper = new PerPageMapper(dma);
  mapper.addRegion(0, 16);
  assert.equal(mapper.map(5, asPfn(BASE + 7)), BigInt(BASE + 7) * 4096n);
  mapper.removeRegion(0);
  assert.equal(ops.live.mappings, 0);
});
