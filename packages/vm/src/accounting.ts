import type { DeviceSlot } from './device-slot.js';
import type { Host } from './host.js';
import type { VmTask } from './task.js';
import type { VmContainer } from './vm-container.js';

/** What a VM holds of its host at one moment. */
export interface Accounting {
  readonly mappings: number;
  readonly mappedBytes: bigint;
  /** Pages in the tables of an IOMMU, per device behind one. */
  readonly iommuPages: ReadonlyMap<string, number>;
  /** Pages pinned by mediated devices, per device that holds any. */
  readonly pinnedPages: ReadonlyMap<string, number>;
  /** VmLck of the VMM's process, pages. When it has exited: what its containers still count as charged. */
  readonly lockedPages: number;
  /** Pages of the host's memory that somebody holds a long-term reference to. */
  readonly heldPages: number;
}

/** The parts of a VM that hold something of its host. */
export interface Holder {
  readonly host: Host;
  readonly task: VmTask;
  readonly containers: readonly VmContainer[];
  readonly slots: readonly DeviceSlot[];
}

/** Looks at every container of a VM. Names are those of its description. */
export function accountingOf(vm: Holder): Accounting {
  const containers = vm.containers.map(({ container }) => container.stats);
  const pins = new Map(containers.flatMap(({ pinsByDevice }) => [...pinsByDevice]));
  const pinnedPages = new Map<string, number>();
  const iommuPages = new Map<string, number>();
  for (const { config, device, plugged } of vm.slots) {
    const pages = pins.get(device.name);
    if (pages !== undefined) pinnedPages.set(config.name, pages);
    const domain = plugged ? vm.host.domainOf(device.group) : undefined;
    if (domain !== undefined) iommuPages.set(config.name, domain.stats.frames);
  }
  return {
    mappings: containers.reduce((sum, { mappings }) => sum + mappings, 0),
    mappedBytes: containers.reduce((sum, { mappedBytes }) => sum + mappedBytes, 0n),
    iommuPages,
    pinnedPages,
    lockedPages: vm.task.mm?.lockedPages ?? containers.reduce((sum, { lockedPages }) => sum + lockedPages, 0),
    heldPages: vm.host.memory.referencedPages,
  };
}
