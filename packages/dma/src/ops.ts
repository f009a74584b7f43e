import type { HostMemory, PinionError } from '@pinion/core';
import type { CoherentBuffer } from './coherent.js';
import type { DmaDevice } from './device.js';
import type { Attributes, Direction } from './direction.js';
import type { DmaSegment, MemoryPiece, SgList } from './sg.js';

/** How a mapping is to be used. */
export interface MappingUse {
  readonly direction: Direction;
  readonly attributes: Attributes;
}

/** A failure of a whole list: nothing is mapped, and why. */
export interface MapFailure {
  readonly failed: PinionError;
}

/**
 * What stands between a device and memory: an IOMMU, or nothing but perhaps a bounce buffer. One per domain; the device comes
 * with every call, because its masks may change. Arguments are checked by the caller. Source: struct dma_map_ops.
 */
export interface DmaOps {
  /** Where mappings lead. */
  readonly memory: HostMemory;
  /** @returns the address, or the failure. */
  map(device: DmaDevice, piece: MemoryPiece, use: MappingUse): bigint | MapFailure;
  unmap(device: DmaDevice, segment: DmaSegment, use: MappingUse): void;
  /** Maps a list as a whole. @returns its segments, or the failure: then nothing of it is mapped. */
  mapList(
    device: DmaDevice,
    list: SgList,
    use: MappingUse & { readonly nents: number },
  ): readonly DmaSegment[] | MapFailure;
  unmapList(device: DmaDevice, list: SgList, use: MappingUse & { readonly nents: number }): void;
  /** Device memory (a BAR), never bounced. */
  mapResource(device: DmaDevice, piece: MemoryPiece, use: MappingUse): bigint | MapFailure;
  unmapResource(device: DmaDevice, segment: DmaSegment): void;
  allocate(device: DmaDevice, size: number, attributes: Attributes): CoherentBuffer | MapFailure;
  free(device: DmaDevice, buffer: CoherentBuffer): void;
  /** Contiguous pages that are mapped like a streaming buffer. */
  allocatePages(device: DmaDevice, size: number, use: MappingUse): CoherentBuffer | MapFailure;
  freePages(device: DmaDevice, buffer: CoherentBuffer, use: MappingUse): void;
  /** Makes what the device wrote visible to the CPU. */
  syncForCpu(device: DmaDevice, segment: DmaSegment, direction: Direction): void;
  /** Makes what the CPU wrote visible to the device. */
  syncForDevice(device: DmaDevice, segment: DmaSegment, direction: Direction): void;
  /** Whether a device with this mask can be served. Source: dma_supported(). */
  supports(mask: bigint): boolean;
  /** Bytes of the longest mapping; all ones: no bound. */
  maxMapping(device: DmaDevice): bigint;
  /** Bytes up to which mapping is fast. */
  optMapping(device: DmaDevice): bigint;
  /** The mask that reaches everything. */
  readonly requiredMask: bigint;
  /** Boundary minus one at which list entries merge; 0: they never do. */
  readonly mergeBoundary: bigint;
  /** Mappings and their bytes that this path keeps right now, coherent ones included. */
  readonly live: { readonly mappings: number; readonly bytes: number };
}
