import type { IrqInfo, RegionInfo } from '@pinion/core';
import { BAR0_SIZE, CONFIG_SIZE, IRQ, REGION } from './regs.js';

/** VFIO's own PCI region indexes: BARs, ROM, config space, VGA. */
const PCI_REGIONS = 9;

/** One INTx line and one plain MSI. */
export const GVT_IRQS: readonly IrqInfo[] = Object.freeze([
  { index: IRQ.INTX, name: 'intx', count: 1 },
  { index: IRQ.MSI, name: 'msi', count: 1 },
]);

/** All of VFIO's PCI indexes; what a vGPU does not have is of size 0. */
export function listRegions(apertureBytes: number): readonly RegionInfo[] {
  const sizes = new Map<number, readonly [name: string, size: number]>([
    [REGION.BAR0, ['bar0', BAR0_SIZE]],
    [REGION.BAR2, ['bar2', apertureBytes]],
    [REGION.ROM, ['rom', 0]],
    [REGION.CONFIG, ['config', CONFIG_SIZE]],
    [REGION.VGA, ['vga', 0]],
  ]);
  return Object.freeze(
    Array.from({ length: PCI_REGIONS }, (_, index) => region(index, ...(sizes.get(index) ?? [`bar${index}`, 0]))),
  );
}

const region = (index: number, name: string, size: number): RegionInfo =>
  Object.freeze({ index, name, size, readable: size > 0, writable: size > 0 });
