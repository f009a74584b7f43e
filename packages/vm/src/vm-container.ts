import { type Container, type DeviceFile, type Group, type GroupFile, PROT_RW } from '@pinion/core';
import type { PluggedRegion } from './guest-memory.js';
import type { VmTask } from './task.js';

/** An opened group and how many of its devices the VM has open through it. */
interface Lease {
  readonly file: GroupFile;
  devices: number;
}

/**
 * A container as the VMM handles it: the guest's memory is mapped one to one (a device's addresses are guest-physical ones)
 * as long as any group is attached. The last group leaving drops all mappings, as in Linux; the next one gets them again.
 */
export class VmContainer {
  readonly name: string;
  readonly container: Container;
  readonly #iommuType: number;
  readonly #task: VmTask;
  readonly #leases = new Map<Group, Lease>();
  readonly #regions = new Map<string, PluggedRegion>();

  constructor(name: string, container: Container, about: { iommuType: number; task: VmTask }) {
    this.name = name;
    this.container = container;
    this.#iommuType = about.iommuType;
    this.#task = about.task;
  }

  /** Regions that are mapped, or will be as soon as a group is attached. */
  get regions(): readonly PluggedRegion[] {
    return [...this.#regions.values()];
  }

  /** Opens a device; its group is opened and attached first if need be. A failure undoes that. @throws what core and the backend throw. */
  async openDevice(group: Group, device: string): Promise<DeviceFile> {
    const lease = this.#leases.get(group) ?? this.#attach(group);
    lease.devices += 1;
    try {
      return await lease.file.openDevice(device);
    } catch (cause) {
      this.#release(group, lease);
      throw cause;
    }
  }

  /** Closes a device; with the last one of its group, the group leaves the container. @throws what the driver's close throws, after all that. */
  async closeDevice(group: Group, file: DeviceFile): Promise<void> {
    try {
      await file.close();
    } finally {
      const lease = this.#leases.get(group);
      if (lease !== undefined) this.#release(group, lease);
    }
  }

  /** Maps a region at its guest-physical address. @throws what the backend throws; nothing changed then. */
  map(region: PluggedRegion): void {
    if (this.container.backend !== undefined) this.#mapNow(region);
    this.#regions.set(region.name, region);
  }

  /** Unmaps a region; waits until every device gave its pages back. @returns bytes that were mapped. @throws what the backend throws. */
  async unmap(name: string): Promise<bigint> {
    const region = this.#regions.get(name);
    if (region === undefined) return 0n;
    if (this.container.backend === undefined) {
      this.#regions.delete(name);
      return 0n;
    }
    const { size } = await this.container.unmapDma({ iova: region.at, size: region.size });
    this.#regions.delete(name);
    return size;
  }

  #attach(group: Group): Lease {
    const file = group.open(this.#task);
    try {
      file.setContainer(this.container);
      if (this.container.backend === undefined) this.#configure();
    } catch (cause) {
      file.close();
      throw cause;
    }
    const lease = { file, devices: 0 };
    this.#leases.set(group, lease);
    return lease;
  }

  #configure(): void {
    this.container.setIommu(this.#iommuType);
    for (const region of this.#regions.values()) this.#mapNow(region);
  }

  #mapNow({ at, size, vaddr }: PluggedRegion): void {
    this.container.mapDma({ iova: at, size, vaddr, prot: PROT_RW });
  }

  #release(group: Group, lease: Lease): void {
    lease.devices -= 1;
    if (lease.devices > 0) return;
    this.#leases.delete(group);
    lease.file.close();
  }
}
