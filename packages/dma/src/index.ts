export { BouncePool, type BouncePoolOptions, SLOT_SIZE } from './bounce-pool.js';
export { type CoherentBuffer, coherentBytes } from './coherent.js';
export { DmaDebug, type DmaDebugCounters, type DmaDebugOptions } from './debug/dma-debug.js';
export { bucketOf, type DebugEntry, type EntryType } from './debug/entries.js';
export { dmaDebugErrors, type MappingDetails } from './debug/reports.js';
export { DmaDevice } from './device.js';
export { DeviceDma, type DeviceDmaOptions } from './device-dma.js';
export { DirectDma, type DirectDmaOptions } from './direct-ops.js';
export * from './direction.js';
export type { CpuBuffer, Dma, ResourcePiece, SgUse } from './dma.js';
export { dmaErrors } from './errors.js';
export { FLUSH_DELAY, FlushQueue } from './flush-queue.js';
export { type FrameMapper, type MapperStats, PerPageMapper, RegionMapper } from './frame-mapper.js';
export { IommuDma, type IommuDmaOptions } from './iommu-ops.js';
export type { IovaSource } from './iova-space.js';
export { type DmaLookup, MappedPins } from './mapped-pins.js';
export {
  type CpuArea,
  type CpuPlace,
  type CpuSpace,
  copyPhysical,
  type PageRequest,
  type PageSource,
} from './memory.js';
export type { DmaOps, MapFailure, MappingUse } from './ops.js';
export { type Owner, Ownership } from './ownership.js';
export { PagePool, type PagePoolOptions } from './page-pool.js';
export { DMA_QUIRKS, type DmaQuirk, quirksOf } from './quirks.js';
export { type DmaSegment, type MemoryPiece, SgList } from './sg.js';
export {
  type DmaShrinker,
  DmaShrinkers,
  formatShrinkReport,
  SHRINK_PRIORITY,
  type Shortage,
  type ShrinkPriority,
  type ShrinkReport,
  type ShrinkRound,
} from './shrinkers.js';
