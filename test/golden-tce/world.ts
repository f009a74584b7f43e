import { createMediator, type Device, type DeviceFile, type Mediator, PAGE_SHIFT } from '@pinion/core';
import { type PowerGroup, PowerPlatform, type Profile, type Quirk, quirksOf, spaprTce } from '@pinion/spapr-tce';
import { type SimulatedFile, SimulatedOs } from '@pinion/testkit';
import { newProcess, type ProcessOf } from '../golden/process.js';
import type { EduDevice } from './edu.js';

/** A buffer of a process: where it is and how large it is, bytes. `number` counts buffers from 1. */
export interface Buffer {
  readonly name: string;
  readonly number: number;
  readonly vaddr: bigint;
  readonly size: bigint;
  /** In pages of 2 MiB. */
  readonly huge: boolean;
}

/** An open device of a process, with what its function does. */
export interface OpenDevice {
  readonly file: SimulatedFile;
  readonly device: DeviceFile;
  readonly edu: EduDevice;
}

/** A process with its open files by name. A fork has the same files and copies of the tables. */
export type Process = ProcessOf<OpenDevice, Buffer>;

/** How a scenario is to be answered. */
export interface WorldOptions {
  readonly profile: Profile;
  /** Quirks of the profile that are left out. */
  readonly without?: readonly Quirk[];
}

/** The function behind a bridge without dynamic windows. */
const FIXED_BRIDGE = 'pt2';
const HUGE_SHIFT = 21;

/** A function of the machine and the group behind its bridge. */
export interface Bound {
  readonly device: Device;
  readonly hardware: PowerGroup;
}

/** The machine of one scenario, built anew each time: simulated OS, a pseries platform, a mediator with sPAPR TCE. */
export class World {
  readonly os: SimulatedOs;
  readonly mediator: Mediator;
  readonly #platform: PowerPlatform;
  readonly #bound = new Map<string, Bound>();
  readonly #huge: Buffer[] = [];

  private constructor(os: SimulatedOs, platform: PowerPlatform, mediator: Mediator) {
    this.os = os;
    this.#platform = platform;
    this.mediator = mediator;
  }

  static async create(options: WorldOptions): Promise<World> {
    const left = new Set(options.without ?? []);
    const quirks = [...quirksOf(options.profile)].filter((quirk) => !left.has(quirk));
    const os = new SimulatedOs({ poison: false });
    const platform = new PowerPlatform({ memory: os.host, kind: 'pseries' });
    const holder: { world?: World } = {};
    const backing = (_mm: unknown, page: number): number => holder.world?.backingShift(page) ?? PAGE_SHIFT;
    const backend = spaprTce({ hardware: platform.tableGroup, quirks, backing });
    const mediator = await createMediator({ memory: os.host, plugins: [backend], dutyLimit: 0 });
    const world = new World(os, platform, mediator);
    holder.world = world;
    return world;
  }

  spawn(): Process {
    return newProcess(this.os.spawn());
  }

  /** The function of a recorded name, made at first use. */
  bound(name: string): Bound {
    const known = this.#bound.get(name);
    if (known !== undefined) return known;
    const hardware = this.#platform.createGroup({ name, dynamic: name !== FIXED_BRIDGE });
    const group = this.mediator.addGroup({ name: `iommu-${name}`, iommu: hardware });
    const bound = { device: this.mediator.addDevice(group, name, {}), hardware };
    this.#bound.set(name, bound);
    return bound;
  }

  remember(buffer: Buffer): void {
    if (buffer.huge) this.#huge.push(buffer);
  }

  /** log2 of the size of the pages behind a virtual page. */
  backingShift(page: number): number {
    const vaddr = BigInt(page) << 12n;
    const inHuge = this.#huge.some((buffer) => buffer.vaddr <= vaddr && vaddr < buffer.vaddr + buffer.size);
    return inHuge ? HUGE_SHIFT : PAGE_SHIFT;
  }
}
