export { DeviceIovas, type DeviceIovasOptions } from './device-iovas.js';
export { type DomainLeaf, type DomainStats, SoftwareDomain, type Translation } from './domain.js';
export { iommuErrors } from './errors.js';
export { FailureInjection, type FailurePoint } from './failure-injection.js';
export { type DmaFault, type FaultListener, FaultLog, type FaultReason } from './fault-log.js';
export { SoftwareGroup } from './group.js';
export { createSoftwareIommu, type GroupOptions, SoftwareIommu } from './iommu.js';
export type { BeyondWidth, IommuModel, SoftwareIommuOptions } from './iommu-model.js';
export {
  IovaAllocator,
  type IovaAllocatorOptions,
  type IovaQuirks,
  type IovaState,
  LIMIT_ALL_ONES,
} from './iova-allocator.js';
export { CACHED_SIZES, type CacheContent, type CacheLevel, DEPOT_DELAY, MAGAZINE_SIZE } from './iova-caches.js';
export { leafFrame, leafProt, type PackedLeaf } from './page-table.js';
export { PassthroughFunction } from './passthrough-function.js';
export { X86_MSI_WINDOW } from './reserved.js';
