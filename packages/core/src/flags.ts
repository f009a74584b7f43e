/** Access rights and the bits of the VFIO ioctls. Source: include/uapi/linux/vfio.h, include/linux/iommu.h. */

/** What a device may do with a page: IOMMU_READ, IOMMU_WRITE. Both are from the device's point of view. */
export const PROT_READ = 1;
/** The device may write the page. */
export const PROT_WRITE = 2;
/** The device may read and write the page. */
export const PROT_RW = 3;
/** Bits of PROT_READ and PROT_WRITE. */
export type Prot = number;

/** VFIO_DMA_MAP_FLAG_* */
export const MAP_FLAG = { READ: 1, WRITE: 2, VADDR: 4 } as const;
/** VFIO_DMA_UNMAP_FLAG_* */
export const UNMAP_FLAG = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;
/** VFIO_IOMMU_DIRTY_PAGES_FLAG_* */
export const DIRTY_FLAG = { START: 1, STOP: 2, GET_BITMAP: 4 } as const;
/** VFIO_IOMMU_INFO_* */
export const INFO_FLAG = { PGSIZES: 1, CAPS: 2 } as const;
/** VFIO_GROUP_FLAGS_* */
export const GROUP_FLAG = { VIABLE: 1, CONTAINER_SET: 2 } as const;

/** VFIO_CHECK_EXTENSION arguments; the first group are also the arguments of VFIO_SET_IOMMU. */
export const EXTENSION = {
  TYPE1_IOMMU: 1,
  SPAPR_TCE_IOMMU: 2,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  EEH: 5,
  TYPE1_NESTING_IOMMU: 6,
  SPAPR_TCE_v2_IOMMU: 7,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;

/** VFIO_GET_API_VERSION. */
export const VFIO_API_VERSION = 0;

/** Sizes in bytes of the fixed part of the ioctl structs: an `argsz` below is EINVAL. */
export const MIN_ARGSZ = {
  MAP: 32,
  UNMAP: 24,
  UNMAP_BITMAP: 48,
  INFO: 16,
  DIRTY: 8,
  DIRTY_BITMAP: 48,
  GROUP_STATUS: 8,
} as const;

/** The most pages one pin or unpin call takes. Source: VFIO_PIN_PAGES_MAX_ENTRIES (PAGE_SIZE / sizeof(unsigned long)). */
export const PIN_PAGES_MAX = 512;

/** Takes flags whose every bit is in `known`; a remainder means a newer or a broken peer. */
export const unknownFlags = (flags: number, known: number): number => (flags & ~known) >>> 0;

/** Access rights for people: `rw`, `r`, `w` or `none`. */
export const formatProt = (prot: Prot): string =>
  `${prot & PROT_READ ? 'r' : ''}${prot & PROT_WRITE ? 'w' : ''}` || 'none';
