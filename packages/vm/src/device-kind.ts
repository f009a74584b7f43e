import type { DeviceFile, DeviceOps, Log, Undo, VendorDriver } from '@pinion/core';
import type { PassthroughFunction } from '@pinion/iommu';
import type { GuestMachine } from './guest-machine.js';
import type { Shape } from './schema.js';

/** A physical device of the host that offers mediated ones, as a description names it. Kinds add keys of their own. */
export interface ParentConfig {
  readonly name: string;
  readonly driver: string;
}

/** A device of a VM, as a description names it. Kinds add keys of their own. */
export interface DeviceConfig {
  readonly name: string;
  readonly driver: string;
  readonly type: string;
  /** Mediated devices: who offers them. */
  readonly parent?: string;
  readonly uuid?: string;
  /** Passthrough functions: the IOMMU group they are in. */
  readonly group?: string;
}

/** The keys that a kind adds to the common ones. */
export interface Keys {
  readonly required: Readonly<Record<string, Shape<unknown>>>;
  readonly optional: Readonly<Record<string, Shape<unknown>>>;
}

/** What a kind makes its devices with. */
export interface HostResources {
  readonly log: Log;
  /** Undone when the host closes, after every device is gone. */
  defer(undo: Undo): void;
}

/** What all kinds of device have in common: how a description names one, and how a guest reaches it. */
interface KindBase<D extends DeviceConfig> {
  readonly driver: string;
  /** `vfio-pci`, `vfio-ccw`, `vfio-ap`: what a hypervisor must be able to give to its guests. */
  readonly deviceApi: string;
  readonly types: readonly string[];
  readonly deviceKeys: Keys;
  /** Values of these keys may occur only once among the devices of this kind, such as a subchannel's number. */
  readonly uniqueKeys?: readonly string[];
  /** Connects an opened device to what the guest sees. @returns the undo; its argument is what programs that wait are told. */
  connect(config: D, file: DeviceFile, machine: GuestMachine): (reason: unknown) => void;
}

/** Devices that a vendor driver makes. */
export interface MediatedKind<P extends ParentConfig = ParentConfig, D extends DeviceConfig = DeviceConfig>
  extends KindBase<D> {
  readonly mediated: true;
  /** False for devices that never pin guest memory: they can also live on type1, which cannot pin. Default true. */
  readonly pins?: boolean;
  readonly parentKeys: Keys;
  /** Some drivers serve one physical device only; default: as many as are named. */
  readonly maxParents?: number;
  /** What is wrong with the keys of a parent together: tells `report` the key and why. */
  checkParent?(parent: P, report: (key: string, message: string) => void): void;
  /** The types a parent offers, where that depends on it; default: all `types`. */
  offers?(parent: P): readonly string[];
  /** One driver for all parents of this kind (at least one). What it opens, `resources` closes. */
  createDriver(parents: readonly P[], resources: HostResources): VendorDriver | Promise<VendorDriver>;
  /** Settings of a device before it is opened: each time it is plugged in. */
  configure?(config: D, ops: DeviceOps, machine: GuestMachine): void;
}

/** Functions behind an IOMMU. */
export interface PassthroughKind<D extends DeviceConfig = DeviceConfig> extends KindBase<D> {
  readonly mediated: false;
  readonly parentKeys?: undefined;
  createFunction(config: D, pci: PassthroughFunction, log: Log): DeviceOps;
}

/**
 * A kind of device that descriptions can name. A plugin author adds one by putting it into the registry: nothing else in this
 * package knows the kinds by name.
 */
export type DeviceKind = MediatedKind | PassthroughKind;
