import assert from 'node:assert/strict';
import {
  asIovaFrame,
  type DeviceFile,
  type DeviceOps,
  type FrameRange,
  frameAddress,
  frameRange,
  type GroupFile,
  type HostMemory,
  type IommuGroup,
  type IovaFrame,
  type Mdev,
  type Plugin,
} from '@pinion/core';
import type { FakeClock } from '../clock.js';
import type { ConformanceCase, Declares } from './suite.js';
import { type OpenMdev, settled, World, type WorldParts } from './world.js';

/**
 * What a driver's devices can do besides pinning single pages:
 * - `wide`: one of their pins covers several pages at once;
 * - `io`: they can be caught in the middle of writing to guest memory;
 * - `reset`: VFIO_DEVICE_RESET;
 * - `passthrough`: the harness has passthrough groups for mixed containers;
 * - `pinned`: they hold guest memory from open to close, whatever I/O there is, and give back only ranges that go away.
 */
export type VendorCapability = 'wide' | 'io' | 'reset' | 'passthrough' | 'pinned';

/** The guest's memory by its own addresses, as the CPU sees it. Bytes. */
export interface GuestMemory {
  write(address: bigint, bytes: Uint8Array): void;
  read(address: bigint, length: number): Uint8Array;
}

/** An open device under test, and what its guest has. */
export interface DriverSeat {
  /** 0 for the first device of a case. */
  readonly index: number;
  readonly mdev: Mdev;
  /** What the driver made. */
  readonly ops: DeviceOps;
  readonly group: GroupFile;
  readonly file: DeviceFile;
  readonly memory: GuestMemory;
  readonly clock: FakeClock;
  /** Pages of this device's guest for programs and rings: always mapped, never unmapped by a case. */
  readonly control: FrameRange;
}

/** One set of hardware and the driver for it, made anew for every case. */
export interface VendorDriverRig {
  /** Registers the driver under test. */
  readonly plugin: Plugin;
  readonly driver: string;
  readonly type: string;
  /** Name of the parent of the n-th device; may be the same for all. */
  parent(index: number): string;
  /** After `create`, before open. */
  prepare?(mdev: Mdev, index: number): void;
  /** Makes the device pin these guest pages (at most 4, and perhaps others) by its own means and hold them. */
  pinSomething(seat: DriverSeat, frames: readonly IovaFrame[]): void | Promise<void>;
  /** Whether the device does no I/O and holds nothing for its guest. */
  isIdle(seat: DriverSeat): boolean;
  /** Makes the device pin `pages` pages from `first` as one piece. Capability `wide`. */
  readonly wide?: { readonly pages: number; pin(seat: DriverSeat, first: IovaFrame): void | Promise<void> };
  /** Starts I/O that will write somewhere into the page, and stops just before that. Capability `io`. */
  beginWrite?(seat: DriverSeat, frame: IovaFrame): void | Promise<void>;
  /** Lets all I/O go on to its end. */
  finishIo?(seat: DriverSeat): void | Promise<void>;
}

/** One vendor driver, as the suite sees it. */
export interface VendorDriverHarness extends Declares {
  readonly name: string;
  readonly capabilities: ReadonlySet<VendorCapability>;
  /** Registers a backend that can pin, and the argument of SET_IOMMU for it. */
  backend(): Plugin;
  readonly iommuType: number;
  /** Makes a passthrough group over this memory. Capability `passthrough`. */
  passthrough?(memory: HostMemory): IommuGroup;
  /** Every case runs in a container that has a passthrough function already. Default: only those that are about it. */
  readonly mixed?: boolean;
  /** The driver with fresh hardware. */
  start(): VendorDriverRig;
}

const CONTROL_FIRST = 0x10;
const CONTROL_PAGES = 16;
const DEVICES_MAX = 4;

/** Two mappings of 512 pages side by side, host-contiguous, and a small one far off. */
export const A = frameRange(asIovaFrame(0x400), 512);
export const B = frameRange(asIovaFrame(0x600), 512);
export const C = frameRange(asIovaFrame(0x1000), 16);
/** A page in the middle of A, and one in the middle of B. */
export const MIDDLE_A = asIovaFrame(0x4ab);
export const MIDDLE_B = asIovaFrame(0x6ab);

const pagesOf = (range: FrameRange): number => range.last - range.first + 1;

/** A world with the driver's hardware in it. */
export class VendorBench {
  readonly world: World;
  readonly rig: VendorDriverRig;
  readonly seats: DriverSeat[] = [];
  /** Reset, and close and open again, leave the driver's pins as they were or bring them back: capability `pinned`. */
  readonly pinned: boolean;
  readonly #vaddrs = new Map<number, bigint>();

  private constructor(world: World, rig: VendorDriverRig, harness: VendorDriverHarness) {
    this.world = world;
    this.rig = rig;
    this.pinned = harness.capabilities.has('pinned');
  }

  static async start(harness: VendorDriverHarness): Promise<VendorBench> {
    const rig = harness.start();
    const world = await World.start(partsOf(harness, rig.plugin));
    const bench = new VendorBench(world, rig, harness);
    if (harness.mixed === true) await world.plug();
    return bench;
  }

  /** Opens one more device; the first one also maps the guest's memory. */
  async open(prepare: (mdev: Mdev) => void = () => {}): Promise<DriverSeat> {
    const index = this.seats.length;
    const { mediator } = this.world;
    const parent = this.rig.parent(index);
    if (!mediator.parents.has(parent)) mediator.registerParent(parent, this.rig.driver);
    const opened = await this.world.openMdev(parent, this.rig.type, (mdev) => {
      this.rig.prepare?.(mdev, index);
      prepare(mdev);
    });
    this.mapGuest();
    const seat = this.#seat(index, opened);
    this.seats.push(seat);
    return seat;
  }

  /** Maps control pages, A, B and C, as far as they are not mapped. */
  mapGuest(): void {
    if (this.#vaddrs.size > 0) return;
    this.map(frameRange(asIovaFrame(CONTROL_FIRST), CONTROL_PAGES * DEVICES_MAX));
    const both = this.world.memory(pagesOf(A) + pagesOf(B));
    this.map(A, both);
    this.map(B, both + BigInt(pagesOf(A)) * 4096n);
    this.map(C);
  }

  map(range: FrameRange, vaddr?: bigint): void {
    this.#vaddrs.set(range.first, this.world.map(range.first, pagesOf(range), vaddr));
  }

  /** Unmaps while the device's I/O goes on to its end, and asserts that all of the range went. */
  async unmap(range: FrameRange): Promise<void> {
    assert.deepEqual(await this.withIo(this.world.unmap(range.first, pagesOf(range))), {
      size: BigInt(pagesOf(range)) * 4096n,
    });
  }

  /** Waits for `action`; meanwhile I/O that it may wait for goes on to its end. */
  async withIo<T>(action: Promise<T>): Promise<T> {
    const ended = Promise.allSettled([action]);
    await settled();
    await this.finishIo();
    const [outcome] = await ended;
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  }

  async finishIo(): Promise<void> {
    for (const seat of this.seats) await this.rig.finishIo?.(seat);
    await settled();
  }

  /** Frames of a range that a device holds. */
  held(seat: DriverSeat, range: FrameRange): readonly IovaFrame[] {
    return seat.mdev.device.pins.within(range);
  }

  /** The memory behind a guest page as the process has it. */
  page(frame: IovaFrame): bigint {
    for (const [first, vaddr] of [...this.#vaddrs].sort(([a], [b]) => b - a)) {
      if (frame >= first) return vaddr + BigInt(frame - first) * 4096n;
    }
    return assert.fail(`frame ${frame} is not mapped`);
  }

  #seat(index: number, opened: OpenMdev): DriverSeat {
    const { memory } = this.world.task;
    const place = (address: bigint): bigint => this.page(asIovaFrame(Number(address >> 12n))) + (address & 0xfffn);
    return {
      ...opened,
      index,
      ops: opened.mdev.device.ops,
      clock: this.world.clock,
      control: frameRange(asIovaFrame(CONTROL_FIRST + index * CONTROL_PAGES), CONTROL_PAGES),
      memory: {
        write: (address, bytes) => memory.poke(place(address), bytes),
        read: (address, length) => memory.peek(place(address), length).slice(),
      },
    };
  }
}

/** The first byte of a page. */
export const addressOf = (frame: number): bigint => frameAddress(frame);

function partsOf(harness: VendorDriverHarness, plugin: Plugin): WorldParts {
  return {
    backend: harness.backend(),
    iommuType: harness.iommuType,
    passthrough: harness.passthrough?.bind(harness),
    plugins: [plugin],
  };
}

export type VendorCase = ConformanceCase<VendorDriverHarness>;

/** Declares a case on a bench of its own. Afterwards everything is ended, and nothing may be left. */
export const vendorCase = (
  name: string,
  needs: readonly VendorCapability[],
  run: (bench: VendorBench) => Promise<void>,
): VendorCase => ({
  name,
  needs,
  async run(harness) {
    const bench = await VendorBench.start(harness);
    try {
      await run(bench);
      await bench.withIo(bench.world.mediator.close());
      await bench.world.end();
    } catch (failure) {
      await Promise.allSettled([bench.finishIo()]);
      await bench.world.abandon();
      throw failure;
    }
  },
});
