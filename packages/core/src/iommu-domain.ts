import type { Prot } from './flags.js';
import type { FrameRange, IovaFrame, Pfn } from './units.js';

/** Why a part of the IOVA space cannot be mapped. Source: enum iommu_resv_type; DIRECT_RELAXABLE may be ignored by VFIO. */
export type ReservedKind = 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'sw-msi';

/** A closed range of IOVA frames that cannot be mapped, and why. Source: struct iommu_resv_region. */
export interface ReservedRegion {
  readonly range: FrameRange;
  readonly kind: ReservedKind;
}

/**
 * One set of I/O page tables. Source: struct iommu_domain and iommu_map()/iommu_unmap()/iova_to_phys().
 * A backend sees domains only through this interface, so it never knows which IOMMU stands behind.
 */
export interface IommuDomain {
  /** Domains with the same `hardware` and coherency can be shared between groups. Source: domain->ops. */
  readonly hardware: string;
  /** Bitmap of page sizes in bytes that the hardware can map, e.g. 0x40201000n. */
  readonly pageSizes: bigint;
  /** The IOVA window the hardware translates. */
  readonly aperture: FrameRange;
  /** DMA through this domain snoops the caches. Source: enforce_cache_coherency. */
  readonly coherent: boolean;
  /**
   * Maps `count` frames from `first` to the host-contiguous frames from `pfn`.
   * All or nothing. @throws PinionError ERANGE/EFAULT outside the width, EEXIST over an existing entry, ENOMEM.
   */
  map(first: IovaFrame, pfn: Pfn, count: number, prot: Prot): void;
  /** Clears the entries of `count` frames from `first`; absent ones are skipped. @returns frames that were mapped. */
  unmap(first: IovaFrame, count: number): number;
  /** The host frame behind an IOVA frame, undefined where nothing is mapped. Source: iommu_iova_to_phys(). */
  lookup(frame: IovaFrame): Pfn | undefined;
  /** Releases the tables. The domain is unusable afterwards. */
  free(): void;
}

/** The hardware side of a group of passthrough functions: the unit that an IOMMU can isolate. Source: struct iommu_group. */
export interface IommuGroup {
  readonly id: number;
  readonly reserved: readonly ReservedRegion[];
  /** Interrupts are remapped, so a device cannot forge another's. Source: iommu_group_has_isolated_msi(). */
  readonly isolatedInterrupts: boolean;
  /** DMA ownership claimed by somebody else (a host driver bound to a member)? Source: iommu_group_dma_owner_claimed(). */
  readonly ownerClaimed: boolean;
  /** Takes the group for a user. @throws PinionError EPERM if a host driver uses a member, EBUSY if not in its default domain. */
  claimOwner(owner: object): void;
  releaseOwner(owner: object): void;
  /** A new empty domain of this group's hardware. @throws PinionError ENOMEM, EIO. */
  allocDomain(): IommuDomain;
  /** Puts every function of the group behind `domain`. @throws PinionError EINVAL if the hardware cannot use this domain. */
  attach(domain: IommuDomain): void;
  /** Puts the functions back behind nothing (all their DMA faults) or their default domain. */
  detach(domain: IommuDomain): void;
}
