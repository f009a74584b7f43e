import type { MediatorBus } from './bus.js';
import type { Clock } from './clock.js';
import { Container } from './container.js';
import { Device } from './device.js';
import { DutyGuard } from './duty-guard.js';
import { coreErrors } from './errors.js';
import { Group } from './group.js';
import type { Hypervisor } from './hypervisor.js';
import type { IommuGroup } from './iommu-domain.js';
import { type Log, silentLog } from './log.js';
import { type Mdev, MdevParent } from './mdev.js';
import type { HostMemory, Task } from './memory.js';
import { type Plugin, registerPlugin } from './plugin.js';
import { Runtime } from './runtime.js';
import { systemClock } from './system-clock.js';
import { Teardown } from './teardown.js';
import {
  BACKENDS,
  BUS,
  createScope,
  endScope,
  HYPERVISORS,
  resolve,
  type Scope,
  type Token,
  VENDOR_DRIVERS,
} from './tokens.js';
import type { DeviceOps, VendorDriver } from './vendor-driver.js';

/** What a mediator needs from whoever composes it. Only `memory` has no default. */
export interface MediatorOptions {
  /** The pages that addresses lead to. */
  readonly memory: HostMemory;
  /** Registered in this order, undone in reverse. */
  readonly plugins?: readonly Plugin[];
  readonly clock?: Clock;
  readonly log?: Log;
  /** Milliseconds a driver's duty may take before it is named and given up; 0: no limit. Default 30 000. */
  readonly dutyLimit?: number;
}

/** Milliseconds that a driver has for one duty unless the composition says otherwise. */
const DUTY_LIMIT = 30_000;

/**
 * The core: owns containers, groups, devices and mediated devices, and routes between the three plug points. One mediator
 * is one VFIO; several can live in one process and share nothing.
 */
export class Mediator {
  readonly #scope: Scope;
  readonly #runtime: Runtime;
  readonly #teardown = new Teardown();
  readonly #containers: Container[] = [];
  readonly #groups = new Map<string, Group>();
  readonly #parents = new Map<string, MdevParent>();
  #groupIds = 0;
  #containerIds = 0;
  #closed = false;

  constructor(options: MediatorOptions) {
    const clock = options.clock ?? systemClock;
    const log = options.log ?? silentLog;
    this.#scope = createScope({ memory: options.memory, clock, log });
    const guard = new DutyGuard(clock, options.dutyLimit ?? DUTY_LIMIT);
    this.#runtime = new Runtime({ bus: resolve(this.#scope, BUS), log, clock, guard, memory: options.memory });
  }

  /** Facts for observers; subscribe with `on`. */
  get bus(): MediatorBus {
    return this.#runtime.bus;
  }

  /** Every container that is open or still held by a group, oldest first. */
  get containers(): readonly Container[] {
    return this.#containers.filter((container) => !container.closed || container.groups.length > 0);
  }

  get groups(): ReadonlyMap<string, Group> {
    return this.#groups;
  }

  get parents(): ReadonlyMap<string, MdevParent> {
    return this.#parents;
  }

  get vendorDrivers(): ReadonlyMap<string, VendorDriver> {
    return resolve(this.#scope, VENDOR_DRIVERS);
  }

  get hypervisors(): ReadonlyMap<string, Hypervisor> {
    return resolve(this.#scope, HYPERVISORS);
  }

  /** Names of the registered backends. */
  get backends(): readonly string[] {
    return resolve(this.#scope, BACKENDS).map((driver) => driver.name);
  }

  /** A service that a plugin provided. @throws CORE_NOT_PROVIDED (ENOENT). */
  get<T>(token: Token<T>): T {
    return resolve(this.#scope, token);
  }

  /**
   * Registers a plugin. @throws CORE_PLUGIN_VERSION, CORE_BAD_PLUGIN (EINVAL), CORE_PLUGIN_EXISTS (EEXIST), and what its
   * `register` throws; nothing of it is left then.
   */
  async use(plugin: Plugin): Promise<void> {
    this.#checkRunning(`use of plugin ${plugin.name}`);
    await registerPlugin(this.#scope, plugin, this.#teardown, new Teardown());
  }

  /** open("/dev/vfio/vfio"). */
  openContainer(opener: Task): Container {
    this.#checkRunning('open of a container');
    const name = `c${this.#containerIds}`;
    this.#containerIds += 1;
    const container = new Container(this.#runtime, { name, opener, drivers: () => resolve(this.#scope, BACKENDS) });
    this.#containers.push(container);
    return container;
  }

  /** A group of passthrough functions behind an IOMMU, or (without `iommu`) unprotected ones. @throws CORE_GROUP_EXISTS (EEXIST). */
  addGroup(about: { readonly name: string; readonly iommu?: IommuGroup }): Group {
    this.#checkRunning(`add of group ${about.name}`);
    if (this.#groups.has(about.name)) throw coreErrors.GROUP_EXISTS({ group: about.name });
    const type = about.iommu === undefined ? 'noiommu' : 'iommu';
    const id = about.iommu?.id ?? this.#nextGroupId();
    const group = new Group({ ...about, id, type });
    this.#groups.set(about.name, group);
    return group;
  }

  /** Binds a passthrough function to its group. @throws CORE_DEVICE_EXISTS (EEXIST). */
  addDevice(group: Group, name: string, ops: DeviceOps): Device {
    this.#checkRunning(`add of device ${name}`);
    const device = new Device(this.#runtime, group, { name, driver: 'vfio-pci' });
    device.ops = ops;
    group.addDevice(device);
    return device;
  }

  /** Offers a parent's types through a registered vendor driver. @throws CORE_NO_DRIVER (ENOENT), CORE_PARENT_EXISTS (EEXIST). */
  registerParent(name: string, driverName: string): MdevParent {
    this.#checkRunning(`registration of parent ${name}`);
    const driver = this.vendorDrivers.get(driverName);
    if (driver === undefined) throw coreErrors.NO_DRIVER({ driver: driverName, known: [...this.vendorDrivers.keys()] });
    if (this.#parents.has(name)) throw coreErrors.PARENT_EXISTS({ parent: name });
    const parent = new MdevParent(name, driver, {
      runtime: this.#runtime,
      parentOf: (uuid) => [...this.#parents.values()].find((other) => other.has(uuid))?.name,
      nextGroupId: () => this.#nextGroupId(),
      track: (group) => void this.#groups.set(group.name, group),
      untrack: (group) => void this.#groups.delete(group.name),
    });
    this.#parents.set(name, parent);
    return parent;
  }

  /** Takes a parent away, with all its mediated devices. */
  async unregisterParent(parent: MdevParent): Promise<void> {
    await parent.unregister();
    this.#parents.delete(parent.name);
  }

  findMdev(uuid: string): Mdev | undefined {
    for (const parent of this.#parents.values()) {
      const mdev = parent.mdevs.get(uuid.toLowerCase());
      if (mdev !== undefined) return mdev;
    }
    return undefined;
  }

  /**
   * Ends everything: closes what users left open (devices, groups, containers), removes mediated devices, unregisters
   * parents, undoes the plugins newest first, ends the scope. All of it, also when parts fail.
   * @throws the failure, or AggregateError of several, after everything was tried. A second call does nothing.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const steps = new Teardown();
    steps.defer(() => endScope(this.#scope));
    steps.defer(() => this.#teardown.run());
    for (const parent of this.#parents.values()) steps.defer(() => parent.unregisterOrJoin());
    for (const container of this.#containers) if (!container.closed) steps.defer(() => container.close());
    for (const group of this.#groups.values()) this.#deferGroup(group, steps);
    await steps.run();
    this.#parents.clear();
    this.#groups.clear();
  }

  /** What a group's users left open, in the order undo reverses. */
  #deferGroup(group: Group, steps: Teardown): void {
    const file = group.file;
    if (file === undefined) return;
    if (!file.closed) steps.defer(() => file.close());
    for (const deviceFile of file.deviceFiles) steps.defer(() => deviceFile.close());
  }

  #nextGroupId(): number {
    this.#groupIds += 1;
    return this.#groupIds;
  }

  #checkRunning(operation: string): void {
    if (this.#closed) throw coreErrors.STOPPED({ operation });
  }
}

/** A mediator with its plugins registered. If one fails, all are undone and its error is thrown. */
export async function createMediator(options: MediatorOptions): Promise<Mediator> {
  const mediator = new Mediator(options);
  try {
    for (const plugin of options.plugins ?? []) await mediator.use(plugin);
  } catch (cause) {
    await mediator.close();
    throw cause;
  }
  return mediator;
}
