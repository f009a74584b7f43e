import type { IrqInfo, RegionInfo } from '@pinion/core';
import { EDID_REGION_SIZE } from './display/edid-region.js';
import { OPREGION_SIZE } from './display/opregion.js';
import { gvtErrors } from './errors.js';
import { BAR0_SIZE, CONFIG_SIZE, IRQ, REGION } from './regs.js';
import type { Slice } from './types.js';

/** VFIO's own PCI region indexes: BARs, ROM, config space, VGA. */
const PCI_REGIONS = 9;
/** A region begins in the device's file at its index times this. Source: VFIO_PCI_OFFSET_SHIFT. */
const OFFSET_SHIFT = 40n;
/** Bits of `flags`. Source: VFIO_REGION_INFO_FLAG_*. */
export const REGION_FLAG = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** Types of regions above VFIO's own. Source: VFIO_REGION_TYPE_*, VFIO_REGION_SUBTYPE_*. */
export const REGION_TYPE = {
  OPREGION: { type: 0x80008086, subtype: 1 },
  EDID: { type: 1, subtype: 1 },
} as const;

/** One INTx line and one plain MSI. */
export const GVT_IRQS: readonly IrqInfo[] = Object.freeze([
  { index: IRQ.INTX, name: 'intx', count: 1 },
  { index: IRQ.MSI, name: 'msi', count: 1 },
]);

/** Bits of an interrupt's `flags`. Source: VFIO_IRQ_INFO_*. */
export const IRQ_FLAG = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** VFIO_DEVICE_GET_IRQ_INFO. */
export interface GvtIrqInfo {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

/** A region of a vGPU. */
export interface GvtRegion extends RegionInfo {
  /** What it is, above VFIO's own indexes. */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** The only parts that may be mapped: offset and size in bytes. */
  readonly areas?: readonly Slice[];
}

/** VFIO_DEVICE_GET_REGION_INFO: `offset` is that in the device's file, bytes. */
export interface GvtRegionInfo {
  readonly index: number;
  readonly flags: number;
  readonly size: number;
  readonly offset: bigint;
  /** Capability "sparse mmap". */
  readonly areas: readonly Slice[];
  /** Capability "type". */
  readonly type: { readonly type: number; readonly subtype: number } | undefined;
}

/** All of VFIO's PCI indexes, where what a vGPU does not have is of size 0, and the OpRegion and the EDID of its monitor. `low`: its slice of BAR2. */
export function listRegions(apertureBytes: number, low: Slice): readonly GvtRegion[] {
  const sizes = new Map<number, readonly [name: string, size: number]>([
    [REGION.BAR0, ['bar0', BAR0_SIZE]],
    [REGION.BAR2, ['bar2', apertureBytes]],
    [REGION.ROM, ['rom', 0]],
    [REGION.CONFIG, ['config', CONFIG_SIZE]],
    [REGION.VGA, ['vga', 0]],
  ]);
  const areas = Object.freeze([Object.freeze({ base: low.base, size: low.size })]);
  const own = Array.from({ length: PCI_REGIONS }, (_, index) => {
    const found = plain(index, ...(sizes.get(index) ?? [`bar${index}`, 0]));
    return Object.freeze(index === REGION.BAR2 ? { ...found, areas } : found);
  });
  return Object.freeze([
    ...own,
    Object.freeze({
      ...plain(REGION.OPREGION, 'opregion', OPREGION_SIZE),
      writable: false,
      type: REGION_TYPE.OPREGION,
    }),
    Object.freeze({ ...plain(REGION.EDID, 'edid', EDID_REGION_SIZE), type: REGION_TYPE.EDID }),
  ]);
}

const plain = (index: number, name: string, size: number): GvtRegion => ({
  index,
  name,
  size,
  readable: size > 0,
  writable: size > 0,
});

/** A region as its ioctl tells it. @throws PinionError GVT_NO_REGION (EINVAL). */
export function regionInfo(regions: readonly GvtRegion[], index: number): GvtRegionInfo {
  const region = regions[index];
  if (region === undefined) throw gvtErrors.NO_REGION({ index, count: regions.length });
  const { readable, writable, size, areas = [], type } = region;
  const caps = areas.length > 0 || type !== undefined;
  const flags =
    (readable ? REGION_FLAG.READ : 0) |
    (writable ? REGION_FLAG.WRITE : 0) |
    (areas.length > 0 ? REGION_FLAG.MMAP : 0) |
    (caps ? REGION_FLAG.CAPS : 0);
  return { index, flags, size, offset: BigInt(index) << OFFSET_SHIFT, areas, type };
}

/** An interrupt as its ioctl tells it. @throws PinionError GVT_NO_IRQ (EINVAL). Source: i915 kvmgt. */
export function irqInfo(index: number): GvtIrqInfo {
  const irq = GVT_IRQS[index];
  if (irq === undefined) throw gvtErrors.NO_IRQ({ index });
  const more = index === IRQ.INTX ? IRQ_FLAG.MASKABLE | IRQ_FLAG.AUTOMASKED : IRQ_FLAG.NORESIZE;
  return { index, flags: IRQ_FLAG.EVENTFD | more, count: irq.count };
}
