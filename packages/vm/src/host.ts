import {
  type Clock,
  createMediator,
  type Device,
  definePlugin,
  type Group,
  type Log,
  type Mediator,
  type Plugin,
  silentLog,
  systemClock,
  Teardown,
  type Undo,
  type VendorDriver,
} from '@pinion/core';
import { createSoftwareIommu, type SoftwareDomain, type SoftwareGroup, type SoftwareIommu } from '@pinion/iommu';
import { type Type1Options, type1 } from '@pinion/type1';
import type { Registry, VmDescription } from './description.js';
import type { MediatedKind } from './device-kind.js';
import { MachineMemory } from './host-memory.js';
import { createRegistry } from './registry.js';

/** Groups of mediated devices are numbered from 1; those of functions begin here. */
const FIRST_GROUP_ID = 100;

export interface HostOptions {
  /** What the description was read with. Default: `createRegistry()`. */
  readonly registry?: Registry;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly type1?: Type1Options;
  /** Memory of the machine; default: as much as is asked for. */
  readonly memory?: MachineMemory;
}

/**
 * The machine that VMs run on: memory, an IOMMU with its groups and functions, a mediator with type1, and the parents
 * of mediated devices. `close` undoes everything, also what VMs left.
 */
export class Host {
  readonly registry: Registry;
  readonly memory: MachineMemory;
  readonly iommu: SoftwareIommu;
  readonly mediator: Mediator;
  readonly log: Log;
  readonly clock: Clock;
  readonly #functions: ReadonlyMap<string, Device>;
  readonly #groups: ReadonlyMap<Group, SoftwareGroup>;
  readonly #teardown: Teardown;
  readonly #running = new Set<Undo>();

  private constructor(parts: HostParts) {
    this.registry = parts.registry;
    this.memory = parts.memory;
    this.iommu = parts.iommu;
    this.mediator = parts.mediator;
    this.log = parts.log;
    this.clock = parts.clock;
    this.#functions = parts.functions;
    this.#groups = parts.groups;
    this.#teardown = parts.teardown;
  }

  /** Builds what a description needs of its host. A failure leaves nothing behind. */
  static async create(description: VmDescription, options: HostOptions = {}): Promise<Host> {
    const teardown = new Teardown();
    try {
      return new Host(await build(description, options, teardown));
    } catch (cause) {
      await teardown.run();
      throw cause;
    }
  }

  /** The passthrough function of that name, bound to vfio-pci. */
  findFunction(name: string): Device | undefined {
    return this.#functions.get(name);
  }

  /** The I/O page tables that a group's functions sit behind right now. */
  domainOf(group: Group): SoftwareDomain | undefined {
    return this.#groups.get(group)?.domain;
  }

  /** Keeps how to stop a VM that runs here. @returns what to call when it has ended. */
  track(stop: Undo): () => void {
    this.#running.add(stop);
    return () => void this.#running.delete(stop);
  }

  /** Stops the VMs that still run, closes the mediator, then the files behind the devices. All of it, also when parts fail. */
  async close(): Promise<void> {
    for (const stop of this.#running) this.#teardown.defer(stop);
    await this.#teardown.run();
  }
}

interface HostParts {
  readonly registry: Registry;
  readonly memory: MachineMemory;
  readonly iommu: SoftwareIommu;
  readonly mediator: Mediator;
  readonly log: Log;
  readonly clock: Clock;
  readonly functions: ReadonlyMap<string, Device>;
  readonly groups: ReadonlyMap<Group, SoftwareGroup>;
  readonly teardown: Teardown;
}

async function build(description: VmDescription, options: HostOptions, teardown: Teardown): Promise<HostParts> {
  const { registry = createRegistry(), memory = new MachineMemory(), log = silentLog, clock = systemClock } = options;
  const iommu = createSoftwareIommu({ memory, log });
  const drivers = await createDrivers(description, registry, { log, defer: (undo) => teardown.defer(undo) });
  const plugins = [type1(options.type1), devicesPlugin(drivers, registry)];
  const mediator = await createMediator({ memory, log, clock, plugins });
  teardown.defer(() => mediator.close());
  for (const parent of description.parents ?? []) mediator.registerParent(parent.name, parent.driver);
  const bound = bindFunctions(description, { registry, iommu, mediator, log });
  return { registry, memory, iommu, mediator, log, clock, ...bound, teardown };
}

async function createDrivers(
  { parents = [] }: VmDescription,
  registry: Registry,
  resources: Parameters<MediatedKind['createDriver']>[1],
): Promise<VendorDriver[]> {
  const drivers: VendorDriver[] = [];
  for (const kind of registry.kinds.values()) {
    const own = parents.filter(({ driver }) => driver === kind.driver);
    if (kind.mediated && own.length > 0) drivers.push(await kind.createDriver(own, resources));
  }
  return drivers;
}

const devicesPlugin = (drivers: readonly VendorDriver[], registry: Registry): Plugin =>
  definePlugin({
    name: 'vm',
    core: '^0.1',
    register(scope) {
      for (const driver of drivers) scope.vendorDriver(driver);
      for (const hypervisor of registry.hypervisors.values()) scope.hypervisor(hypervisor);
    },
  });

/** Makes every group with its functions, and binds them all to vfio-pci. */
function bindFunctions(
  description: VmDescription,
  { registry, iommu, mediator, log }: Pick<HostParts, 'registry' | 'iommu' | 'mediator' | 'log'>,
): Pick<HostParts, 'functions' | 'groups'> {
  const functions = new Map<string, Device>();
  const groups = new Map<Group, SoftwareGroup>();
  const devices = description.containers.flatMap((container) => container.devices);
  for (const [index, { name }] of (description.groups ?? []).entries()) {
    const hardware = iommu.createGroup({ id: FIRST_GROUP_ID + index });
    const group = mediator.addGroup({ name, iommu: hardware });
    groups.set(group, hardware);
    for (const config of devices.filter((each) => each.group === name)) {
      const kind = registry.kinds.get(config.driver);
      const pci = hardware.addFunction(config.name);
      const ops = kind?.mediated === false ? kind.createFunction(config, pci, log) : {};
      functions.set(config.name, mediator.addDevice(group, config.name, ops));
    }
  }
  return { functions, groups };
}
