/**
 * Numbers of the ioctls (`_IO(';', 100 + number)`) that a TCE container knows besides CHECK_EXTENSION.
 * Source: include/uapi/linux/vfio.h.
 */
export const TCE_IOCTL = {
  GET_INFO: 12,
  MAP_DMA: 13,
  UNMAP_DMA: 14,
  ENABLE: 15,
  DISABLE: 16,
  REGISTER_MEMORY: 17,
  UNREGISTER_MEMORY: 18,
  CREATE: 19,
  REMOVE: 20,
  EEH_PE_OP: 21,
} as const;

/** Sizes in bytes of the structs: an `argsz` below is EINVAL. */
export const TCE_ARGSZ = {
  INFO: 16,
  INFO_WINDOWS: 32,
  MAP: 32,
  UNMAP: 24,
  REGISTER: 24,
  CREATE: 40,
  REMOVE: 16,
} as const;

/** Flag of `TceInfo`: the part about windows is there. Source: VFIO_IOMMU_SPAPR_INFO_DDW. */
export const TCE_INFO_DDW = 1;

/** struct vfio_iommu_spapr_tce_info, the part that callers fill in. */
export interface TceInfoRequest {
  readonly argsz?: number;
}

/** struct vfio_iommu_spapr_tce_info, bytes. `windows` is absent when the caller has no room or the container is v1. */
export interface TceInfo {
  readonly flags: number;
  readonly start: bigint;
  readonly size: bigint;
  readonly windows?: { readonly pageSizes: bigint; readonly max: number; readonly levels: number };
}

/** struct vfio_iommu_spapr_register_memory, bytes. */
export interface RegisterRequest {
  readonly argsz?: number;
  readonly flags?: number;
  readonly vaddr: bigint;
  readonly size: bigint;
}

/** struct vfio_iommu_spapr_tce_create, bytes. */
export interface CreateRequest {
  readonly argsz?: number;
  readonly flags?: number;
  readonly pageShift: number;
  readonly size: bigint;
  /** Levels of the table; 0 is taken as 1. */
  readonly levels?: number;
}

/** struct vfio_iommu_spapr_tce_remove, bytes. */
export interface RemoveRequest {
  readonly argsz?: number;
  readonly flags?: number;
  readonly start: bigint;
}
