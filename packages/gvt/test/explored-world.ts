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
const UUID = '00000000-0000-4000-8000-00000000000e';
/** Guest memory: rings, tables and contexts, which stay; and pages to draw on, which come and go as a mapping of their own. */
export const STAYING = frameRange(asIovaFrame(0), 64);
export const GOING = frameRange(asIovaFrame(0x100), 16);

export interface ExploredOptions extends GvtOptions {
  /** A passthrough function stands in the same container. */
  readonly mixed?: boolean;
  /** The guest's stores into tracked pages are trapped. */
  readonly traps?: boolean;
}

/** One vGPU on the real core, type1 and a simulated host that poisons what is given back. */
export class GvtWorld {
  readonly os: SimulatedOs;
  readonly clock: FakeClock;
  readonly task: SimulatedTask;
  readonly mediator: Mediator;
  readonly container: Container;
  readonly mdev: Mdev;
  readonly device: GvtDevice;
  readonly leftovers: LeftoverReport[];
  readonly #group: GroupFile;
  readonly #vaddrs = new Map<number, bigint>();
  readonly #watched = new Map<number, GuestWriteHandler>();
  #file: DeviceFile | undefined;
  /** The range that was given back and not mapped again. */
  #gone: FrameRange | undefined;

  private constructor(parts: Pick<GvtWorld, 'os' | 'clock' | 'mediator' | 'mdev' | 'leftovers'>) {
    this.os = parts.os;
    this.clock = parts.clock;
    this.mediator = parts.mediator;
    this.mdev = parts.mdev;
    this.leftovers = parts.leftovers;
    const { ops } = parts.mdev.device;
    assert.ok(ops instanceof GvtDevice);
    this.device = ops;
    this.task = this.os.spawn({ name: 'vmm', ipcLock: true });
    this.container = this.mediator.openContainer(this.task);
    this.#group = this.mdev.group.open(this.task);
  }

  static async start(options: ExploredOptions = {}): Promise<GvtWorld> {
    const os = new SimulatedOs({ keepFreed: true });
    const clock = new FakeClock();
    const leftovers: LeftoverReport[] = [];
    const onLeftovers = (report: LeftoverReport) => void leftovers.push(report);
    const plugins = [type1(), gvt({ onLeftovers, ...options })];
    const mediator = await createMediator({ memory: os.host, clock, dutyLimit: 0, plugins });
    const mdev = await mediator.registerParent('gpu', 'gvt').create('V5_8', UUID);
    const world = new GvtWorld({ os, clock, mediator, mdev, leftovers });
    if (options.traps === true) world.#trap();
    await world.#begin(options.mixed === true);
    return world;
  }

  async #begin(mixed: boolean): Promise<void> {
    this.#group.setContainer(this.container);
    this.container.setIommu(EXTENSION.TYPE1v2_IOMMU);
    for (const range of [STAYING, GOING]) this.map(range);
    await this.open();
    if (!mixed) return;
    const iommu = createSoftwareIommu({ memory: this.os.host }).createGroup({ functions: ['pt'] });
    const group = this.mediator.addGroup({ name: 'pt', iommu });
    const device = this.mediator.addDevice(group, 'pt-f0', {});
    const file = group.open(this.task);
    file.setContainer(this.container);
    await file.openDevice(device.name);
  }

  #trap(): void {
    this.device.backend.setWriteTraps?.({
      watchWrites: (gfn, onWrite) => {
        this.#watched.set(gfn, onWrite);
        return () => void this.#watched.delete(gfn);
      },
    });
  }

  /** Opens the vGPU, unless it is open or gone. */
  async open(): Promise<void> {
    if (this.#file === undefined) this.#file = await this.#group.openDevice(UUID);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async reset(): Promise<void> {
    await this.#file?.reset();
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
    for (let page = 0; page < CHECKED; page++) {
      const dma = this.device.ggtt.hostEntry(this.base / PAGE + page)?.dma;
      if (dma !== undefined)
        assert.ok(this.os.host.pinsOf(dma) > 0, `graphics page ${page} leads to a page that is not held`);
    }
    if (this.#gone !== undefined) assert.deepEqual(this.mdev.device.pins.within(this.#gone), []);
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

  /** The guest's CPU writes into its memory, if it is there. */
  poke(gfn: number, offset: number, dwords: readonly number[]): void {
    const vaddr = this.#vaddrOf(gfn);
    if (vaddr === undefined) return;
    const bytes = new Uint8Array(Uint32Array.from(dwords).buffer);
    this.task.memory.poke(vaddr + BigInt(offset), bytes);
    this.#watched.get(gfn)?.(BigInt(gfn * PAGE + offset), bytes);
  }

  peek(gfn: number, offset: number): number | undefined {
    const vaddr = this.#vaddrOf(gfn);
    if (vaddr === undefined) return undefined;
    return new DataView(this.task.memory.peek(vaddr + BigInt(offset), 4).slice().buffer).getUint32(0, true);
  }

  /** The blitter's ring is guest frame 0, graphics page 0; its commands run from the start. */
  startRing(dwords: readonly number[]): void {
    this.poke(0, 0, dwords);
    this.entry(0, 0);
    this.write(BCS.START, this.base);
    this.write(BCS.CTL, 1);
  }

  /** Everything ends: nothing is left over, pinned, locked, or written by anybody after it was given back. */
  async end(): Promise<void> {
    await this.close();
    await this.mediator.close();
    this.clock.advance(100);
    await this.task.exit();
    assert.deepEqual(this.leftovers, []);
    assert.equal(this.#watched.size, 0);
    assert.deepEqual(this.os.host.trespasses(), []);
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
