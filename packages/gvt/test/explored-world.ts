import assert from 'node:assert/strict';
import {
  asIovaFrame,
  type Container,
  createMediator,
  type DeviceFile,
  EXTENSION,
  type FrameRange,
  frameAddress,
  frameRange,
  type GroupFile,
  type Mdev,
  type Mediator,
  type PinApi,
  PinionError,
  PROT_RW,
} from '@pinion/core';
import {
  BCS,
  GTT_OFFSET,
  type GuestWriteHandler,
  GvtDevice,
  type GvtOptions,
  gvt,
  type LeftoverReport,
  REGION,
} from '@pinion/gvt';
import { createSoftwareIommu } from '@pinion/iommu';
import { FakeClock, SimulatedOs, type SimulatedTask } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

const PAGE = 4096;
/** Graphics pages that guests use. */
const CHECKED = 20;
/** Guest memory: rings, tables and contexts, which stay; and pages to draw on, which come and go as a mapping of their own. */
export const STAYING = frameRange(asIovaFrame(0), 64);
export const GOING = frameRange(asIovaFrame(0x100), 16);

export interface ExploredOptions extends GvtOptions {
  /** How many vGPUs there are. Default 1. */
  readonly vgpus?: number;
  /** A passthrough function stands in the same container. */
  readonly mixed?: boolean;
  /** The guest's stores into tracked pages are trapped. */
  readonly traps?: boolean;
  /** Which call of the pin API is refused, counted from 0; default none. */
  readonly refusedPin?: number;
}

/** The pin API, of which one call is refused as if too much were locked. */
export class RefusedPin {
  readonly #nth: number;
  #calls = 0;

  constructor(nth: number) {
    this.#nth = nth;
  }

  /** Whether it came to the call that was to be refused. */
  get happened(): boolean {
    return this.#calls > this.#nth;
  }

  over(real: PinApi): PinApi {
    const pinInto: PinApi['pinInto'] = (...call) => {
      this.#calls += 1;
      if (this.#calls - 1 === this.#nth) throw new PinionError('TEST_LIMIT', 'ENOMEM', 'too many locked pages');
      real.pinInto(...call);
    };
    return {
      get pages() {
        return real.pages;
      },
      pin: (...call) => real.pin(...call),
      pinAt: (...call) => real.pinAt(...call),
      unpin: (...call) => real.unpin(...call),
      unpinAt: (...call) => real.unpinAt(...call),
      bytes: (...call) => real.bytes(...call),
      count: (frame) => real.count(frame),
      pinInto,
    };
  }
}

/** One vGPU, as its guest and its VMM reach it. */
export class GvtSeat {
  readonly world: GvtWorld;
  readonly mdev: Mdev;
  readonly device: GvtDevice;
  readonly #group: GroupFile;
  #file: DeviceFile | undefined;

  constructor(world: GvtWorld, mdev: Mdev) {
    this.world = world;
    this.mdev = mdev;
    const { ops } = mdev.device;
    assert.ok(ops instanceof GvtDevice);
    this.device = ops;
    this.#group = mdev.group.open(world.task);
    this.#group.setContainer(world.container);
  }

  /** Opens the vGPU, unless it is open or gone. */
  async open(): Promise<void> {
    if (this.#file === undefined) this.#file = await this.#group.openDevice(this.mdev.uuid);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async reset(): Promise<void> {
    await this.#file?.reset();
  }

  /** A guest's access; while the vGPU is closed or reset under it, an error is an answer. */
  tries(access: (file: DeviceFile) => void): void {
    if (this.#file === undefined) return;
    try {
      access(this.#file);
    } catch (refusal) {
      if (!(refusal instanceof PinionError)) throw refusal;
    }
  }

  write(offset: number, ...dwords: readonly number[]): void {
    const bytes = new Uint8Array(Uint32Array.from(dwords).buffer);
    this.tries((file) => file.writeRegion(REGION.BAR0, offset, bytes));
  }

  /** Graphics page `page` of the vGPU's own leads to a guest page. */
  entry(page: number, gfn: number): void {
    const at = GTT_OFFSET + (this.base / PAGE + page) * 8;
    const bytes = new Uint8Array(BigUint64Array.of((BigInt(gfn) << 12n) | 3n).buffer);
    this.tries((file) => file.writeRegion(REGION.BAR0, at, bytes));
  }

  /** Where the vGPU's own graphics memory begins, bytes. */
  get base(): number {
    return this.device.resources.low.base;
  }

  /** The blitter's ring is this guest frame, graphics page 0; its commands run from the start. */
  startRing(gfn: number, dwords: readonly number[]): void {
    this.world.poke(gfn, 0, dwords);
    this.entry(0, gfn);
    this.write(BCS.START, this.base);
    this.write(BCS.CTL, 1);
  }

  /** No table leads to a page that is not held. */
  checkTables(): void {
    for (let page = 0; page < CHECKED; page++) {
      const dma = this.device.ggtt.hostEntry(this.base / PAGE + page)?.dma;
      if (dma !== undefined)
        assert.ok(this.world.os.host.pinsOf(dma) > 0, `graphics page ${page} leads to a page that is not held`);
    }
  }
}

/** vGPUs of one GPU on the real core, type1 and a simulated host that poisons what is given back; their guest's memory. */
export class GvtWorld {
  readonly os: SimulatedOs;
  readonly clock: FakeClock;
  readonly task: SimulatedTask;
  readonly mediator: Mediator;
  readonly container: Container;
  readonly leftovers: LeftoverReport[];
  readonly pins: RefusedPin;
  readonly #seats: GvtSeat[] = [];
  readonly #vaddrs = new Map<number, bigint>();
  readonly #watched = new Map<number, Set<GuestWriteHandler>>();
  /** The range that was given back and not mapped again. */
  #gone: FrameRange | undefined;

  private constructor(parts: Pick<GvtWorld, 'os' | 'clock' | 'mediator' | 'leftovers' | 'pins'>) {
    this.os = parts.os;
    this.clock = parts.clock;
    this.mediator = parts.mediator;
    this.leftovers = parts.leftovers;
    this.pins = parts.pins;
    this.task = this.os.spawn({ name: 'vmm', ipcLock: true });
    this.container = this.mediator.openContainer(this.task);
  }

  static async start(options: ExploredOptions = {}): Promise<GvtWorld> {
    const os = new SimulatedOs({ keepFreed: true });
    const clock = new FakeClock();
    const leftovers: LeftoverReport[] = [];
    const onLeftovers = (report: LeftoverReport) => void leftovers.push(report);
    const { refusedPin = -1 } = options;
    const pins = new RefusedPin(refusedPin);
    const plugins = [type1(), gvt({ onLeftovers, mapPins: (real) => pins.over(real), ...options })];
    const mediator = await createMediator({ memory: os.host, clock, dutyLimit: 0, plugins });
    const world = new GvtWorld({ os, clock, mediator, leftovers, pins });
    try {
      await world.#begin(options);
    } catch (cause) {
      await world.abandon();
      throw cause;
    }
    return world;
  }

  async #begin({ vgpus = 1, traps = false, mixed = false }: ExploredOptions): Promise<void> {
    const gpu = this.mediator.registerParent('gpu', 'gvt');
    for (let index = 0; index < vgpus; index++) {
      const seat = new GvtSeat(this, await gpu.create('V5_8', `00000000-0000-4000-8000-00000000000${index}`));
      this.#seats.push(seat);
      if (traps) this.#trap(seat);
    }
    this.container.setIommu(EXTENSION.TYPE1v2_IOMMU);
    for (const range of [STAYING, GOING]) this.map(range);
    for (const seat of this.#seats) await seat.open();
    if (mixed) await this.#plugPassthrough();
  }

  #trap(seat: GvtSeat): void {
    seat.device.backend.setWriteTraps?.({
      watchWrites: (gfn, onWrite) => {
        const watchers = this.#watched.get(gfn) ?? new Set();
        this.#watched.set(gfn, watchers.add(onWrite));
        return () => {
          watchers.delete(onWrite);
          if (watchers.size === 0) this.#watched.delete(gfn);
        };
      },
    });
  }

  async #plugPassthrough(): Promise<void> {
    const iommu = createSoftwareIommu({ memory: this.os.host }).createGroup({ functions: ['pt'] });
    const group = this.mediator.addGroup({ name: 'pt', iommu });
    const device = this.mediator.addDevice(group, 'pt-f0', {});
    const file = group.open(this.task);
    file.setContainer(this.container);
    await file.openDevice(device.name);
  }

  /** The n-th vGPU. */
  seat(index = 0): GvtSeat {
    const seat = this.#seats[index];
    assert.ok(seat);
    return seat;
  }

  /** New memory of the process at these guest frames. */
  map(range: FrameRange): void {
    const size = BigInt(range.last - range.first + 1) * 4096n;
    const vaddr = this.task.memory.mmap({ size });
    this.container.mapDma({ iova: frameAddress(range.first), size, vaddr, prot: PROT_RW });
    this.#vaddrs.set(range.first, vaddr);
    if (this.#gone?.first === range.first) this.#gone = undefined;
  }

  /** Takes memory from the guest and gives it to the host at once: whoever touches it from here on touches poison. */
  async unmap(range: FrameRange): Promise<void> {
    const size = BigInt(range.last - range.first + 1) * 4096n;
    const vaddr = this.#vaddrs.get(range.first);
    if (vaddr === undefined) return;
    this.#vaddrs.delete(range.first);
    assert.deepEqual(await this.container.unmapDma({ iova: frameAddress(range.first), size }), { size });
    this.#gone = range;
    this.check();
    this.task.memory.munmap(vaddr, size);
    assert.deepEqual(this.os.host.trespasses(), []);
  }

  /** Nothing in a range that was given back is pinned, and no table leads to a page that is not. */
  check(): void {
    for (const seat of this.#seats) {
      seat.checkTables();
      if (this.#gone !== undefined) assert.deepEqual(seat.mdev.device.pins.within(this.#gone), []);
    }
  }

  /** The guest's CPU writes into its memory, if it is there. */
  poke(gfn: number, offset: number, dwords: readonly number[]): void {
    const vaddr = this.#vaddrOf(gfn);
    if (vaddr === undefined) return;
    const bytes = new Uint8Array(Uint32Array.from(dwords).buffer);
    this.task.memory.poke(vaddr + BigInt(offset), bytes);
    for (const onWrite of [...(this.#watched.get(gfn) ?? [])]) onWrite(BigInt(gfn * PAGE + offset), bytes);
  }

  peek(gfn: number, offset: number): number | undefined {
    const vaddr = this.#vaddrOf(gfn);
    if (vaddr === undefined) return undefined;
    return new DataView(this.task.memory.peek(vaddr + BigInt(offset), 4).slice().buffer).getUint32(0, true);
  }

  /** Everything ends: nothing is left over, pinned, locked, watched, or written by anybody after it was given back. */
  async end(): Promise<void> {
    for (const seat of this.#seats) await seat.close();
    await this.mediator.close();
    this.clock.advance(100);
    await this.task.exit();
    assert.deepEqual([this.leftovers, this.#watched.size, this.os.host.trespasses()], [[], 0, []]);
    assert.deepEqual(Object.values(this.os.leaks()), [0, 0, 0, 0, 0, 0]);
  }

  async abandon(): Promise<void> {
    await Promise.allSettled([this.mediator.close()]);
  }

  #vaddrOf(gfn: number): bigint | undefined {
    for (const range of [STAYING, GOING]) {
      const vaddr = this.#vaddrs.get(range.first);
      if (vaddr !== undefined && gfn >= range.first && gfn <= range.last)
        return vaddr + BigInt(gfn - range.first) * 4096n;
    }
    return undefined;
  }
}
