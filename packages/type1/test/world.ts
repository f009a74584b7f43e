import assert from 'node:assert/strict';
import {
  asIovaFrame,
  type Container,
  createMediator,
  type Device,
  type DeviceFile,
  definePlugin,
  type Errno,
  EXTENSION,
  type FrameRange,
  frameCount,
  type GroupFile,
  type IovaFrame,
  LAST_FRAME,
  type Mediator,
  type PinningDeviceOps,
  PROT_RW,
  type Prot,
} from '@pinion/core';
import { createSoftwareIommu, type GroupOptions, type SoftwareIommu, type SoftwareIommuOptions } from '@pinion/iommu';
import {
  FakeClock,
  type Leaks,
  type OsOptions,
  SimulatedOs,
  type SimulatedTask,
  type TaskRequest,
} from '@pinion/testkit';
import { type Type1Options, type Type1Parameters, type1 } from '@pinion/type1';

export const PAGE = 0x1000n;
/** Bytes in `count` pages. */
export const pages = (count: number): bigint => BigInt(count) * PAGE;
export const frame = asIovaFrame;
const EVERYTHING: FrameRange = { first: frame(0), last: frame(LAST_FRAME) };
const NOTHING: Leaks = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };

/** The device side of a mediated device: gives its pins back when asked, unless a test tells it otherwise. */
export class TestDevice implements PinningDeviceOps {
  /** What `dmaUnmap` was called with: first frame, pages. */
  readonly calls: (readonly [first: number, pages: number])[] = [];
  unmapping: (range: FrameRange) => void | Promise<void> = (range) => this.giveBack(range);
  closing: () => void | Promise<void> = () => this.giveBack(EVERYTHING);
  readonly #device: () => Device;

  constructor(device: () => Device) {
    this.#device = device;
  }

  /** Drops every reference on every page of `range`. */
  giveBack(range: FrameRange): void {
    const { pins } = this.#device();
    for (const held of pins.within(range)) while (pins.count(held) > 0) pins.unpin(held, 1);
  }

  dmaUnmap(range: FrameRange): void | Promise<void> {
    this.calls.push([range.first, frameCount(range)]);
    return this.unmapping(range);
  }

  close(): void | Promise<void> {
    return this.closing();
  }
}

/** A device in the container under test. */
export interface Seat {
  readonly device: Device;
  readonly group: GroupFile;
  readonly ops: TestDevice;
  file: DeviceFile | undefined;
}

export interface WorldOptions extends Type1Options {
  readonly task?: Partial<TaskRequest>;
  readonly os?: OsOptions;
  readonly iommu?: Partial<SoftwareIommuOptions>;
  /** IOMMU type of the container; default type1v2. 0: none is set, and nothing opened. */
  readonly type?: number;
  /** Mediated devices that are attached and open from the start, in this order; the last is the newest. Default: `A`. */
  readonly mediated?: readonly string[];
  /** Passthrough groups that are attached from the start. */
  readonly passthrough?: readonly string[];
}

/** A process, a mediator with type1 and a test driver, one container and the devices in it. */
export class World {
  readonly os: SimulatedOs;
  readonly task: SimulatedTask;
  readonly clock: FakeClock;
  readonly mediator: Mediator;
  readonly iommu: SoftwareIommu;
  readonly container: Container;
  readonly seats = new Map<string, Seat>();
  readonly groups = new Map<string, GroupFile>();
  /** Names of the backend's warnings and of what core reported about pins, in order. */
  readonly reports: string[] = [];
  readonly #made: Map<string, TestDevice>;

  private constructor(parts: {
    os: SimulatedOs;
    task: SimulatedTask;
    mediator: Mediator;
    iommu: SoftwareIommu;
    made: Map<string, TestDevice>;
    container: Container;
    clock: FakeClock;
  }) {
    this.clock = parts.clock;
    this.os = parts.os;
    this.task = parts.task;
    this.mediator = parts.mediator;
    this.iommu = parts.iommu;
    this.#made = parts.made;
    this.container = parts.container;
    const { bus } = parts.mediator;
    bus.on('backend:warned', ({ name }) => this.reports.push(name));
    bus.on('pages:leaked', ({ driver, frames }) => this.reports.push(`leaked ${driver} ${frames.join()}`));
    bus.on('pages:foreign-unpinned', (e) => this.reports.push(`foreign ${e.frame} of ${e.owner ?? 'nobody'}`));
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const os = new SimulatedOs({ poison: false, ...options.os });
    const task = os.spawn({ name: 'vmm', ipcLock: false, lockBytes: 1 << 30, ...options.task });
    const iommu = createSoftwareIommu({ memory: os.host, addressWidth: 48, ...options.iommu });
    const made = new Map<string, TestDevice>();
    const holder: { world?: World } = {};
    const plugin = testDrivers(made, (name) => deviceOf(holder.world?.mediator, name));
    const clock = new FakeClock();
    const mediator = await createMediator({ memory: os.host, clock, plugins: [type1(options), plugin] });
    mediator.registerParent('hardware', 'test');
    mediator.registerParent('plain-hardware', 'plain');
    const container = mediator.openContainer(task);
    const world = new World({ os, task, mediator, iommu, made, container, clock });
    holder.world = world;
    const mediated = options.mediated ?? ['A'];
    for (const name of mediated) await world.attachMediated(name);
    for (const name of options.passthrough ?? []) world.attachPassthrough(name);
    const type = options.type ?? EXTENSION.TYPE1v2_IOMMU;
    if (type !== 0) container.setIommu(type);
    if (type !== 0) for (const name of mediated) await world.open(name);
    return world;
  }

  /** Makes a mediated device and puts its group into the container. `driver`: `test` has the duty, `plain` has not. */
  async attachMediated(name: string, driver: 'test' | 'plain' = 'test'): Promise<Seat> {
    const uuid = `00000000-0000-4000-8000-${name.charCodeAt(0).toString(16).padStart(12, '0')}`;
    const parent = this.mediator.parents.get(driver === 'test' ? 'hardware' : 'plain-hardware');
    const mdev = await parent?.create('only', uuid);
    assert.ok(mdev);
    const group = mdev.group.open(this.task);
    const seat: Seat = { device: mdev.device, group, ops: this.#opsOf(uuid), file: undefined };
    this.seats.set(name, seat);
    group.setContainer(this.container);
    return seat;
  }

  async open(name: string): Promise<DeviceFile> {
    const seat = this.seat(name);
    const file = await seat.group.openDevice(seat.device.name);
    seat.file = file;
    return file;
  }

  async close(name: string): Promise<void> {
    const seat = this.seat(name);
    const { file } = seat;
    seat.file = undefined;
    await file?.close();
  }

  /** A new mediated device, attached and open. */
  async plug(name: string): Promise<Seat> {
    const seat = await this.attachMediated(name);
    await this.open(name);
    return seat;
  }

  /** Closes a mediated device and takes its group out. */
  async unplug(name: string): Promise<void> {
    await this.close(name);
    this.seat(name).group.unsetContainer();
  }

  attachPassthrough(name: string, options: GroupOptions = {}, caller = this.task): GroupFile {
    const group = this.groups.get(name) ?? this.#passthrough(name, options);
    group.setContainer(this.container, caller);
    return group;
  }

  detachPassthrough(name: string): void {
    this.groups.get(name)?.unsetContainer();
  }

  seat(name: string): Seat {
    const seat = this.seats.get(name);
    assert.ok(seat, `no device ${name}`);
    return seat;
  }

  ops(name: string): TestDevice {
    return this.seat(name).ops;
  }

  /** Memory of the process, bytes. */
  buffer(count: number, prot: Prot = PROT_RW): bigint {
    return this.task.memory.mmap({ size: pages(count), prot });
  }

  /** Maps `count` pages of new memory (or of `vaddr`) at `iova`. @returns the address of the memory. */
  map(iova: bigint, count: number, more: { prot?: Prot; vaddr?: bigint } = {}): bigint {
    const vaddr = more.vaddr ?? this.buffer(count);
    this.container.mapDma({ iova, size: pages(count), vaddr, prot: more.prot ?? PROT_RW });
    return vaddr;
  }

  async unmap(iova: bigint, count: number): Promise<bigint> {
    return (await this.container.unmapDma({ iova, size: pages(count) })).size;
  }

  /** Pins for device `name`. @returns the host frames. */
  pin(name: string, first: number, count = 1, prot: Prot = PROT_RW): number[] {
    const out = new Float64Array(count);
    this.seat(name).device.pins.pinInto(frame(first), count, prot, out);
    return [...out];
  }

  unpin(name: string, first: number, count = 1): void {
    this.seat(name).device.pins.unpin(frame(first), count);
  }

  get locked(): number {
    return this.task.mm?.lockedPages ?? 0;
  }

  /** What a refused operation must leave as it is. */
  snapshot(): unknown {
    return {
      stats: this.container.stats,
      info: this.container.backend === undefined ? undefined : this.container.info(),
      locked: this.locked,
      references: this.os.host.pinnedPages,
      grabs: this.os.leaks().grabs,
      domains: this.iommu.groups.flatMap(({ domain }) => (domain === undefined ? [] : [[...domain.leaves()]])),
    };
  }

  /** `action` throws this error and nothing has changed. */
  refuses(name: string, errno: Errno, action: () => unknown): void {
    const before = this.snapshot();
    assert.throws(action, { name, errno });
    assert.deepEqual(this.snapshot(), before);
  }

  /** The same for what answers later. */
  async refusesLater(name: string, errno: Errno, action: () => Promise<unknown>): Promise<void> {
    const before = this.snapshot();
    await assert.rejects(action, { name, errno });
    assert.deepEqual(this.snapshot(), before);
  }

  /** Closes everything; what is left over must be exactly `left`. */
  async end(left: Partial<Leaks> = {}): Promise<void> {
    await this.mediator.close();
    if (this.task.mm !== null) await this.task.exit();
    assert.deepEqual(this.os.leaks(), { ...NOTHING, ...left });
  }

  #passthrough(name: string, options: GroupOptions): GroupFile {
    const group = this.mediator.addGroup({ name, iommu: this.iommu.createGroup(options) });
    this.mediator.addDevice(group, `${name}.0`, {});
    const file = group.open(this.task);
    this.groups.set(name, file);
    return file;
  }

  #opsOf(uuid: string): TestDevice {
    return this.#made.get(uuid) ?? new TestDevice(() => deviceOf(this.mediator, uuid));
  }
}

function deviceOf(mediator: Mediator | undefined, name: string): Device {
  const device = mediator?.findMdev(name)?.device;
  assert.ok(device);
  return device;
}

const testDrivers = (made: Map<string, TestDevice>, device: (name: string) => Device) =>
  definePlugin({
    name: 'test-drivers',
    core: '^0.1',
    register(scope) {
      const types = [{ id: 'only' }];
      scope.vendorDriver({
        name: 'test',
        deviceApi: 'vfio-test',
        types,
        pins: true,
        create({ name }) {
          const ops = new TestDevice(() => device(name));
          made.set(name, ops);
          return ops;
        },
      });
      scope.vendorDriver({ name: 'plain', deviceApi: 'vfio-test', types, pins: false, create: () => ({}) });
    },
  });

/** Module parameters that a test changes as it goes. */
export const changing = (start: Partial<Type1Parameters>): { now: Partial<Type1Parameters> } => ({ now: start });
/** Frames of a handle or a call, for comparisons. */
export const frames = (...all: number[]): IovaFrame[] => all.map(frame);
