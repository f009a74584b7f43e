import type { BackendGroup, GroupType } from './backend.js';
import type { Container } from './container.js';
import type { Device } from './device.js';
import { coreErrors } from './errors.js';
import { GROUP_FLAG } from './flags.js';
import { GroupFile } from './group-file.js';
import type { IommuGroup } from './iommu-domain.js';
import type { Task } from './memory.js';

/** What a group is told about itself when it is added; nothing of it changes. */
export interface GroupAbout {
  readonly id: number;
  readonly name: string;
  readonly type: GroupType;
  readonly iommu?: IommuGroup;
}

/** The unit of isolation: what a container takes and gives up as a whole. Source: struct vfio_group. */
export class Group implements BackendGroup {
  readonly id: number;
  readonly name: string;
  readonly type: GroupType;
  declare readonly iommu?: IommuGroup;
  readonly #devices: Device[] = [];
  #container: Container | undefined;
  #file: GroupFile | undefined;
  #users = 0;
  #gone = false;

  constructor(about: GroupAbout) {
    this.id = about.id;
    this.name = about.name;
    this.type = about.type;
    if (about.iommu !== undefined) this.iommu = about.iommu;
  }

  get devices(): readonly Device[] {
    return this.#devices;
  }

  get container(): Container | undefined {
    return this.#container;
  }

  /** Open devices: each keeps the group in its container. Source: group->container_users, without the container's own. */
  get users(): number {
    return this.#users;
  }

  /** The last device left; the group cannot be given a container any more. Source: group->iommu_group == NULL. */
  get gone(): boolean {
    return this.#gone;
  }

  /**
   * Opens the group: one opener at a time. @throws CORE_GROUP_GONE (ENODEV), CORE_GROUP_RAWIO (EPERM), CORE_GROUP_OPEN (EBUSY).
   * Source: vfio_group_fops_open().
   */
  open(caller: Task): GroupFile {
    if (this.#devices.length === 0) throw coreErrors.GROUP_GONE({ group: this.name });
    this.checkRawIo(caller);
    if (this.#file !== undefined) throw coreErrors.GROUP_OPEN({ group: this.name });
    this.#file = new GroupFile(this, caller, () => {
      this.#file = undefined;
      if (this.#container !== undefined) this.detach();
    });
    return this.#file;
  }

  /** The open file, if any. */
  get file(): GroupFile | undefined {
    return this.#file;
  }

  checkRawIo(caller: Task): void {
    if (this.type !== 'noiommu' || caller.rawIo) return;
    throw coreErrors.GROUP_RAWIO({ group: this.name, task: caller.name });
  }

  /** VFIO_GROUP_GET_STATUS flags. @throws CORE_GROUP_GONE (ENODEV). */
  status(): number {
    if (this.#gone) throw coreErrors.GROUP_GONE({ group: this.name });
    if (this.#container !== undefined) return GROUP_FLAG.VIABLE | GROUP_FLAG.CONTAINER_SET;
    return this.iommu?.ownerClaimed === true ? 0 : GROUP_FLAG.VIABLE;
  }

  /** VFIO_GROUP_SET_CONTAINER: all or nothing. @throws CORE_HAS_CONTAINER (EINVAL), CORE_GROUP_GONE (ENODEV), the container's. */
  attach(container: Container, caller: Task): void {
    if (this.#container !== undefined) {
      throw coreErrors.HAS_CONTAINER({ group: this.name, container: this.#container.name });
    }
    if (this.#gone) throw coreErrors.GROUP_GONE({ group: this.name });
    this.checkRawIo(caller);
    container.checkMix(this);
    this.iommu?.claimOwner(container);
    try {
      container.addGroup(this, caller);
    } catch (cause) {
      this.iommu?.releaseOwner(container);
      throw cause;
    }
    this.#container = container;
    container.announceAttached(this);
  }

  /** VFIO_GROUP_UNSET_CONTAINER. @throws CORE_NO_CONTAINER (EINVAL), CORE_GROUP_BUSY (EBUSY). */
  unset(): void {
    if (this.#container === undefined) {
      throw coreErrors.NO_CONTAINER({ group: this.name, operation: 'unset container' });
    }
    if (this.#users > 0) throw coreErrors.GROUP_BUSY({ group: this.name, users: this.#users });
    this.detach();
  }

  /** Leaves the container, whoever asked. */
  detach(): void {
    const container = this.#container;
    if (container === undefined) return;
    container.removeGroup(this);
    this.iommu?.releaseOwner(container);
    this.#container = undefined;
    container.announceDetached(this);
  }

  requireContainer(operation: string): Container {
    if (this.#container !== undefined) return this.#container;
    throw coreErrors.NO_CONTAINER({ group: this.name, operation });
  }

  addUser(): void {
    this.#users += 1;
  }

  dropUser(): void {
    this.#users -= 1;
    this.#file?.deviceClosed();
  }

  /** @throws CORE_DEVICE_EXISTS (EEXIST). */
  addDevice(device: Device): void {
    if (this.#devices.some((other) => other.name === device.name)) {
      throw coreErrors.DEVICE_EXISTS({ device: device.name, group: this.name });
    }
    this.#gone = false;
    this.#devices.push(device);
  }

  /** The last device takes the group out of its container, even while the group is open. */
  removeDevice(device: Device): void {
    const index = this.#devices.indexOf(device);
    if (index >= 0) this.#devices.splice(index, 1);
    if (this.#devices.length > 0) return;
    this.#gone = true;
    this.detach();
  }

  /** @throws CORE_DEVICE_GONE (ENODEV). */
  findDevice(name: string): Device {
    const device = this.#devices.find((candidate) => candidate.name === name && candidate.state === 'registered');
    if (device === undefined) throw coreErrors.DEVICE_GONE({ device: name });
    return device;
  }
}
