import type { FrameRange, IrqInfo, IrqSink, PinionError, PinningDeviceOps, RegionInfo } from '@pinion/core';
import { assemble, type GvtDeviceParts, type Vgpu } from './assembly.js';
import type { Frame } from './display.js';
import type { GraphicsFault } from './faults.js';
import type { Ggtt } from './ggtt.js';
import type { HypervisorBackend } from './hypervisor/backend.js';
import { yell } from './hypervisor/leftovers.js';
import { RegionAccess } from './region-access.js';
import { GVT_IRQS, listRegions } from './regions.js';
import { defineResets, powerOn, resetDevice } from './resets.js';
import type { RingState } from './ring.js';
import type { VgpuResources } from './types.js';

/** Counters for printouts and tests. */
export interface GvtStats {
  /** Table entries that lead to a guest page. */
  readonly tableEntries: number;
  /** Mappings that the backend holds, and their pages. */
  readonly cacheEntries: number;
  readonly cachePages: number;
  readonly faults: number;
}

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
  readonly irqs: readonly IrqInfo[] = GVT_IRQS;
  readonly #vgpu: Vgpu;
  readonly #access: RegionAccess;

  constructor(parts: GvtDeviceParts) {
    this.regions = listRegions(parts.apertureBytes);
    this.#vgpu = assemble(parts);
    this.#access = new RegionAccess(this.#vgpu, this.regions);
    defineResets(this.#vgpu);
    powerOn(this.#vgpu);
  }

  /** What this vGPU owns. */
  get resources(): VgpuResources {
    return this.#vgpu.parts.resources;
  }

  /** The seam to the hypervisor: where guest pages come from. */
  get backend(): HypervisorBackend {
    return this.#vgpu.backend;
  }

  get stats(): GvtStats {
    const { backend, ggtt, faults } = this.#vgpu;
    const { mappings, pages } = backend.usage;
    return {
      tableEntries: ggtt.mapped,
      cacheEntries: mappings,
      cachePages: pages,
      faults: faults.count,
    };
  }

  /** The first faults since the last reset, oldest first. */
  get faults(): readonly GraphicsFault[] {
    return this.#vgpu.faults.list;
  }

  get engine(): RingState {
    return this.#vgpu.ring.state;
  }

  /** Why the engine is halted. */
  get engineError(): PinionError | undefined {
    return this.#vgpu.ring.error;
  }

  /** The translation table, for printouts and tests: what the host made of the guest's entries. */
  get ggtt(): Pick<Ggtt, 'hostEntry' | 'mapped'> {
    return this.#vgpu.ggtt;
  }

  /** What the screen shows. @throws PinionError GVT_BAD_PLANE (EINVAL), GVT_PLANE_RANGE (EFAULT). */
  frame(): Frame {
    return this.#vgpu.display.frame();
  }

  open(): void {
    powerOn(this.#vgpu);
    this.#vgpu.backend.attach();
  }

  /** Stops the engine, drops what the table holds, then whatever else the cache has left, which is reported. */
  close(): void {
    const { parts, ring, backend, ggtt } = this.#vgpu;
    ring.stop();
    if (parts.quirks.has('cache-destroyed-first')) yell(parts, backend.detach());
    ggtt.reset();
    yell(parts, backend.detach());
  }

  /** As after `open`: no job, no mapping, all registers at their start values. */
  reset(): void {
    resetDevice(this.#vgpu);
  }

  remove(): void {
    this.#vgpu.parts.onRemove?.();
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#vgpu.backend.setIrqSink(sink);
  }

  /** The table stops leading into the range, then its mappings are released whatever their references. */
  dmaUnmap(range: FrameRange): void {
    this.#vgpu.ggtt.scrub(range);
    this.#vgpu.backend.releaseRange(range);
  }

  /**
   * @throws PinionError GVT_OUT_OF_REGION, GVT_FOREIGN_APERTURE (EINVAL), GVT_REGION_FAULT (EFAULT) when a part of an access to
   * BAR0 is refused; the parts before it have been done.
   */
  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#access.read(index, offset, bytes);
  }

  /** @throws PinionError as `readRegion`. Parts of config space that a guest cannot change keep their value. */
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#access.write(index, offset, bytes);
  }
}
