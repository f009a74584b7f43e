import type { ContainerConfig, DeviceConfig, MemoryConfig, Registry, VmDescription } from '@pinion/vm';
import { LAST_REGION_END } from './guest-ram.js';

/** What a PC can have of a description, and what it cannot, by name and with the reason. */
export interface PcPart {
  readonly description: VmDescription;
  readonly absent: readonly (readonly [name: string, reason: string])[];
}

/**
 * The part of a description that this hypervisor can run: devices that a PCI bus can have, with the parents and groups that they need, and
 * memory that the CPU can address. Containers without a device stay.
 */
export function pcPart(description: VmDescription, registry: Registry): PcPart {
  const deviceReason = ({ driver }: DeviceConfig): string | undefined => {
    const api = registry.kinds.get(driver)?.deviceApi;
    return api === 'vfio-pci' ? undefined : `${api} devices belong to s390 machines: embedded hypervisor only`;
  };
  const memoryReason = ({ at, size }: MemoryConfig): string | undefined =>
    at + size <= LAST_REGION_END ? undefined : 'memory beyond the first GiB: this CPU has 32-bit addresses';
  const all = description.containers.flatMap(({ devices }) => devices);
  const absent = [...reasons(description.memory, memoryReason), ...reasons(all, deviceReason)];
  const fits = (device: DeviceConfig): boolean => deviceReason(device) === undefined;
  const containers: readonly ContainerConfig[] = description.containers.map((container) => ({
    ...container,
    devices: container.devices.filter(fits),
  }));
  const wanted = new Set(all.filter(fits).flatMap(({ parent, group }) => [parent, group]));
  const { parents = [], groups = [] } = description;
  return {
    absent,
    description: {
      ...description,
      hypervisor: 'v86',
      memory: description.memory.filter((region) => memoryReason(region) === undefined),
      parents: parents.filter(({ name }) => wanted.has(name)),
      groups: groups.filter(({ name }) => wanted.has(name)),
      containers,
    },
  };
}

const reasons = <T extends { readonly name: string }>(
  all: readonly T[],
  reasonOf: (each: T) => string | undefined,
): readonly (readonly [name: string, reason: string])[] =>
  all.flatMap((each) => {
    const reason = reasonOf(each);
    return reason === undefined ? [] : [[each.name, reason] as const];
  });
