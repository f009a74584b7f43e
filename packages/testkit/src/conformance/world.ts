import assert from 'node:assert/strict';
import {
  type Container,
  createMediator,
  type DeviceFile,
  frameAddress,
  type GroupFile,
  type HostMemory,
  type IommuGroup,
  type Mdev,
  type Mediator,
  type MediatorEvents,
  type Plugin,
  PROT_RW,
  type Prot,
  pagesToBytes,
  type UnmapResult,
} from '@pinion/core';
import { FakeClock } from '../clock.js';
import { SimulatedOs } from '../os/os.js';
import type { SimulatedTask } from '../os/task.js';
import { createProbes, type ProbeDevice, type Probes } from './probe.js';

/** Milliseconds a duty may take in a conformance world. */
export const DUTY_LIMIT = 1000;

/** Lets every promise settle that can settle without time. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What a world is made of besides its own parts. */
export interface WorldParts {
  /** Registers the backend. */
  readonly backend: Plugin;
  /** The argument of SET_IOMMU. */
  readonly iommuType: number;
  readonly passthrough?: ((memory: HostMemory) => IommuGroup) | undefined;
  readonly ready?: ((container: Container) => void) | undefined;
  readonly share?:
    | ((container: Container, memory: { readonly vaddr: bigint; readonly size: bigint }) => void)
    | undefined;
  /** More plugins, and whose devices are tested. */
  readonly plugins?: readonly Plugin[];
  /** RLIMIT_MEMLOCK of the process in pages, without CAP_IPC_LOCK; default: no limit. */
  readonly lockPages?: number;
}

/** An open mediated device. */
export interface OpenMdev {
  readonly mdev: Mdev;
  readonly group: GroupFile;
  readonly file: DeviceFile;
}

/** An open passthrough function. */
export interface OpenFunction {
  readonly iommu: IommuGroup;
  readonly group: GroupFile;
  readonly file: DeviceFile;
  unplug(): Promise<void>;
}

/** Duties that may hang one after the other in a failed case. */
const GIVE_UPS = 32;
const MAP_LIMIT = 512 * 1024 * 1024;

/** One process with one container, the backend and probes under test conditions: simulated memory and time. */
export class World {
  readonly os: SimulatedOs;
  readonly clock: FakeClock;
  readonly task: SimulatedTask;
  readonly mediator: Mediator;
  readonly container: Container;
  readonly probes: Probes;
  /** Unpins of pages that their device did not hold. */
  readonly foreign: MediatorEvents['pages:foreign-unpinned'][0][] = [];
  readonly #parts: WorldParts;
  #groups = 0;
  #mdevs = 0;

  private constructor(parts: WorldParts, made: Pick<World, 'os' | 'task' | 'mediator' | 'clock' | 'probes'>) {
    this.#parts = parts;
    this.os = made.os;
    this.clock = made.clock;
    this.task = made.task;
    this.mediator = made.mediator;
    this.probes = made.probes;
    this.container = made.mediator.openContainer(made.task);
    made.mediator.bus.on('pages:foreign-unpinned', (event) => this.foreign.push(event));
  }

  static async start(parts: WorldParts): Promise<World> {
    const os = new SimulatedOs();
    const clock = new FakeClock();
    const probes = createProbes();
    const lockBytes = (parts.lockPages ?? Number.POSITIVE_INFINITY) * 4096;
    const task = os.spawn({ name: 'vmm', lockBytes, ipcLock: parts.lockPages === undefined });
    const plugins = [parts.backend, probes.plugin, ...(parts.plugins ?? [])];
    const mediator = await createMediator({ memory: os.host, clock, dutyLimit: DUTY_LIMIT, plugins });
    mediator.registerParent('probes', 'probe');
    return new World(parts, { os, task, mediator, clock, probes });
  }

  /** Memory of the process, host-contiguous. @returns its vaddr. */
  memory(pages: number): bigint {
    assert.ok(pages * 4096 <= MAP_LIMIT, 'a conformance case is small');
    return this.task.memory.mmap({ size: pagesToBytes(pages), contiguous: true });
  }

  /** Maps `pages` pages at frame `first` to new memory, or to `vaddr`. @returns the vaddr. */
  map(first: number, pages: number, vaddr = this.memory(pages), prot: Prot = PROT_RW): bigint {
    this.#parts.share?.(this.container, { vaddr, size: pagesToBytes(pages) });
    this.container.mapDma({ iova: frameAddress(first), size: pagesToBytes(pages), vaddr, prot });
    return vaddr;
  }

  unmap(first: number, pages: number): Promise<UnmapResult> {
    return this.container.unmapDma({ iova: frameAddress(first), size: pagesToBytes(pages) });
  }

  /** Creates a mediated device, opens it in the container, and sets the IOMMU if that has not been done. */
  async openMdev(parent: string, type: string, prepare: (mdev: Mdev) => void = () => {}): Promise<OpenMdev> {
    this.#mdevs += 1;
    const uuid = `00000000-0000-4000-8000-${this.#mdevs.toString(16).padStart(12, '0')}`;
    const owner = this.mediator.parents.get(parent);
    assert.ok(owner !== undefined, `parent ${parent} is registered`);
    const mdev = await owner.create(type, uuid);
    prepare(mdev);
    const group = mdev.group.open(this.task);
    group.setContainer(this.container);
    this.#setIommu();
    return { mdev, group, file: await group.openDevice(uuid) };
  }

  async openProbe(): Promise<OpenMdev & { readonly probe: ProbeDevice }> {
    const opened = await this.openMdev('probes', 'one');
    const probe = this.probes.devices.at(-1);
    assert.ok(probe !== undefined);
    return { ...opened, probe };
  }

  /** Hot-plugs a passthrough function. */
  async plug(): Promise<OpenFunction> {
    const iommu = this.#parts.passthrough?.(this.os.host);
    assert.ok(iommu !== undefined, 'the harness makes passthrough groups');
    const name = `pt${this.#groups}`;
    this.#groups += 1;
    const group = this.mediator.addGroup({ name, iommu });
    const device = this.mediator.addDevice(group, `${name}-f0`, {});
    const file = group.open(this.task);
    try {
      file.setContainer(this.container);
      this.#setIommu();
    } catch (refusal) {
      file.close();
      throw refusal;
    }
    const deviceFile = await file.openDevice(device.name);
    const unplug = async (): Promise<void> => {
      await deviceFile.close();
      file.close();
    };
    return { iommu, group: file, file: deviceFile, unplug };
  }

  /** Pages charged to the process. */
  get locked(): number {
    return this.task.mm?.lockedPages ?? 0;
  }

  /** Ends everything properly and checks that nothing is left, and that nobody touched another's pins. */
  async end(): Promise<void> {
    await this.mediator.close();
    if (this.task.mm !== null) await this.task.exit();
    assert.deepEqual(this.os.leaks(), NOTHING);
    assert.deepEqual(this.foreign, []);
  }

  /** Ends what a failed case left, whatever happens; duties that never settle are given up. */
  async abandon(): Promise<void> {
    let closed = false;
    const closing = Promise.allSettled([this.mediator.close()]).then(() => {
      closed = true;
    });
    for (let patience = 0; !closed && patience < GIVE_UPS; patience += 1) {
      await settled();
      this.clock.advance(DUTY_LIMIT);
    }
    await closing;
    if (this.task.mm !== null) await Promise.allSettled([this.task.exit()]);
  }

  #setIommu(): void {
    if (this.container.backend !== undefined) return;
    this.container.setIommu(this.#parts.iommuType);
    this.#parts.ready?.(this.container);
  }
}

const NOTHING = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };

/** Runs a case in a fresh world: ends it properly when the case succeeded, tidies up when it failed. */
export async function inWorld(parts: WorldParts, run: (world: World) => Promise<void>): Promise<void> {
  const world = await World.start(parts);
  try {
    await run(world);
    await world.end();
  } catch (failure) {
    await world.abandon();
    throw failure;
  }
}

/** Turns of the event loop that a case waits for something that needs no time. */
const TURNS = 100;

/** Waits until something happened that needs no time. @throws AssertionError when it does not happen. */
export async function eventually(what: string, happened: () => boolean): Promise<void> {
  for (let turn = 0; !happened() && turn < TURNS; turn += 1) await settled();
  assert.ok(happened(), what);
}

/** Something that goes on while the case does other things; whoever awaits it later hears of its failure. */
export function underWay<T>(action: Promise<T>): Promise<T> {
  action.catch(() => {}); // why: a case that fails before it awaits the action must not leave an unhandled rejection
  return action;
}

/** Moves time past the limit for a duty, again and again, until `action` ended. @returns what it threw, undefined for nothing. */
export async function rejectionOf(world: World, action: Promise<unknown>): Promise<unknown> {
  let ended = false;
  let thrown: unknown;
  action.then(
    () => {
      ended = true;
    },
    (cause: unknown) => {
      thrown = cause;
      ended = true;
    },
  );
  for (let patience = 0; !ended && patience < GIVE_UPS; patience += 1) {
    await settled();
    if (!ended) world.clock.advance(DUTY_LIMIT);
  }
  assert.ok(ended, 'it ended');
  return thrown;
}
