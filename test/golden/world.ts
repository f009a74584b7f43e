import { createMediator, type Device, type DeviceFile, definePlugin, type Group, type Mediator } from '@pinion/core';
import { createSoftwareIommu, type SoftwareIommu } from '@pinion/iommu';
import { type SimulatedFile, SimulatedOs } from '@pinion/testkit';
import { DEFAULT_PARAMETERS, type Profile, type Quirk, quirksOf, type Type1Parameters, type1 } from '@pinion/type1';
import { type PintestDevice, pintestDrivers } from './pintest.js';
import { newProcess, type ProcessOf } from './process.js';
import type { CallbackRecord, Scenario } from './scenario.js';

/** A buffer of a process: where it is and how large it is, bytes. `number` counts buffers from 1. */
export interface Buffer {
  readonly name: string;
  readonly number: number;
  readonly vaddr: bigint;
  readonly size: bigint;
}

/** An open file of a device. */
export interface OpenDevice {
  readonly file: SimulatedFile;
  readonly device: DeviceFile;
}

/** A process with its open files by name. A fork has the same files and copies of the tables. */
export type Process = ProcessOf<OpenDevice, Buffer>;

/** How a scenario is to be answered. */
export interface WorldOptions {
  readonly profile: Profile;
  /** Quirks of the profile that are left out. */
  readonly without?: readonly Quirk[];
}

const PASSTHROUGH = /^pt\d+$/;
const NO_DUTY = /^nc\d+$/;

/** The machine of one scenario, built anew each time: simulated OS, IOMMU, mediator with type1, and the test driver. */
export class World {
  readonly os: SimulatedOs;
  readonly mediator: Mediator;
  readonly iommu: SoftwareIommu;
  /** What reached drivers since the last answer. */
  callbacks: CallbackRecord[] = [];
  parameters: Partial<Type1Parameters> = {};
  readonly #made: Map<string, PintestDevice>;
  readonly #devices = new Map<string, Device>();
  readonly #names = new Map<string, string>();
  #uuids = 0;

  private constructor(parts: {
    os: SimulatedOs;
    iommu: SoftwareIommu;
    mediator: Mediator;
    made: Map<string, PintestDevice>;
  }) {
    this.os = parts.os;
    this.iommu = parts.iommu;
    this.mediator = parts.mediator;
    this.#made = parts.made;
  }

  static async create(scenario: Scenario, options: WorldOptions): Promise<World> {
    const left = new Set(options.without ?? []);
    const quirks = [...quirksOf(options.profile)].filter((quirk) => !left.has(quirk));
    const zeroPage = quirks.includes('shared-zero-page');
    const os = new SimulatedOs({ readOnlyUntouched: zeroPage ? 'zero-page' : 'allocate', poison: false });
    const iommu = createSoftwareIommu({
      memory: os.host,
      addressWidth: Number(/aw-bits=(\d+)/.exec(scenario.env.iommu ?? '')?.[1] ?? 39),
      coherent: false,
      beyondWidth: options.profile === 'linux-7.3' ? 'ERANGE' : 'EFAULT',
    });
    const holder: { world?: World } = {};
    const { pinning, plain, made } = pintestDrivers((callback) => holder.world?.record(callback));
    const drivers = definePlugin({
      name: 'pintest',
      core: '^0.1',
      register(scope) {
        scope.vendorDriver(pinning);
        scope.vendorDriver(plain);
      },
    });
    const parameters = () => holder.world?.parameters ?? DEFAULT_PARAMETERS;
    const backend = type1({ quirks, parameters });
    const mediator = await createMediator({ memory: os.host, plugins: [backend, drivers], dutyLimit: 0 });
    mediator.registerParent('pintest', 'pintest');
    mediator.registerParent('pintest-no-duty', 'pintest-no-duty');
    const world = new World({ os, iommu, mediator, made });
    holder.world = world;
    return world;
  }

  spawn(): Process {
    return newProcess(this.os.spawn());
  }

  record(callback: CallbackRecord): void {
    this.callbacks.push({ ...callback, dev: this.#names.get(callback.dev) ?? callback.dev });
  }

  /** The callbacks since the last call. */
  takeCallbacks(): CallbackRecord[] {
    const taken = this.callbacks;
    this.callbacks = [];
    return taken;
  }

  /** The device of a recorded name, made at first use. */
  async device(name: string): Promise<Device> {
    const known = this.#devices.get(name);
    if (known !== undefined) return known;
    const device = PASSTHROUGH.test(name) ? this.#passthrough(name) : await this.#mediated(name);
    this.#devices.set(name, device);
    return device;
  }

  async group(name: string): Promise<Group> {
    return (await this.device(name)).group;
  }

  /** The test driver's side of a mediated device. */
  pintest(device: Device): PintestDevice | undefined {
    return this.#made.get(device.name);
  }

  #passthrough(name: string): Device {
    const iommuGroup = this.iommu.createGroup({ id: 1000 + this.#devices.size });
    const group = this.mediator.addGroup({ name: `iommu-${name}`, iommu: iommuGroup });
    return this.mediator.addDevice(group, name, {});
  }

  async #mediated(name: string): Promise<Device> {
    const parent = this.mediator.parents.get(NO_DUTY.test(name) ? 'pintest-no-duty' : 'pintest');
    this.#uuids += 1;
    const uuid = `00000000-0000-4000-8000-${this.#uuids.toString().padStart(12, '0')}`;
    const mdev = await parent?.create('pin', uuid);
    if (mdev === undefined) throw new Error(`no parent for ${name}`);
    this.#names.set(uuid, name);
    this.pintest(mdev.device)?.bind(mdev.device);
    return mdev.device;
  }
}
