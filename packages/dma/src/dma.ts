import type { HostMemory, PinionError } from '@pinion/core';
import type { CoherentBuffer } from './coherent.js';
import type { DmaDevice } from './device.js';
import type { Attributes, Direction } from './direction.js';
import type { CpuSpace } from './memory.js';
import type { DmaSegment, MemoryPiece, SgList } from './sg.js';

/** How many entries of a list, and with what attributes. */
export interface SgUse {
  /** Default: all. Unmap and sync want what was given to map, never what map returned. */
  readonly nents?: number;
  /** Bits of ATTR. Default 0. */
  readonly attributes?: Attributes;
}

/** A buffer by its CPU address. */
export interface CpuBuffer {
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
}

/** A piece of device memory by its physical address. */
export interface ResourcePiece {
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
}

/**
 * What a driver does DMA with. Maps return an address, or DMA_MAPPING_ERROR (lists: 0 segments) when there is no space: **test the
 * result** with `mappingError`. Unmap and sync want the same length, direction and number of entries that map got. After a map the
 * device owns the memory; the CPU may touch it only between `syncForCpu` and `syncForDevice`.
 *
 * Every method throws DMA_BAD_DIRECTION, DMA_BAD_LENGTH, DMA_BAD_NENTS, DMA_BAD_ADDRESS (EINVAL) for arguments that make no
 * sense, and unmaps DMA_NOT_MAPPED, DMA_WRONG_SIZE (EINVAL); nothing was changed then. Source: Documentation/core-api/dma-api.rst.
 */
export interface Dma {
  readonly device: DmaDevice;
  readonly memory: HostMemory;
  readonly cpu: CpuSpace | undefined;
  /** Why the last map failed; undefined if it did not. */
  readonly lastFailure: PinionError | undefined;

  /** Sets the streaming mask. @throws DMA_BAD_MASK (EIO); the mask stays. Source: dma_set_mask(). */
  setMask(mask: bigint): void;
  /** Sets the mask of coherent memory. @throws DMA_BAD_MASK (EIO); the mask stays. */
  setCoherentMask(mask: bigint): void;

  /** Maps a piece of memory. Low bits of the address are the offset in its page, unless it is bounced. */
  mapPage(piece: MemoryPiece, direction: Direction, attributes?: Attributes): bigint;
  unmapPage(segment: DmaSegment, direction: Direction, attributes?: Attributes): void;
  /** The same by CPU address. Memory that is not linear fails. @throws DMA_NO_CPU_SPACE (EINVAL) */
  mapSingle(buffer: CpuBuffer, direction: Direction, attributes?: Attributes): bigint;
  unmapSingle(segment: DmaSegment, direction: Direction, attributes?: Attributes): void;

  /** Maps a list and fills its segments. @returns their number, at most that of the entries; 0: nothing is mapped. */
  mapSg(list: SgList, direction: Direction, use?: SgUse): number;
  /** The same. @throws PinionError with the reason: ENOMEM, EINVAL, EIO. Source: dma_map_sgtable(). */
  mapSgTable(list: SgList, direction: Direction, use?: SgUse): void;
  unmapSg(list: SgList, direction: Direction, use?: SgUse): void;

  /** Maps device memory; it is never bounced nor synchronised. */
  mapResource(piece: ResourcePiece, direction: Direction): bigint;
  unmapResource(segment: DmaSegment, direction: Direction): void;

  /** Zeroed memory that both sides see alike. @returns undefined: none in reach. */
  allocCoherent(size: number, attributes?: Attributes): CoherentBuffer | undefined;
  freeCoherent(buffer: CoherentBuffer, attributes?: Attributes): void;
  /** Contiguous pages, mapped like a streaming buffer. @returns undefined: none in reach. */
  allocPages(size: number, direction: Direction): CoherentBuffer | undefined;
  freePages(buffer: CoherentBuffer, direction: Direction): void;

  /** Whether a map failed. Source: dma_mapping_error(). */
  mappingError(dma: bigint): boolean;

  syncForCpu(segment: DmaSegment, direction: Direction): void;
  syncForDevice(segment: DmaSegment, direction: Direction): void;
  syncSgForCpu(list: SgList, direction: Direction, nents?: number): void;
  syncSgForDevice(list: SgList, direction: Direction, nents?: number): void;
}
