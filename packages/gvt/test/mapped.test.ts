import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, type HostMemory, type PinApi } from '@pinion/core';
import {
  DeviceDma,
  DirectDma,
  DmaDebug,
  DmaDevice,
  type FrameMapper,
  IommuDma,
  MappedPins,
  PerPageMapper,
  RegionMapper,
} from '@pinion/dma';
import { DmaCache, SIZE_2M, SIZE_4K, xyColorBlt } from '@pinion/gvt';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';
import { FakeGuest, FakePins } from './fake-guest.js';

const GUEST_PAGES = 1024;
/** The mappers look at no bytes: those come from the pins. */
const memory: HostMemory = {
  pageClass: () => 'normal',
  bytes: () => assert.fail('nobody reads past the pins'),
  contiguous: () => false,
  unpinPage: () => {},
};

/** The real GPU: behind an IOMMU or not, its driver watched by dma-debug. */
function gpu(kind: 'per page' | 'per region' | 'identity') {
  const device = new DmaDevice('0000:00:02.0', 'i915');
  const domain = createSoftwareIommu({ memory }).allocDomain();
  const iommu = new IommuDma({ domain, iovas: new IovaAllocator(), memory });
  const direct = new DirectDma({ memory, lastFrame: 0x80000 });
  const ops = kind === 'identity' ? direct : iommu;
  const debug = new DmaDebug();
  const dma = debug.watch(new DeviceDma({ device, ops }));
  const mapper: FrameMapper = kind === 'per region' ? new RegionMapper(device, iommu) : new PerPageMapper(dma);
  mapper.addRegion(0, GUEST_PAGES);
  const mapPins = (pins: PinApi): PinApi => new MappedPins(pins, mapper, ops);
  const end = (): void => {
    assert.equal(mapper.stats.mapped, 0);
    mapper.removeRegion(0);
    debug.assertClean();
    assert.equal(debug.release(device), 0);
    assert.deepEqual([iommu.frames, domain.stats.frames, direct.live.mappings], [0, 0, 0]);
  };
  return { mapPins, mapper, debug, domain, end };
}

for (const kind of ['per page', 'per region', 'identity'] as const) {
  test(`IOVA ${kind}: a vGPU draws through it, gives pages up, and leaves nothing mapped`, () => {
    const { mapPins, mapper, debug, end } = gpu(kind);
    const guest = new FakeGuest({ mapPins, place: (gfn) => (gfn * 7) % GUEST_PAGES });
    const [ring, screen] = [guest.low.base, guest.high.base];
    guest.startRing(ring, 3);
    guest.mapPages(screen, 100, 4);
    assert.equal(mapper.stats.mapped, 5);
    if (kind !== 'identity') assert.notEqual(mapper.lookup(100), BigInt(guest.pins.hostFrame(100)) << 12n);
    if (kind === 'per page') assert.equal(debug.counters.entries, 5);
    guest.run(
      xyColorBlt({
        target: { address: screen, pitch: 256 },
        rect: { x1: 0, y1: 0, x2: 64, y2: 64 },
        color: 0x00c0ffee,
      }),
    );
    assert.deepEqual([guest.peek(100, 0), guest.peek(103, 4092)], [0x00c0ffee, 0x00c0ffee]);
    guest.unmap(101, 2);
    assert.deepEqual(
      [mapper.lookup(101), mapper.lookup(102), typeof mapper.lookup(103)],
      [undefined, undefined, 'bigint'],
    );
    guest.finish();
    end();
  });

  test(`IOVA ${kind}: pages are mapped once, however often they are held`, () => {
    const { mapPins, mapper, end } = gpu(kind);
    const pins = new FakePins();
    const cache = new DmaCache(mapPins(pins));
    // why: guest frames by number, as the cache's other tests
    const dma = cache.map(5 as never, SIZE_4K);
    assert.equal(cache.map(5 as never, SIZE_4K), dma); // why: as above
    cache.pin(dma);
    assert.deepEqual([mapper.stats.mapped, pins.pages], [1, 1]);
    for (let count = 0; count < 3; count += 1) cache.unmap(dma);
    assert.deepEqual([mapper.stats.mapped, pins.pages], [0, 0]);
    end();
  });
}

test('2 MiB from scattered host pages: refused page by page, contiguous in a region of IOVA', () => {
  const scattered = { place: (gfn: number) => (gfn * 7) % GUEST_PAGES };
  const single = gpu('per page');
  const pins = new FakePins(scattered);
  // why: guest frames by number
  assert.throws(() => new DmaCache(single.mapPins(pins)).map(512 as never, SIZE_2M), { name: 'GVT_NOT_CONTIGUOUS' });
  assert.equal(pins.pages, 0);
  single.end();
  const region = gpu('per region');
  const cache = new DmaCache(region.mapPins(pins));
  const small = cache.map(512 as never, SIZE_4K); // why: guest frames by number
  assert.equal(cache.map(512 as never, SIZE_2M), small); // why: as above; it grew in place
  assert.equal(region.domain.stats.frames, 512);
  assert.equal(cache.destroy(), 1);
  assert.equal(pins.pages, 0);
  region.end();
});

test('a page that cannot be mapped is not pinned either', () => {
  for (const kind of ['per page', 'per region'] as const) {
    const device = new DmaDevice('gpu');
    const iommu = createSoftwareIommu({ memory });
    const ops = new IommuDma({ domain: iommu.allocDomain(), iovas: new IovaAllocator(), memory });
    const mapper =
      kind === 'per page' ? new PerPageMapper(new DeviceDma({ device, ops })) : new RegionMapper(device, ops);
    mapper.addRegion(0, GUEST_PAGES);
    const pins = new FakePins();
    const mapped = new MappedPins(pins, mapper, ops);
    for (const nth of [1, 2, 3, 4]) {
      iommu.failures.fail('map', nth, 'ENOMEM');
      assert.throws(() => mapped.pinInto(8 as never, 4, 3, new Float64Array(4))); // why: guest frames by number
      assert.deepEqual([pins.pages, mapper.stats.mapped], [0, 0]);
    }
    assert.throws(() => mapped.bytes(asPfn(0x12345), 1), { name: 'DMA_NOT_MAPPED' });
    mapper.removeRegion(0);
    assert.equal(ops.frames, 0);
  }
});
