import type { Hypervisor } from '@pinion/core';
import type { DeviceConfig, DeviceKind, ParentConfig } from './device-kind.js';

/** What there is for a description to name. */
export interface Registry {
  readonly kinds: ReadonlyMap<string, DeviceKind>;
  /** IOMMU type numbers (arguments of VFIO_SET_IOMMU) by the name that a description gives them. */
  readonly iommuTypes: ReadonlyMap<string, number>;
  /** Types that exist but cannot serve a VM of this host, with what to change. */
  readonly unservedIommuTypes?: ReadonlyMap<string, string>;
  readonly hypervisors: ReadonlyMap<string, Hypervisor>;
}

export interface MemoryConfig {
  readonly name: string;
  /** Guest-physical, bytes. */
  readonly at: bigint;
  readonly size: bigint;
}

/** An IOMMU group of passthrough functions. */
export interface GroupConfig {
  readonly name: string;
}

export interface ContainerConfig {
  readonly name: string;
  readonly iommu: string;
  readonly devices: readonly DeviceConfig[];
}

/** A VM and the host devices it needs, as read and checked. */
export interface VmDescription {
  readonly name: string;
  readonly hypervisor: string;
  readonly memory: readonly MemoryConfig[];
  readonly groups?: readonly GroupConfig[];
  readonly parents?: readonly ParentConfig[];
  readonly containers: readonly ContainerConfig[];
  /** RLIMIT_MEMLOCK, bytes; absent: unlimited. */
  readonly memlock?: bigint;
}
