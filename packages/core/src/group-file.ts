import type { Container } from './container.js';
import type { Device } from './device.js';
import { coreErrors } from './errors.js';
import type { Group } from './group.js';
import type { Task } from './memory.js';
import type { Migration } from './migration.js';

/** An opened device: what VFIO_GROUP_GET_DEVICE_FD returns. */
export class DeviceFile {
  readonly device: Device;
  readonly #onClose: (file: DeviceFile) => void;
  #closed = false;

  constructor(device: Device, onClose: (file: DeviceFile) => void) {
    this.device = device;
    this.#onClose = onClose;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Reads `bytes.length` bytes of region `index` from `offset`. @throws CORE_FILE_CLOSED (EBADF), CORE_NO_REGION, CORE_OUT_OF_REGION. */
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#check();
    this.device.readRegion(index, offset, bytes);
  }

  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#check();
    this.device.writeRegion(index, offset, bytes);
  }

  async reset(): Promise<void> {
    this.#check();
    await this.device.reset();
  }

  /** @throws CORE_FILE_CLOSED (EBADF). */
  get migration(): Migration | undefined {
    this.#check();
    return this.device.migration;
  }

  /** Closes this file; the last one closes the device. @throws CORE_FILE_CLOSED (EBADF) the second time, and as `Device.close`. */
  async close(): Promise<void> {
    this.#check();
    this.device.checkMayClose();
    this.#closed = true;
    this.#onClose(this);
    await this.device.close();
  }

  #check(): void {
    if (this.#closed) throw coreErrors.FILE_CLOSED({ file: `device file of ${this.device.name}` });
  }
}

/** An opened group. Its release waits for the last device file: a device keeps its group's file. Source: 6.0, vfio_group_fops. */
export class GroupFile {
  readonly group: Group;
  readonly #opener: Task;
  readonly #onRelease: () => void;
  readonly #deviceFiles = new Set<DeviceFile>();
  #closed = false;
  #released = false;

  constructor(group: Group, opener: Task, onRelease: () => void) {
    this.group = group;
    this.#opener = opener;
    this.#onRelease = onRelease;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Device files got through this group file and not closed yet, oldest first. */
  get deviceFiles(): readonly DeviceFile[] {
    return [...this.#deviceFiles];
  }

  /** VFIO_GROUP_SET_CONTAINER. `caller` is who asks now (default: the opener). */
  setContainer(container: Container, caller: Task = this.#opener): void {
    this.#check();
    container.checkOpen();
    this.group.attach(container, caller);
  }

  unsetContainer(): void {
    this.#check();
    this.group.unset();
  }

  /** VFIO_GROUP_GET_STATUS flags. */
  status(): number {
    this.#check();
    return this.group.status();
  }

  /** VFIO_GROUP_GET_DEVICE_FD. @throws CORE_DEVICE_GONE (ENODEV), CORE_NO_CONTAINER, CORE_NO_IOMMU (EINVAL), the driver's. */
  async openDevice(name: string): Promise<DeviceFile> {
    this.#check();
    const device = this.group.findDevice(name);
    await device.open();
    const file = new DeviceFile(device, (closed) => this.#deviceFiles.delete(closed));
    this.#deviceFiles.add(file);
    return file;
  }

  /** Closes the file. The group leaves its container now, or when its last device closes. @throws CORE_FILE_CLOSED (EBADF). */
  close(): void {
    this.#check();
    this.#closed = true;
    this.deviceClosed();
  }

  /** A device of the group was closed: the last one ends a file that is closed already. */
  deviceClosed(): void {
    if (!this.#closed || this.#released || this.group.users > 0) return;
    this.#released = true;
    this.#onRelease();
  }

  #check(): void {
    if (this.#closed) throw coreErrors.FILE_CLOSED({ file: `group file of ${this.group.name}` });
  }
}
