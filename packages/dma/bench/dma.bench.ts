import { asIovaFrame, asPfn, type HostMemory } from '@pinion/core';
import { DeviceDma, DIRECTION, DirectDma, type Dma, DmaDebug, DmaDevice, IommuDma, SgList } from '@pinion/dma';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';
import { measure, measureAlternately, publish, type Row } from './measure.js';

const { BIDIRECTIONAL } = DIRECTION;
const page = new Uint8Array(4096);
/** Memory where every frame is the same page: what is measured is the way there. */
const memory: HostMemory = {
  pageClass: () => 'normal',
  bytes: () => page,
  contiguous: () => false,
  unpinPage: () => {},
};

function behindIommu(): Dma {
  const domain = createSoftwareIommu({ memory, addressWidth: 48 }).allocDomain();
  const device = new DmaDevice('nic');
  device.maxSegment = 1 << 30;
  return new DeviceDma({ device, ops: new IommuDma({ domain, iovas: new IovaAllocator(), memory }) });
}
const direct = (): Dma =>
  new DeviceDma({ device: new DmaDevice('nic'), ops: new DirectDma({ memory, lastFrame: 0xfffff }) });

/** Pages no two of which are neighbours in memory. */
const scattered = (pages: number): SgList =>
  new SgList(
    Array.from({ length: pages }, (_, index) => ({ pfn: asPfn(0x10000 + index * 2), offset: 0, length: 4096 })),
  );

function mapLists(dma: Dma, list: SgList, times: number): void {
  for (let count = 0; count < times; count += 1) {
    dma.mapSg(list, BIDIRECTIONAL);
    dma.unmapSg(list, BIDIRECTIONAL);
  }
}

const LISTS = [
  [1, 20000],
  [64, 2000],
  [4096, 40],
] as const;
const WORLDS = [
  ['behind the IOMMU', behindIommu],
  ['without one', direct],
] as const;

const rows: Row[] = [];
for (const [where, make] of WORLDS) {
  for (const [pages, times] of LISTS) {
    const list = scattered(pages);
    const round = (dma: Dma): void => mapLists(dma, list, times);
    const [plain, watched] = measureAlternately(times, [
      { name: `map_sg and unmap_sg of ${pages} pages, ${where}`, prepare: make, round },
      { name: 'the same under dma-debug', prepare: () => new DmaDebug().watch(make()), round },
    ]);
    if (plain === undefined || watched === undefined) throw new RangeError('two jobs give two rows');
    rows.push(plain, watched, {
      ...watched,
      name: '  dma-debug costs',
      unit: 'times',
      ns: Math.round((watched.ns / plain.ns) * 10) / 10,
    });
  }
}

const SINGLES = 20000;
rows.push(
  measure('map_page and unmap_page, behind the IOMMU', SINGLES, {
    prepare: behindIommu,
    round: (dma) => {
      for (let count = 0; count < SINGLES; count += 1) {
        const address = dma.mapPage({ pfn: asPfn(7), offset: 0, length: 4096 }, BIDIRECTIONAL);
        dma.unmapPage({ dma: address, length: 4096 }, BIDIRECTIONAL);
      }
    },
  }),
);

/** Space for exactly `ranges` ranges of 64 frames (too large for the caches), full but for every other one. */
function fragmented(ranges: number): { readonly iovas: IovaAllocator; readonly held: readonly number[] } {
  const iovas = new IovaAllocator({ start: 64 });
  const limit = 64 * (ranges + 1) - 1;
  const frames = Array.from({ length: ranges }, () => iovas.allocateFast(64, limit, false) ?? 0);
  for (const [index, frame] of frames.entries()) if (index % 2 === 0) iovas.freeFast(asIovaFrame(frame), 64);
  return { iovas, held: frames.filter((_, index) => index % 2 === 1) };
}

const TRIES = 2000;
for (const ranges of [16, 1024, 16000]) {
  const limit = 64 * (ranges + 1) - 1;
  const prepare = () => fragmented(ranges);
  rows.push(
    measure(`IOVA of a hole's size among ${ranges} ranges`, TRIES, {
      prepare,
      round: ({ iovas }) => {
        for (let count = 0; count < TRIES; count += 1) {
          const frame = iovas.allocateFast(64, limit, false);
          if (frame !== undefined) iovas.freeFast(frame, 64);
        }
      },
    }),
    measure(`IOVA that fits no hole, all ${ranges} ranges searched`, TRIES, {
      prepare,
      round: ({ iovas, held }) => {
        for (let count = 0; count < TRIES; count += 1) {
          iovas.allocateFast(65, limit, false);
          // A free below 4 GiB ends the memory of the failure, so that the next try searches again.
          iovas.freeFast(held[0] ?? 0, 64);
          iovas.allocateFast(64, limit, false);
        }
      },
    }),
    measure(`the same, refused without a search`, TRIES, {
      prepare,
      round: ({ iovas }) => {
        for (let count = 0; count < TRIES; count += 1) iovas.allocateFast(65, limit, false);
      },
    }),
  );
}

publish('dma', rows);
