export type { ApertureWindow, MapRequest } from './aperture.js';
export type { GvtDeviceParts } from './assembly.js';
export {
  type BlitSurface,
  type Depth,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miNoop,
  miStoreDword,
  miUserInterrupt,
  type Rect,
  xyColorBlt,
  xySetupClip,
  xySrcCopyBlt,
} from './commands.js';
export { GvtDevice, type GvtStats } from './device.js';
export type { Damage } from './display/damage.js';
export {
  CURSOR,
  DP_AUX,
  GMBUS,
  PALETTE,
  PCH_HOTPLUG,
  PIPE,
  PIPE_ACTIVE,
  PLANE_OFFSET,
  SDE_ISR,
  SDE_PORT_D,
  SFUSE_STRAP,
} from './display/display-regs.js';
export type { DisplayUnit } from './display/display-unit.js';
export { edidProblem, makeEdid } from './display/edid.js';
export { EDID_REGION, LINK_STATE } from './display/edid-region.js';
export type { ExportedPlane, ExportState } from './display/exported-plane.js';
export type { LiveFrame } from './display/frame-stream.js';
export type { Monitor, MonitorLink } from './display/monitor.js';
export { OPREGION } from './display/opregion.js';
export { fourcc } from './display/pixel-formats.js';
export type { PlaneInfo, PlaneType } from './display/plane.js';
export { DRM_PLANE, PLANE_QUERY, type PlaneAnswer, type PlaneQuery } from './display/plane-exports.js';
export type { Frame } from './display/screen.js';
export type { ScreenUpdate } from './display/screen-tracker.js';
export { FRAME_PERIOD, type Vblank } from './display/vblank.js';
export { DmaCache, type PageSource, SIZE_2M, SIZE_4K } from './dma-cache.js';
export { createGvtDriver, type GvtDriver, type GvtOptions, gvt } from './driver.js';
export type { EngineState } from './engine/engine-submission.js';
export {
  BCS_SWCTRL,
  ENGINES,
  type Engine,
  FORCE_NONPRIV_SLOTS,
  GPR_COUNT,
  MODE,
  RING,
  SWCTRL,
} from './engine/engines.js';
export { CSB, CSB_ENTRIES, EXECLIST_STATUS, HWSP_CSB, HWSP_CSB_POINTER } from './engine/execlist.js';
export { MAX_BATCHES } from './engine/job-scan.js';
export { MAX_JOB_DWORDS } from './engine/streamer.js';
export { ALL_ENGINES } from './engine/submission.js';
export { gvtErrors } from './errors.js';
export { type EngineName, FaultLog, type GraphicsFault, type Source } from './faults.js';
export { FENCE_BASE, FENCE_BYTES } from './fences.js';
export { defineHardware, GEN9_HARDWARE, type HardwareRegister } from './gen9-hardware.js';
export type { HostEntry } from './ggtt.js';
export type { GraphicsAccess } from './graphics-access.js';
export * from './hypervisor/adapter.js';
export * from './hypervisor/backend.js';
export { GuestBackend } from './hypervisor/guest-backend.js';
export type { AskedPage } from './hypervisor/held-pages.js';
export { HoldingBackend } from './hypervisor/holding.js';
export { KvmBackend, kvmBackend } from './hypervisor/kvm.js';
export { describeLeftover, type LeftoverListener, type LeftoverReport } from './hypervisor/leftovers.js';
export * from './hypervisor/owner.js';
export { RefcountingBackend } from './hypervisor/refcounting.js';
export { StaticBackend, type StaticMemory, staticBackend } from './hypervisor/static.js';
export { XenBackend, xenBackend } from './hypervisor/xen.js';
export {
  BANK_REGISTER,
  EVENTS,
  type EventPlace,
  type GvtEvent,
  INTERRUPT_BANKS,
  type InterruptBank,
  UPSTREAM,
  type Upstream,
} from './interrupt-tables.js';
export { Interrupts } from './interrupts.js';
export type { GuestIdentity } from './life.js';
export { RegisterFile } from './mmio.js';
export type { PpgttMm, PpgttRoot } from './ppgtt/mm.js';
export { Ppgtt, type PpgttOptions, type PpgttParts, type PpgttStats } from './ppgtt/ppgtt.js';
export { GVT_QUIRKS, type GvtQuirk, NO_QUIRKS, type Quirks } from './quirks.js';
export { type GvtIrqInfo, type GvtRegion, type GvtRegionInfo, IRQ_FLAG, REGION_FLAG, REGION_TYPE } from './regions.js';
export { GEN9_RULES, type RegisterRule, RegisterRules } from './register-rules.js';
export * from './regs.js';
export { type MergeLoop, type MergeRows, mergeLoop } from './rop.js';
export { xTileOffset, yTileOffset } from './surface.js';
export { describeType, GpuResources, type Slice, VGPU_TYPES, type VgpuResources, type VgpuType } from './types.js';
