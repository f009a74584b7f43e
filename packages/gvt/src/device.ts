import {
  type FrameRange,
  type IrqInfo,
  type IrqSink,
  type PinApi,
  PinionError,
  type PinningDeviceContext,
  type PinningDeviceOps,
  type RegionInfo,
} from '@pinion/core';
import { CommandStreamer } from './command-streamer.js';
import { ConfigSpace } from './config-space.js';
import { Display, type Frame } from './display.js';
import { gvtErrors } from './errors.js';
import { FaultLog, type GraphicsFault } from './faults.js';
import { Ggtt } from './ggtt.js';
import { GraphicsMemory } from './graphics-memory.js';
import { KvmBackend, type LeftoverReport } from './hypervisor/kvm.js';
import { Interrupts } from './interrupts.js';
import { RegisterFile } from './mmio.js';
import { definePvinfo, fillPvinfo } from './pvinfo.js';
import type { Quirks } from './quirks.js';
import {
  BAR0_SIZE,
  BCS,
  CONFIG_SIZE,
  GDRST,
  GDRST_BCS,
  GDRST_FULL,
  GTT_OFFSET,
  GTT_SIZE,
  IRQ,
  MMIO_SIZE,
  REGION,
} from './regs.js';
import { Ring, type RingState } from './ring.js';
import type { VgpuResources } from './types.js';

const REGIONS = 9;
/** What an engine reset clears. */
const ENGINE_REGISTERS = [BCS.TAIL, BCS.HEAD, BCS.START, BCS.CTL, BCS.IPEHR, BCS.ACTHD, BCS.EIR];

/** What a vGPU is made from. */
export interface GvtDeviceParts {
  readonly context: PinningDeviceContext;
  /** The context's, or what stands before them. */
  readonly pins: PinApi;
  readonly resources: VgpuResources;
  /** Size of BAR2, bytes: the whole aperture, of which the vGPU owns a slice. */
  readonly apertureBytes: number;
  readonly quirks: Quirks;
  readonly onLeftovers?: ((report: LeftoverReport) => void) | undefined;
  /** The device was removed: gives its resources back. */
  readonly onRemove?: (() => void) | undefined;
}

/** Counters for printouts and tests. */
export interface GvtStats {
  /** Table entries that lead to a guest page. */
  readonly tableEntries: number;
  /** Mappings in the DMA cache, and the pages pinned by them. */
  readonly cacheEntries: number;
  readonly cachePages: number;
  readonly faults: number;
}

const region = (index: number, name: string, size: number): RegionInfo =>
  Object.freeze({ index, name, size, readable: size > 0, writable: size > 0 });

/**
 * A vGPU. A guest sees a PCI display controller: BAR0 holds registers and, from 8 MB on, the global graphics translation table;
 * BAR2 is the aperture, of which it may touch its own slice; commands go through the blitter's ring.
 *
 * Pages are pinned by table entries alone and given back when the entry changes, when `dmaUnmap` names them, at reset and
 * at close. Every access of the engine, the CPU and the screen looks the table up, and the engine stops only between two steps
 * of its work, on the clock: so when `dmaUnmap` returns nothing touches those pages any more. Source: i915 gvt.
 */
export class GvtDevice implements PinningDeviceOps {
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[] = Object.freeze([
    { index: IRQ.INTX, name: 'intx', count: 1 },
    { index: IRQ.MSI, name: 'msi', count: 1 },
  ]);
  /** What this vGPU owns. */
  readonly resources: VgpuResources;
  /** The seam to the hypervisor: where guest pages come from. */
  readonly backend: KvmBackend;
  readonly #parts: GvtDeviceParts;
  readonly #registers = new RegisterFile();
  readonly #faults = new FaultLog(this.#registers);
  readonly #config: ConfigSpace;
  readonly #ggtt: Ggtt;
  readonly #interrupts: Interrupts;
  readonly #aperture: GraphicsMemory;
  readonly #ring: Ring;
  readonly #display: Display;
  #holeReported = false;

  constructor(parts: GvtDeviceParts) {
    const { context, resources, apertureBytes } = parts;
    const { clock, log } = context;
    this.#parts = parts;
    this.resources = resources;
    this.regions = listRegions(apertureBytes);
    this.backend = new KvmBackend({
      device: context.name,
      pins: parts.pins,
      log,
      quirks: parts.quirks,
      onLeftovers: parts.onLeftovers,
    });
    this.#config = new ConfigSpace(apertureBytes);
    this.#ggtt = new Ggtt(resources, this.backend, log);
    this.#interrupts = new Interrupts(this.#registers, () => this.#sendMsi());
    this.#aperture = new GraphicsMemory(this.#ggtt, this.#faults, 'aperture');
    const memory = new GraphicsMemory(this.#ggtt, this.#faults, 'engine');
    const streamer = new CommandStreamer({ memory, registers: this.#registers, clock });
    this.#ring = new Ring({ registers: this.#registers, streamer, interrupts: this.#interrupts, clock, log });
    this.#display = new Display(this.#registers, new GraphicsMemory(this.#ggtt, this.#faults, 'display'));
    this.#defineRegisters();
    this.#powerOn();
  }

  get stats(): GvtStats {
    const cache = this.backend.cache;
    return {
      tableEntries: this.#ggtt.mapped,
      cacheEntries: cache?.entries ?? 0,
      cachePages: cache?.pages ?? 0,
      faults: this.#faults.count,
    };
  }

  /** The first faults since the last reset, oldest first. */
  get faults(): readonly GraphicsFault[] {
    return this.#faults.list;
  }

  get engine(): RingState {
    return this.#ring.state;
  }

  /** Why the engine is halted. */
  get engineError(): PinionError | undefined {
    return this.#ring.error;
  }

  /** The translation table, for printouts and tests: what the host made of the guest's entries. */
  get ggtt(): Pick<Ggtt, 'hostEntry' | 'mapped'> {
    return this.#ggtt;
  }

  /** What the screen shows. @throws PinionError GVT_BAD_PLANE (EINVAL), GVT_PLANE_RANGE (EFAULT). */
  frame(): Frame {
    return this.#display.frame();
  }

  open(): void {
    this.#powerOn();
    this.backend.attach();
  }

  /** Stops the engine, drops what the table holds, then whatever else the cache has left, which is reported. */
  close(): void {
    this.#ring.stop();
    if (this.#parts.quirks.has('cache-destroyed-first')) this.backend.detach();
    this.#ggtt.reset();
    this.backend.detach();
  }

  /** As after `open`: no job, no mapping, all registers at their start values. */
  reset(): void {
    this.#ring.stop();
    this.#ggtt.reset();
    this.backend.releaseAll();
    this.#powerOn();
  }

  remove(): void {
    this.#parts.onRemove?.();
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.backend.setIrqSink(sink);
  }

  /** The table stops leading into the range, then its mappings are released whatever their references. */
  dmaUnmap(range: FrameRange): void {
    this.#ggtt.scrub(range);
    this.backend.releaseRange(range);
  }

  /**
   * @throws PinionError GVT_OUT_OF_REGION, GVT_FOREIGN_APERTURE (EINVAL), GVT_REGION_FAULT (EFAULT) when a part of an access to
   * BAR0 is refused; the parts before it have been done.
   */
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#check(index, offset, bytes.length);
    if (index === REGION.CONFIG) this.#config.read(offset, bytes);
    else if (index === REGION.BAR2) this.#checkAperture(offset, bytes.length).read(offset, bytes);
    else this.#inUnits(offset, bytes, (at, unit) => this.#readBar0(at, unit));
  }

  /** @throws PinionError as `readRegion`. Parts of config space that a guest cannot change keep their value. */
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#check(index, offset, bytes.length);
    if (index === REGION.CONFIG) this.#config.write(offset, bytes);
    else if (index === REGION.BAR2) this.#checkAperture(offset, bytes.length).write(offset, bytes);
    else this.#inUnits(offset, bytes, (at, unit) => this.#writeBar0(at, unit));
  }

  #defineRegisters(): void {
    definePvinfo(this.#registers, this.#parts.context.log);
    this.#registers.define(GDRST, { write: (value) => this.#resetEngine(value) });
  }

  /** GDRST: the bits clear themselves at once. The table and its pages stay. */
  #resetEngine(bits: number): void {
    if ((bits & (GDRST_FULL | GDRST_BCS)) === 0) return;
    this.#ring.stop();
    for (const offset of ENGINE_REGISTERS) this.#registers.set(offset, 0);
  }

  #powerOn(): void {
    this.#registers.clear();
    this.#config.reset();
    this.#faults.clear();
    this.#interrupts.reset();
    fillPvinfo(this.#registers, this.resources);
  }

  #sendMsi(): void {
    try {
      const message = this.#config.msi();
      if (message !== undefined) this.backend.injectMsi(message.address, message.data);
    } catch (cause) {
      this.#parts.context.log.warn(`vGPU ${this.#parts.context.name}: MSI not sent`, cause);
    }
  }

  #check(index: number, offset: number, length: number): void {
    const size = this.regions[index]?.size ?? 0;
    if (Number.isInteger(offset) && offset >= 0 && offset + length <= size) return;
    throw gvtErrors.OUT_OF_REGION({ device: this.#parts.context.name, index, offset, length });
  }

  #checkAperture(offset: number, length: number): GraphicsMemory {
    const { low } = this.resources;
    if (offset >= low.base && offset + length <= low.base + low.size) return this.#aperture;
    throw gvtErrors.FOREIGN_APERTURE({ device: this.#parts.context.name, offset, length });
  }

  /** Cuts an access as GVT-g does: 8 bytes only inside the table, else 4, 2 or 1, always aligned. */
  #inUnits(offset: number, bytes: Uint8Array, access: (at: number, unit: Uint8Array) => void): void {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const size = unitSize(at, bytes.length - done);
      try {
        access(at, bytes.subarray(done, done + size));
      } catch (cause) {
        if (!(cause instanceof PinionError)) throw cause;
        throw gvtErrors.REGION_FAULT({ device: this.#parts.context.name, offset: at, length: size }, cause);
      }
      done += size;
    }
  }

  #readBar0(at: number, unit: Uint8Array): void {
    if (at >= GTT_OFFSET) this.#ggtt.read(at - GTT_OFFSET, unit);
    else if (at < MMIO_SIZE) this.#registers.read(at, unit);
    else {
      unit.fill(0);
      this.#reportHole(at);
    }
  }

  #writeBar0(at: number, unit: Uint8Array): void {
    if (at >= GTT_OFFSET) this.#ggtt.write(at - GTT_OFFSET, unit);
    else if (at < MMIO_SIZE) this.#registers.write(at, unit);
    else this.#reportHole(at);
  }

  #reportHole(at: number): void {
    if (this.#holeReported) return;
    this.#holeReported = true;
    this.#parts.context.log.warn(
      `vGPU ${this.#parts.context.name}: offset 0x${at.toString(16)} of BAR0 is neither register nor table: reads zero, writes ignored`,
    );
  }
}

/** All of VFIO's PCI indexes; what a vGPU does not have is of size 0. */
function listRegions(apertureBytes: number): readonly RegionInfo[] {
  const sizes = new Map<number, readonly [name: string, size: number]>([
    [REGION.BAR0, ['bar0', BAR0_SIZE]],
    [REGION.BAR2, ['bar2', apertureBytes]],
    [REGION.ROM, ['rom', 0]],
    [REGION.CONFIG, ['config', CONFIG_SIZE]],
    [REGION.VGA, ['vga', 0]],
  ]);
  return Object.freeze(
    Array.from({ length: REGIONS }, (_, index) => region(index, ...(sizes.get(index) ?? [`bar${index}`, 0]))),
  );
}

function unitSize(offset: number, left: number): number {
  const inTable = offset >= GTT_OFFSET && offset < GTT_OFFSET + GTT_SIZE;
  if (inTable && offset % 8 === 0 && left >= 8) return 8;
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
