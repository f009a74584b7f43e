import type { FrameRange, IrqInfo, IrqSink, PinionError, PinningDeviceOps } from '@pinion/core';
import type { ApertureWindow, MapRequest } from './aperture.js';
import { assemble, type GvtDeviceParts, type Vgpu } from './assembly.js';
import { Bar0 } from './bar0.js';
import type { DisplayUnit } from './display/display-unit.js';
import type { ExportedPlane } from './display/exported-plane.js';
import type { LiveFrame } from './display/frame-stream.js';
import type { PlaneType } from './display/plane.js';
import type { PlaneAnswer, PlaneQuery } from './display/plane-exports.js';
import type { Frame } from './display/screen.js';
import type { EngineState } from './engine/engine-submission.js';
import type { Submission } from './engine/submission.js';
import type { GraphicsFault } from './faults.js';
import type { Ggtt } from './ggtt.js';
import type { HypervisorBackend } from './hypervisor/backend.js';
import type { GuestIdentity } from './life.js';
import { closeVgpu, openVgpu, removeVgpu, unmapGuestMemory } from './life-cycle.js';
import type { Ppgtt } from './ppgtt/ppgtt.js';
import { RegionAccess, type RegionHandler, readOnlyBytes } from './region-access.js';
import {
  GVT_IRQS,
  type GvtIrqInfo,
  type GvtRegion,
  type GvtRegionInfo,
  irqInfo,
  listRegions,
  regionInfo,
} from './regions.js';
import { REGION } from './regs.js';
import { defineResets, powerOn, resetDevice } from './resets.js';
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
 * BAR2 is the aperture, of which it may touch its own slice; commands go through rings or, with a context, through execlists; one
 * pipe shows planes on one monitor. The parts stand in `assembly.ts`, what happens to all of them in `life-cycle.ts` and `resets.ts`.
 *
 * Pages are pinned by entries of the global table, by shadows of per-process tables and by exported planes, and given back when the
 * entry changes, when `dmaUnmap` names them, at reset and at close. Every access of the engines, the CPU and the screen looks the
 * table up, and engines stop only between two steps of their work, on the clock: so when `dmaUnmap` returns nothing touches those
 * pages any more. Source: i915 gvt.
 */
export class GvtDevice implements PinningDeviceOps {
  readonly regions: readonly GvtRegion[];
  readonly irqs: readonly IrqInfo[] = GVT_IRQS;
  readonly #vgpu: Vgpu;
  readonly #access: RegionAccess;

  constructor(parts: GvtDeviceParts) {
    this.regions = listRegions(parts.apertureBytes, parts.resources.low);
    this.#vgpu = assemble(parts);
    this.#access = new RegionAccess(parts.context.name, this.regions, handlersOf(this.#vgpu));
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

  /** What the blitter does for this vGPU. */
  get engine(): EngineState {
    return this.#vgpu.submission.state('bcs');
  }

  /** Why an engine is halted; the first that is. */
  get engineError(): PinionError | undefined {
    return this.#vgpu.submission.error();
  }

  /** What this vGPU gives to the engines of its GPU. */
  get submission(): Pick<Submission, 'idle' | 'state' | 'error' | 'engineTime'> {
    return this.#vgpu.submission;
  }

  /** The translation table, for printouts and tests: what the host made of the guest's entries. */
  get ggtt(): Pick<Ggtt, 'hostEntry' | 'mapped'> {
    return this.#vgpu.ggtt;
  }

  /** The per-process tables, for printouts and tests. */
  get ppgtt(): Pick<Ppgtt, 'stats'> {
    return this.#vgpu.ppgtt;
  }

  /** Why this vGPU emulates nothing any more; undefined while it does. */
  get failsafe(): string | undefined {
    return this.#vgpu.failsafe.reason;
  }

  /** The monitor, and the rhythm of its pictures. */
  get display(): Pick<DisplayUnit, 'monitor' | 'vblank'> {
    return this.#vgpu.display;
  }

  /** Handles of planes that are shown outside, by their buffers, and the pages these hold. */
  get exported(): { readonly buffers: number; readonly pages: number } {
    const { held, pages } = this.#vgpu.display.exports;
    return { buffers: held, pages };
  }

  /** What the screen shows, cursor included. @throws PinionError GVT_BAD_PLANE (EINVAL), GVT_PLANE_START, GVT_PLANE_RANGE (EFAULT). */
  frame(): Frame {
    return this.#vgpu.display.screen.frame();
  }

  /**
   * The live screen: as it is now, then at each vertical blank in which it has changed, with what has changed. Nothing is looked at
   * while nobody watches. Ends when the vGPU closes.
   */
  frames(): AsyncIterableIterator<LiveFrame> {
    return this.#vgpu.display.streams.open();
  }

  /** VFIO_DEVICE_QUERY_GFX_PLANE. @throws as `PlaneExports.query`. */
  queryPlane(query: PlaneQuery): PlaneAnswer {
    return this.#vgpu.display.exports.query(query);
  }

  /** VFIO_DEVICE_GET_GFX_DMABUF. @throws PinionError GVT_NO_BUFFER (EINVAL), GVT_NO_EXPORT (ENOTTY), GVT_EXPORT_PAGE (EINVAL). */
  getBuffer(id: number): ExportedPlane {
    return this.#vgpu.display.exports.get(id);
  }

  /** Both at once: a handle of what a plane shows, whose pages it holds. Undefined while the plane is off. @throws as both. */
  exportPlane(type: PlaneType = 'primary'): ExportedPlane | undefined {
    return this.#vgpu.display.exports.export(type);
  }

  /** VFIO_DEVICE_GET_REGION_INFO. @throws PinionError GVT_NO_REGION (EINVAL). */
  regionInfo(index: number): GvtRegionInfo {
    return regionInfo(this.regions, index);
  }

  /** VFIO_DEVICE_GET_IRQ_INFO. @throws PinionError GVT_NO_IRQ (EINVAL). */
  irqInfo(index: number): GvtIrqInfo {
    return irqInfo(index);
  }

  /** mmap() of the device's file. @throws PinionError GVT_BAD_MMAP (EINVAL). */
  map(request: MapRequest): ApertureWindow {
    return this.#vgpu.aperture.map(request);
  }

  /** Whose vGPU this is, told before it opens: a guest has one vGPU of a GPU open. Undefined: anybody's. */
  setGuest(guest: GuestIdentity | undefined): void {
    if (!this.#vgpu.life.open) this.#vgpu.life.guest = guest;
  }

  /** @throws PinionError GVT_GUEST_HAS_VGPU (EEXIST), and what the hypervisor throws. */
  open(): void {
    openVgpu(this.#vgpu);
  }

  /** Stops the engines, revokes what is shown outside, drops what the tables hold, then whatever else is left, which is reported. */
  close(): void {
    closeVgpu(this.#vgpu);
  }

  /** As after `open`: no job, no mapping, all registers at their start values. After D3hot the shadow tables stay. */
  reset(): void {
    resetDevice(this.#vgpu);
  }

  /** @throws PinionError GVT_BUSY (EBUSY) while open. Its resources are free when the last exported plane is closed. */
  remove(): void {
    removeVgpu(this.#vgpu);
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#vgpu.backend.setIrqSink(sink);
  }

  /** When this returns nothing leads to a page of the range, nothing holds one, and nothing touches one. */
  dmaUnmap(range: FrameRange): void {
    unmapGuestMemory(this.#vgpu, range);
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

/** What stands behind each region. */
function handlersOf(vgpu: Vgpu): Map<number, RegionHandler> {
  const { parts, registers, ggtt, failsafe, aperture, config, opregion, display } = vgpu;
  const { name, log } = parts.context;
  return new Map<number, RegionHandler>([
    [REGION.BAR0, new Bar0({ device: name, log, registers, ggtt, failsafe })],
    [REGION.BAR2, aperture],
    [REGION.CONFIG, config],
    [REGION.OPREGION, readOnlyBytes(name, REGION.OPREGION, opregion.bytes)],
    [REGION.EDID, display.edidRegion],
  ]);
}
