import { DeviceDma, DirectDma, DmaDebug, DmaDevice, DmaShrinkers, IommuDma, PagePool } from '@pinion/dma';
import { GemDevice, type StrategyName } from '@pinion/gem';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';

/** Bits of the GPU's DMA mask: 128 MiB of IOVA, so that it can run out. */
export const MASK_BITS = 27;
/** Frames of IOVA that the GPU can have at all. */
export const IOVA_FRAMES = 2 ** (MASK_BITS - 12) - 1;
const MEMORY_PAGES = 1 << 17;
/** i915 takes segments of any length. */
const MAX_SEGMENT = 0xffff_f000;
/** Debugger entries of a kernel that was told to keep few. Its table did not grow in 2015. */
const FEW_ENTRIES = 96;
/** Where the disk's buffers would be without an IOMMU. */
const LAST_FRAME = 0x1000 + MEMORY_PAGES - 1;

/** One GPU behind an IOMMU with the debugger on. */
export function makeGpu(strategy: StrategyName, shrink: boolean) {
  const memory = new PagePool({ first: 0x1000, pages: MEMORY_PAGES });
  const iommu = createSoftwareIommu({ memory });
  const group = iommu.createGroup({ functions: ['gpu'] });
  const domain = group.allocDomain();
  const device = new DmaDevice('0000:00:02.0', 'i915');
  device.mask = (1n << BigInt(MASK_BITS)) - 1n;
  device.maxSegment = MAX_SEGMENT;
  group.claimOwner(device);
  group.attach(domain);
  const ops = new IommuDma({ domain, iovas: new IovaAllocator(), memory, pages: memory });
  const shrinkers = new DmaShrinkers();
  const [debug, smallDebug] = [new DmaDebug(), new DmaDebug({ entries: FEW_ENTRIES, most: FEW_ENTRIES })];
  const dma = smallDebug.watch(debug.watch(new DeviceDma({ device, ops, shrinkers, mayWait: true })));
  const disk = new DmaDevice('0000:00:1f.2', 'ahci');
  const diskDma = debug.watch(new DeviceDma({ device: disk, ops: new DirectDma({ memory, lastFrame: LAST_FRAME }) }));
  const gem = new GemDevice({ dma, pages: memory, strategy });
  if (shrink) gem.registerShrinkers(shrinkers);
  return { device, debug, diskDma, gem, memory, ops, shrinkers, smallDebug };
}

export type Gpu = ReturnType<typeof makeGpu>;
