import type { Clock } from './clock.js';
import type { Log } from './log.js';
import type { MigrationOps } from './migration.js';
import type { DmaApi, PinApi } from './pins.js';
import type { FrameRange } from './units.js';

/** A region of a device: `index` as in VFIO_DEVICE_GET_REGION_INFO, `size` in bytes. */
export interface RegionInfo {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** An interrupt index and how many vectors it has. Source: VFIO_DEVICE_GET_IRQ_INFO. */
export interface IrqInfo {
  readonly index: number;
  readonly name: string;
  readonly count: number;
}

/** Raises interrupt `vector` of index `index`. Set by whoever listens (hypervisor, vfio-user server). */
export type IrqSink = (index: number, vector: number) => void;

/**
 * Copies to and from a guest's memory by whatever road leads there, also where it can be neither mapped nor pinned (a VMM that shares
 * none of it). Addresses are those of DMA, bytes. Not atomic: what came before a failure stays done.
 */
export interface GuestMemory {
  read(address: bigint, bytes: Uint8Array): Promise<void>;
  write(address: bigint, bytes: Uint8Array): Promise<void>;
}

/**
 * What a device does. Source: struct vfio_device_ops. Core calls `open`, `close` and `reset` one at a time per device and awaits
 * each; `dmaUnmap` may come while one of them is under way. `readRegion` and `writeRegion` are only called while the device is open.
 */
export interface DeviceOps {
  readonly regions?: readonly RegionInfo[];
  readonly irqs?: readonly IrqInfo[];
  /** First opener. A failure undoes the open. Pins may be taken here. */
  open?(): void | Promise<void>;
  /** Last closer. Stop all DMA and give back every pin before this settles. */
  close?(): void | Promise<void>;
  /** Back to the state after open: no DMA in flight, no pin that belongs to it. */
  reset?(): void | Promise<void>;
  /** Somebody wants the device back; `count` grows every 10 s until all users closed it. Source: ops->request. */
  request?(count: number): void;
  /** Fills `bytes` from region `index` at `offset` (bytes). @throws PinionError of the driver. */
  readRegion?(index: number, offset: number, bytes: Uint8Array): void;
  writeRegion?(index: number, offset: number, bytes: Uint8Array): void;
  /** Who receives this device's interrupts; undefined disconnects. */
  setIrqSink?(sink: IrqSink | undefined): void;
  /** How its state is saved and restored; absent: it cannot be migrated. */
  readonly migration?: MigrationOps;
  /**
   * Who copies guest memory, as long as somebody can; undefined: nobody any more. For memory that `pins` and `dma` refuse with EFAULT.
   * Must not be awaited inside `readRegion`, `writeRegion` or another duty whose caller waits: begin it there, go on later.
   */
  setGuestMemory?(memory: GuestMemory | undefined): void;
  /** The mediated device is removed; it is closed by then. Never fails: report through the log. */
  remove?(): void | Promise<void>;
}

/** A device with the right to pin, and so with the duty to unpin. */
export interface PinningDeviceOps extends DeviceOps {
  /**
   * `range` is a whole mapping that goes away: never one page, never only its start. When this returns (its promise settles)
   * the device does no DMA to any page of the range and holds no pin inside it. May come for ranges the device never
   * touched, more than once, and while I/O runs. Must not map, unmap, open or close (CORE_REENTRY).
   * Source: vfio_device_ops.dma_unmap, threads/2022-07.
   */
  dmaUnmap(range: FrameRange): void | Promise<void>;
}

/** What a driver gets to build a device with. */
export interface DeviceContext {
  /** Name of the device: an mdev's UUID. */
  readonly name: string;
  readonly type: string;
  readonly parent: string;
  readonly dma: DmaApi;
  readonly clock: Clock;
  readonly log: Log;
}

/** What a device of a driver with `pins: true` is made with: the only way to the pin API. */
export interface PinningDeviceContext extends DeviceContext {
  readonly pins: PinApi;
}

/** A kind of mediated device that a parent offers. Source: mdev_supported_types. */
export interface MdevTypeInfo {
  /** Without the driver's name: sysfs shows `<driver>-<id>`. */
  readonly id: string;
  readonly prettyName?: string;
  readonly description?: string;
}

interface DriverBase {
  readonly name: string;
  /** `vfio-pci`, `vfio-ccw`, `vfio-ap`, ... : the device_api attribute. */
  readonly deviceApi: string;
  readonly types: readonly MdevTypeInfo[];
  /** Instances all types of one parent share; without `available` core counts them down. */
  readonly maxInstances?: number;
  /** For drivers whose types compete for resources: how many more of `type` fit. Source: mdev_driver.get_available. */
  available?(type: string): number;
}

/** A vendor driver whose devices pin guest memory. */
export interface PinningDriver extends DriverBase {
  readonly pins: true;
  /** Makes one device. A throw undoes the creation; what it means is the driver's errno. */
  create(context: PinningDeviceContext): PinningDeviceOps | Promise<PinningDeviceOps>;
}

/** A vendor driver whose devices only copy (or do no DMA at all). */
export interface PlainDriver extends DriverBase {
  readonly pins: false;
  create(context: DeviceContext): DeviceOps | Promise<DeviceOps>;
}

/** The second plug point: mediated devices. Source: struct mdev_driver plus struct vfio_device_ops. */
export type VendorDriver = PinningDriver | PlainDriver;

/** Freezes a driver and keeps its exact type. */
export const defineDriver = <const D extends VendorDriver>(driver: D): D => Object.freeze(driver);
