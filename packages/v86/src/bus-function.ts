import type { RegionInfo } from '@pinion/core';

/** A PCI function as a bus needs it: regions with VFIO's indexes, and interrupts with VFIO's indexes. `PciFunction` of `@pinion/vm` is one. */
export interface BusFunction {
  readonly name: string;
  readonly regions: readonly RegionInfo[];
  /** `length` bytes of a region. @throws what the device throws. */
  read(region: number, offset: number, length: number): Uint8Array;
  write(region: number, offset: number, bytes: Uint8Array): void;
  deliverTo(receive: (interrupt: { readonly index: number; readonly vector: number }) => void): void;
}
