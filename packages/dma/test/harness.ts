import { asPfn, type Clock, type Pfn } from '@pinion/core';
import {
  BouncePool,
  type CpuSpace,
  DeviceDma,
  DirectDma,
  DmaDebug,
  DmaDevice,
  type DmaQuirk,
  type DmaShrinkers,
  IommuDma,
  Ownership,
  PagePool,
} from '@pinion/dma';
import { createSoftwareIommu, IovaAllocator } from '@pinion/iommu';

/** First frame of the test memory. */
export const BASE = 0x1000;

/** Everything behind an IOMMU, under the debugger. */
export function behindIommu(
  options: {
    readonly pages?: number;
    readonly quirks?: readonly DmaQuirk[];
    readonly lazy?: Clock;
    readonly shrinkers?: DmaShrinkers;
    readonly mask?: bigint;
    readonly cpu?: CpuSpace;
  } = {},
) {
  const memory = new PagePool({ first: BASE, pages: options.pages ?? 256 });
  const iommu = createSoftwareIommu({ memory });
  const group = iommu.createGroup({ functions: ['nic'] });
  const domain = group.allocDomain();
  const device = new DmaDevice('nic', 'e1000');
  device.mask = options.mask ?? device.mask;
  group.claimOwner(device);
  group.attach(domain);
  const iovas = new IovaAllocator();
  const ops = new IommuDma({
    domain,
    iovas,
    memory,
    pages: memory,
    quirks: options.quirks ?? [],
    ...(options.lazy === undefined ? {} : { lazy: options.lazy }),
  });
  const ownership = new Ownership();
  const raw = new DeviceDma({
    device,
    ops,
    ownership,
    ...(options.shrinkers === undefined ? {} : { shrinkers: options.shrinkers }),
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
  });
  const debug = new DmaDebug();
  const [nic] = group.functions;
  if (nic === undefined) throw new TypeError('the group was made with a function');
  return { memory, iommu, domain, device, iovas, ops, ownership, raw, debug, dma: debug.watch(raw), nic };
}

/** No IOMMU: memory at `first`, and a bounce buffer in its last 256 pages if asked for. */
export function withoutIommu(
  options: { readonly first?: number; readonly bounce?: boolean; readonly force?: boolean } = {},
) {
  const first = options.first ?? BASE;
  const memory = new PagePool({ first, pages: 512 });
  const low = new PagePool({ first: 0x800, pages: 256 });
  const all = {
    pageClass: (pfn: Pfn) => (memory.holds(pfn, 1) ? memory.pageClass(pfn) : low.pageClass(pfn)),
    bytes: (pfn: Pfn, count: number) => (low.holds(pfn, count) ? low.bytes(pfn, count) : memory.bytes(pfn, count)),
    contiguous: (pfn: Pfn) => memory.contiguous(pfn) || low.contiguous(pfn),
    unpinPage: () => {},
  };
  const bounce = options.bounce ? new BouncePool({ memory: all, first: 0x800, pages: 256 }) : undefined;
  const device = new DmaDevice('nic', 'e1000');
  const ops = new DirectDma({
    memory: all,
    lastFrame: first + 511,
    pages: memory,
    force: options.force ?? false,
    ...(bounce === undefined ? {} : { bounce }),
  });
  return { memory: all, pages: memory, bounce, device, ops, dma: new DeviceDma({ device, ops }) };
}

/** `length` bytes from `offset` in page number `page` of the test memory. */
export const piece = (page: number, offset = 0, length = 4096) => ({ pfn: asPfn(BASE + page), offset, length });

/** Names of reports in order. */
export const names = (debug: DmaDebug): readonly string[] =>
  debug.reports.map(({ name }) => name.replace('DMADEBUG_', ''));
