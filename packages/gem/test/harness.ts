import type { Pfn } from '@pinion/core';
import { DeviceDma, DmaDebug, DmaDevice, DmaShrinkers, IommuDma, PagePool } from '@pinion/dma';
import { GemDevice, type GemObject, type GemQuirk, type StrategyName } from '@pinion/gem';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';

/** Frames that the last allocation frame allows, so that space runs out early. */
export interface GpuOptions {
  readonly strategy?: StrategyName;
  readonly quirks?: readonly GemQuirk[];
  /** Bits of the GPU's DMA mask. Default 32. */
  readonly maskBits?: number;
  readonly mayWait?: boolean;
  readonly shrink?: boolean;
  readonly entries?: number;
}

/** A GPU behind an IOMMU with the debugger on. */
export function gpu(options: GpuOptions = {}) {
  const memory = new PagePool({ first: 0x1000, pages: 8192 });
  const iommu = createSoftwareIommu({ memory });
  const group = iommu.createGroup({ functions: ['gpu'] });
  const domain = group.allocDomain();
  const device = new DmaDevice('gpu', 'i915');
  device.mask = (1n << BigInt(options.maskBits ?? 32)) - 1n;
  group.claimOwner(device);
  group.attach(domain);
  const ops = new IommuDma({ domain, iovas: new IovaAllocator(), memory, pages: memory });
  const shrinkers = new DmaShrinkers();
  const raw = new DeviceDma({ device, ops, shrinkers, mayWait: options.mayWait ?? false });
  const debug = new DmaDebug({ entries: options.entries ?? 4096 });
  const gem = new GemDevice({
    dma: debug.watch(raw),
    pages: memory,
    strategy: options.strategy ?? 'get-pages',
    quirks: options.quirks ?? [],
  });
  if (options.shrink ?? true) gem.registerShrinkers(shrinkers);
  const [bus] = group.functions;
  if (bus === undefined) throw new TypeError('the group was made with a function');
  return { memory, iommu, domain, device, ops, shrinkers, raw, debug, gem, bus };
}

export type Gpu = ReturnType<typeof gpu>;

/** Names of the debugger's reports. */
export const names = ({ debug }: Gpu): readonly string[] =>
  debug.reports.map(({ name }) => name.replace('DMADEBUG_', ''));

/** The whole of an object, written by the CPU. */
export function fill(world: Gpu, object: GemObject, byte: number): void {
  object.pinPages();
  for (const pfn of framesOf(object)) world.memory.bytes(pfn, 1).fill(byte);
  object.unpinPages();
}

/** Frames of a shmem object's contents. */
export function framesOf(object: GemObject): readonly Pfn[] {
  const { backing } = object;
  return 'frames' in backing && Array.isArray(backing.frames) ? backing.frames : [];
}

/** Everything is given back. */
export function leftovers(world: Gpu): Record<string, number> {
  const { counters } = world.debug;
  return { iova: world.ops.frames, entries: counters.entries, errors: counters.errors, pages: world.memory.used };
}
export const NOTHING = { iova: 0, entries: 0, errors: 0, pages: 0 };
