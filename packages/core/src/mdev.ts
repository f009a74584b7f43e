import { Device } from './device.js';
import type { Duty } from './duty-guard.js';
import { coreErrors } from './errors.js';
import { Group } from './group.js';
import type { Runtime } from './runtime.js';
import type { DeviceOps, MdevTypeInfo, VendorDriver } from './vendor-driver.js';

const DUTIES: readonly Duty[] = ['create', 'open', 'close', 'reset', 'remove', 'dmaUnmap'];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** One mediated device: a device in a group of its own. Source: struct mdev_device. */
export class Mdev {
  readonly uuid: string;
  readonly type: string;
  readonly parent: MdevParent;
  readonly device: Device;
  #state: 'creating' | 'active' | 'removing' | 'gone' = 'creating';
  #removal: Promise<void> | undefined;

  constructor(parent: MdevParent, type: string, device: Device) {
    this.parent = parent;
    this.type = type;
    this.uuid = device.name;
    this.device = device;
  }

  get group(): Group {
    return this.device.group;
  }

  get state(): 'creating' | 'active' | 'removing' | 'gone' {
    return this.#state;
  }

  /** Creation is complete: from now on it may be removed. */
  activate(): void {
    this.#state = 'active';
  }

  /**
   * Removes the device: asks its users every 10 s until all closed it, then runs the driver's `remove` and gives the instance
   * back. Somebody else removing it already is success.
   * @throws CORE_MDEV_GONE (ENODEV), CORE_MDEV_NOT_ACTIVE (EAGAIN), CORE_REENTRY (EBUSY) from inside a duty.
   */
  async remove(): Promise<void> {
    if (this.#state === 'removing') return;
    if (this.#state === 'gone') throw coreErrors.MDEV_GONE({ uuid: this.uuid });
    if (this.#state === 'creating') throw coreErrors.MDEV_NOT_ACTIVE({ uuid: this.uuid });
    this.#removal = this.#remove();
    await this.#removal;
  }

  /** Removes the device, or waits until whoever is removing it has done so. */
  async removeOrJoin(): Promise<void> {
    await (this.#removal ?? this.remove());
  }

  async #remove(): Promise<void> {
    this.#state = 'removing';
    try {
      await this.device.unregister();
    } catch (refusal) {
      this.#state = 'active';
      this.#removal = undefined;
      throw refusal;
    }
    this.#state = 'gone';
    await this.parent.removed(this);
  }
}

/** What parents share: UUIDs are unique over all of them, group numbers too. */
export interface MdevRegistry {
  readonly runtime: Runtime;
  /** The parent that already has this UUID. */
  parentOf(uuid: string): string | undefined;
  nextGroupId(): number;
  track(group: Group): void;
  untrack(group: Group): void;
}

/** A physical (or pretended) device that offers mediated ones through one vendor driver. Source: struct mdev_parent. */
export class MdevParent {
  readonly name: string;
  readonly driver: VendorDriver;
  readonly #registry: MdevRegistry;
  readonly #mdevs = new Map<string, Mdev>();
  readonly #creating = new Set<string>();
  readonly #idle = new Set<() => void>();
  #left: number;
  #unregistration: Promise<void> | undefined;
  #state: 'registered' | 'unregistering' | 'gone' = 'registered';

  constructor(name: string, driver: VendorDriver, registry: MdevRegistry) {
    this.name = name;
    this.driver = driver;
    this.#registry = registry;
    this.#left = driver.maxInstances ?? Number.POSITIVE_INFINITY;
    registry.runtime.publish('parent:registered', { parent: name, driver: driver.name });
  }

  get mdevs(): ReadonlyMap<string, Mdev> {
    return this.#mdevs;
  }

  /** mdev_supported_types. */
  get types(): readonly MdevTypeInfo[] {
    return this.driver.types;
  }

  /** How many more of a type can be created; Infinity when nobody counts. @throws CORE_NO_TYPE (ENOENT). */
  availableInstances(type: string): number {
    this.#checkType(type);
    return this.driver.available?.(type) ?? this.#left;
  }

  has(uuid: string): boolean {
    return this.#mdevs.has(uuid) || this.#creating.has(uuid);
  }

  /**
   * Creates a mediated device (the write to `create`). Checks in the kernel's order.
   * @throws CORE_BAD_UUID (EINVAL), CORE_UUID_EXISTS (EEXIST, under any parent), CORE_NO_INSTANCES (EUSERS),
   * CORE_PARENT_GONE (ENODEV), CORE_NO_TYPE (ENOENT), and what the driver's `create` throws; nothing is left behind then.
   */
  async create(type: string, uuid: string): Promise<Mdev> {
    const id = uuid.toLowerCase();
    this.#checkType(type);
    if (!UUID.test(id)) throw coreErrors.BAD_UUID({ uuid });
    const parent = this.#registry.parentOf(id);
    if (parent !== undefined) throw coreErrors.UUID_EXISTS({ uuid: id, parent });
    if (this.driver.available === undefined && this.#left < 1) {
      throw coreErrors.NO_INSTANCES({ parent: this.name, type });
    }
    if (this.#state !== 'registered') throw coreErrors.PARENT_GONE({ parent: this.name });
    this.#creating.add(id);
    this.#left -= 1;
    try {
      return await this.#create(type, id);
    } catch (cause) {
      this.#left += 1;
      throw cause;
    } finally {
      this.#creating.delete(id);
      for (const resume of [...this.#idle]) resume();
    }
  }

  /**
   * Takes the parent away: waits for creations and removals under way, refuses new ones, removes every child (each blocks
   * until its users closed it). @throws CORE_REENTRY (EBUSY) from inside a duty, CORE_PARENT_GONE (ENODEV).
   * Source: mdev_unregister_parent().
   */
  async unregister(): Promise<void> {
    this.#registry.runtime.guard.refuseInside(`unregistration of parent ${this.name}`, DUTIES);
    if (this.#state !== 'registered') throw coreErrors.PARENT_GONE({ parent: this.name });
    this.#unregistration = this.#unregister();
    await this.#unregistration;
  }

  /** Unregisters, or waits until whoever does so is done. */
  async unregisterOrJoin(): Promise<void> {
    await (this.#unregistration ?? this.unregister());
  }

  async #unregister(): Promise<void> {
    this.#state = 'unregistering';
    while (this.#creating.size > 0) await this.#creationSettled();
    await Promise.all([...this.#mdevs.values()].map((mdev) => mdev.removeOrJoin()));
    this.#state = 'gone';
    this.#registry.runtime.publish('parent:unregistered', { parent: this.name, driver: this.driver.name });
  }

  /** The driver's last duty; the instance is free again afterwards. Called by the device itself. */
  async removed(mdev: Mdev): Promise<void> {
    const { runtime } = this.#registry;
    const who = { device: mdev.uuid, driver: this.driver.name, duty: 'remove' } as const;
    try {
      await runtime.guard.run(who, () => mdev.device.ops.remove?.());
    } catch (error) {
      runtime.publish('driver:failed', { ...who, error }); // why: remove never fails; the device is gone either way
    }
    this.#mdevs.delete(mdev.uuid);
    this.#left += 1;
    this.#registry.untrack(mdev.group);
    runtime.publish('mdev:removed', { uuid: mdev.uuid, parent: this.name, type: mdev.type });
  }

  async #create(type: string, uuid: string): Promise<Mdev> {
    const { runtime } = this.#registry;
    const id = this.#registry.nextGroupId();
    const group = new Group({ id, name: `${id}`, type: 'emulated' });
    const device = new Device(runtime, group, { name: uuid, driver: this.driver.name });
    const who = { device: uuid, driver: this.driver.name, duty: 'create' } as const;
    device.ops = await runtime.guard.run<DeviceOps>(who, () => this.#callDriver(type, device));
    const mdev = new Mdev(this, type, device);
    group.addDevice(device);
    this.#registry.track(group);
    this.#mdevs.set(uuid, mdev);
    mdev.activate();
    runtime.publish('mdev:created', { uuid, parent: this.name, type });
    return mdev;
  }

  #callDriver(type: string, device: Device): DeviceOps | Promise<DeviceOps> {
    const { clock, log } = this.#registry.runtime;
    const context = { name: device.name, type, parent: this.name, dma: device.dma, clock, log };
    return this.driver.pins ? this.driver.create({ ...context, pins: device.pins }) : this.driver.create(context);
  }

  #checkType(type: string): void {
    if (this.types.some((known) => known.id === type)) return;
    throw coreErrors.NO_TYPE({ parent: this.name, type, known: this.types.map((known) => known.id) });
  }

  #creationSettled(): Promise<void> {
    return new Promise((resolve) => {
      const resume = (): void => {
        this.#idle.delete(resume);
        resolve();
      };
      this.#idle.add(resume);
    });
  }
}
