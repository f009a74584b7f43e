import {
  type CcwDevice,
  type CcwProfile,
  type CcwQuirk,
  ccwQuirksOf,
  createCcwDriver,
  type Trigger,
} from '@pinion/ccw';
import {
  type Container,
  createMediator,
  type DmaApi,
  definePlugin,
  type FrameRange,
  frameAddress,
  frameCount,
  type GroupFile,
  type IovaFrame,
  type Mdev,
  type Mediator,
  type PinApi,
  PinionError,
  type PinningDeviceContext,
  type PinningDeviceOps,
  pagesToBytes,
} from '@pinion/core';
import { FakeClock, type SimulatedFile, SimulatedOs, type SimulatedTask } from '@pinion/testkit';
import { quirksOf, type1 } from '@pinion/type1';
import { hexText } from '../golden/text.js';
import { type Event, ReplayedSubchannel } from './replayed-subchannel.js';

export interface WorldOptions {
  readonly profile: CcwProfile;
  /** Quirks of the profile that are left out. */
  readonly without?: readonly CcwQuirk[];
}

const SUBCHANNEL = '0.0.0001';
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const MEMORY = 16n << 20n;
const EVENTFDS = 8;

/** An eventfd: counts what was signalled since it was read. */
export class Counter implements Trigger {
  #count = 0;

  signal(): void {
    this.#count += 1;
  }

  take(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }
}

/** The machine of one scenario: a process with 16 MiB of memory, a mediator with type1, and a vfio-ccw device. */
export class World {
  readonly task: SimulatedTask;
  readonly memory: bigint;
  readonly counters = Array.from({ length: EVENTFDS }, () => new Counter());
  readonly subchannel: ReplayedSubchannel;
  readonly os: SimulatedOs;
  container: { file: SimulatedFile; container: Container } | undefined;
  group: { file: SimulatedFile; group: GroupFile } | undefined;
  /** Open device files, newest last. */
  readonly devices: SimulatedFile[] = [];
  /** Pins that the driver holds. */
  pins = 0;
  readonly clock = new FakeClock();
  /** The subchannel went: the device is to be removed when the operation has returned. */
  lost = false;
  /** The removal of the device, once somebody asked for it. */
  removal: Promise<void> | undefined;
  #events: Event[] = [];
  #mdev: Mdev | undefined;

  private constructor(os: SimulatedOs) {
    this.os = os;
    this.task = os.spawn();
    this.memory = this.task.memory.mmap({ size: MEMORY, kind: 'shared' });
    this.subchannel = new ReplayedSubchannel(this);
  }

  static async create(options: WorldOptions): Promise<World> {
    const os = new SimulatedOs({ poison: false });
    const world = new World(os);
    const left = new Set(options.without ?? []);
    const quirks = [...ccwQuirksOf(options.profile)].filter((quirk) => !left.has(quirk));
    const backend = type1({ quirks: options.profile === 'fixed' ? [] : quirksOf('linux-6.12') });
    const driver = createCcwDriver({
      units: {},
      subchannels: { [SUBCHANNEL]: world.subchannel },
      quirks,
      lost: () => {
        world.lost = true;
      },
    });
    const watched = {
      ...driver,
      create: (context: PinningDeviceContext) => world.#watch(driver.create(world.#watchContext(context))),
    };
    const plugin = definePlugin({ name: 'ccw', core: '^0.1', register: (scope) => scope.vendorDriver(watched) });
    const plugins = [backend, plugin];
    const mediator = await createMediator({ memory: os.host, plugins, dutyLimit: 0, clock: world.clock });
    mediator.registerParent(SUBCHANNEL, 'ccw');
    await world.#setUp(mediator);
    return world;
  }

  get mdev(): Mdev {
    if (this.#mdev === undefined) throw new Error('the device was not made');
    return this.#mdev;
  }

  /** The driver's device, whatever became of its mdev. */
  device!: CcwDevice;
  mediator!: Mediator;

  record(event: Event): void {
    this.#events.push(event);
  }

  takeEvents(): readonly Event[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Somebody removes the device: its users are asked to close it. */
  remove(): void {
    this.removal ??= this.mdev.remove();
  }

  async #setUp(mediator: Mediator): Promise<void> {
    this.mediator = mediator;
    const mdev = await mediator.parents.get(SUBCHANNEL)?.create('io', UUID);
    this.#mdev = mdev;
  }

  #watch(device: CcwDevice): PinningDeviceOps {
    this.device = device;
    const record = (event: Event): void => this.record(event);
    return {
      regions: device.regions,
      irqs: device.irqs,
      open: () => device.open(),
      close: () => device.close(),
      reset: () => device.reset(),
      request: (count) => device.request(count),
      remove: () => device.remove(),
      async dmaUnmap(range: FrameRange) {
        record(['dma_unmap', hexText(frameAddress(range.first)), hexText(pagesToBytes(frameCount(range)))]);
        await device.dmaUnmap(range);
        record(['dma_unmap_done']);
      },
    };
  }

  #watchContext(context: PinningDeviceContext): PinningDeviceContext {
    return { ...context, dma: this.#watchDma(context.dma), pins: this.#watchPins(context.pins) };
  }

  /** Runs an action and records it with what it returned: `done`, or a negative errno. */
  #recorded<T>(event: Event, done: number, action: () => T): T {
    try {
      const result = action();
      this.record([...event, done]);
      return result;
    } catch (failure) {
      if (failure instanceof PinionError) this.record([...event, -failure.code]);
      throw failure;
    }
  }

  #watchDma(dma: DmaApi): DmaApi {
    return {
      read: (iova, bytes) => this.#recorded(['read', hexText(iova), bytes.length], 0, () => dma.read(iova, bytes)),
      write: (iova, bytes) => dma.write(iova, bytes),
    };
  }

  #watchPins(pins: PinApi): PinApi {
    const took = (iova: bigint, count: number, action: () => void): void => {
      this.#recorded(['pin', hexText(iova), count], count, action);
      this.pins += count;
    };
    const gave = (iova: bigint, count: number, action: () => void): void => {
      this.record(['unpin', hexText(iova), count]);
      this.pins -= count;
      action();
    };
    const at = (frame: IovaFrame): bigint => frameAddress(frame);
    return {
      pin(first, count, prot) {
        const out = new Float64Array(count);
        took(at(first), count, () => pins.pinInto(first, count, prot, out));
        const handle = {
          range: { first, last: first + count - 1 },
          unpin: () => gave(at(first), count, () => pins.unpin(first, count)),
        };
        return handle as ReturnType<PinApi['pin']>; // why: the driver under test reads no bytes here, the channel is replayed
      },
      pinInto: (first, count, prot, out) => took(at(first), count, () => pins.pinInto(first, count, prot, out)),
      pinAt: (iova, count, prot, out) => took(iova, count, () => pins.pinAt(iova, count, prot, out)),
      unpin: (first, count) => gave(at(first), count, () => pins.unpin(first, count)),
      unpinAt: (iova, count) => gave(iova, count, () => pins.unpinAt(iova, count)),
      bytes: (pfn, count) => pins.bytes(pfn, count),
      count: (frame) => pins.count(frame),
      get pages() {
        return pins.pages;
      },
    };
  }
}
