import {
  type Container,
  type DeviceFile,
  EXTENSION,
  type Group,
  type GroupFile,
  type Mediator,
  Teardown,
} from '@pinion/core';
import { type ClientLimits, type ClientTask, clientTask } from './client-memory.js';
import type { ClientPages } from './client-pages.js';
import { DmaSpace } from './dma-space.js';

export interface VmSpaceOptions extends ClientLimits {
  readonly mediator: Mediator;
  /** The memory that the mediator was made with. */
  readonly pages: ClientPages;
  /** Of the VM, for messages. */
  readonly name: string;
  /** Default TYPE1v2_IOMMU. */
  readonly iommuType?: number;
}

/** A device of the mediator, open in the container of a VM. */
export class DeviceSeat {
  readonly name: string;
  readonly #group: GroupFile;
  #file: DeviceFile;

  constructor(name: string, group: GroupFile, file: DeviceFile) {
    this.name = name;
    this.#group = group;
    this.#file = file;
  }

  get file(): DeviceFile {
    return this.#file;
  }

  /** Whether the device has pages pinned. */
  get holdsPages(): boolean {
    return this.#file.device.pins.pages > 0;
  }

  /**
   * Closes and opens the device: what its driver would not give back is taken back by core. The device's state is a new one.
   * @throws what the driver throws when it is opened.
   */
  async reopen(): Promise<void> {
    await this.#file.close().catch(() => {}); // why: it is closed all the same, and what it had left was announced
    this.#file = await this.#group.openDevice(this.name);
  }

  /** Closes the device; its group leaves the container. @throws what the driver's close throws, after all that. */
  async close(): Promise<void> {
    try {
      await this.#file.close();
    } finally {
      this.#group.close();
    }
  }
}

/**
 * What a server has of one VM: a process to count for, a container, and the devices in it. Serve each device on a socket of
 * its own with `dma` as their space, and they share mappings and accounting as devices of one VM do.
 */
export class VmSpace {
  readonly task: ClientTask;
  readonly container: Container;
  readonly dma: DmaSpace;
  readonly #iommuType: number;
  readonly #seats = new Set<DeviceSeat>();

  constructor(options: VmSpaceOptions) {
    this.task = clientTask(options.name, options.pages, options);
    this.container = options.mediator.openContainer(this.task);
    this.dma = new DmaSpace(this.container, this.task);
    this.#iommuType = options.iommuType ?? EXTENSION.TYPE1v2_IOMMU;
  }

  /** Puts a device's group into the container and opens the device. All or nothing. @throws what core, the backend and the driver throw. */
  async attach(group: Group, name: string): Promise<DeviceSeat> {
    const file = group.open(this.task);
    try {
      file.setContainer(this.container);
      if (this.container.backend === undefined) this.container.setIommu(this.#iommuType);
      const seat = new DeviceSeat(name, file, await file.openDevice(name));
      this.#seats.add(seat);
      return seat;
    } catch (cause) {
      file.close();
      throw cause;
    }
  }

  /** Takes a device out. With the last one every mapping goes. */
  async detach(seat: DeviceSeat): Promise<void> {
    this.#seats.delete(seat);
    await seat.close();
  }

  /** Everything goes. Close the servers first. @throws as `Teardown.run`, after all was tried. */
  async close(): Promise<void> {
    const steps = new Teardown();
    steps.defer(() => this.dma.close());
    steps.defer(() => this.task.mm.exit());
    steps.defer(() => this.container.close());
    for (const seat of this.#seats) steps.defer(() => this.detach(seat));
    await steps.run();
  }
}
