import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Clock,
  createMediator,
  definePlugin,
  type Hypervisor,
  type Log,
  type Mediator,
  silentLog,
  systemClock,
  Teardown,
} from '@pinion/core';
import { linuxSys, type Sys } from '@pinion/sys';
import { type Type1Options, type1 } from '@pinion/type1';
import { ClientPages } from '@pinion/vfio-user';
import type { Accounting } from '../accounting.js';
import type { Registry, VmDescription } from '../description.js';
import type { DeviceConfig } from '../device-kind.js';
import { vmErrors } from '../errors.js';
import { type Leftovers, ServedDevices } from '../served-devices.js';
import { pcieRootPort, type QemuDevice, vfioUserDevice } from './command-line.js';
import type { GuestContents } from './guest-image.js';
import type { QemuKit } from './kit.js';
import { LinuxGuest } from './linux-guest.js';

/** A real QEMU in a process of its own; its guests can have what can be served over vfio-user. */
export const qemu: Hypervisor = Object.freeze({ name: 'qemu', deviceApis: Object.freeze(['vfio-pci']) });

export interface QemuVmOptions {
  /** What the description was read with. */
  readonly registry: Registry;
  /** Names of the devices that the VM gets; each must be one that `refusalOf` has nothing against. */
  readonly devices: readonly string[];
  readonly contents?: GuestContents | Uint8Array;
  /** Default: `findQemuKit()`. */
  readonly kit?: QemuKit;
  /** MiB: a Linux kernel needs more than most descriptions say. Default 256. */
  readonly memory?: number;
  readonly type1?: Type1Options;
  readonly sys?: Sys;
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Why a device of a description cannot be had by a guest of a real QEMU; undefined if it can. */
export function refusalOf(device: DeviceConfig, registry: Registry): string | undefined {
  const kind = registry.kinds.get(device.driver);
  if (kind === undefined) return `there is no driver ${device.driver}`;
  if (!qemu.deviceApis.includes(kind.deviceApi)) {
    return `${kind.deviceApi} devices belong to s390 machines: embedded hypervisor only`;
  }
  return kind.mediated
    ? undefined
    : 'a passthrough function stays with the hypervisor that has its IOMMU: embedded hypervisor only';
}

/**
 * A VM of a description in a real QEMU: the devices are made in this process and served over vfio-user, one socket each; devices of one
 * container of the description share one container here, with its mappings and its account. Memory is QEMU's own.
 */
export class QemuVm {
  readonly name: string;
  readonly guest: LinuxGuest;
  readonly mediator: Mediator;
  readonly #served: ServedDevices;
  readonly #devices: ReadonlyMap<string, QemuDevice>;
  readonly #containers: readonly string[];
  readonly #teardown: Teardown;

  private constructor(parts: Parts, guest: LinuxGuest, name: string) {
    this.name = name;
    this.guest = guest;
    this.mediator = parts.mediator;
    this.#served = parts.served;
    this.#devices = parts.devices;
    this.#containers = parts.containers;
    this.#teardown = parts.teardown;
  }

  /**
   * Makes the devices, starts QEMU, and waits for the guest's shell. A failure leaves nothing behind.
   * @throws VM_NO_DEVICE (ENODEV), VM_NOT_FOR_QEMU (EINVAL), as `LinuxGuest.boot`, what core, the backend and the drivers throw.
   */
  static async start(description: VmDescription, options: QemuVmOptions): Promise<QemuVm> {
    const teardown = new Teardown();
    try {
      const parts = await build(description, options, teardown);
      const { clock = systemClock, contents = {}, memory = 256, kit } = options;
      const ports = options.devices.map((name, index) => pcieRootPort(portOf(name), index + 1));
      const machine = { memory, devices: [...ports, ...parts.devices.values()] };
      const guest = await LinuxGuest.boot({ name: description.name, clock, contents, machine, ...(kit && { kit }) });
      teardown.defer(() => guest.kill());
      return new QemuVm(parts, guest, description.name);
    } catch (cause) {
      await teardown.run();
      throw cause;
    }
  }

  /** What the VM holds of this process. */
  get accounting(): Accounting {
    const each = this.#containers.map((name) => this.#served.accounting(name));
    const sum = (of: (accounting: Accounting) => number): number => each.reduce((total, one) => total + of(one), 0);
    return {
      mappings: sum(({ mappings }) => mappings),
      mappedBytes: each.reduce((total, { mappedBytes }) => total + mappedBytes, 0n),
      iommuPages: new Map(),
      pinnedPages: new Map(each.flatMap(({ pinnedPages }) => [...pinnedPages])),
      lockedPages: sum(({ lockedPages }) => lockedPages),
      heldPages: each[0]?.heldPages ?? 0,
    };
  }

  /** What there is of it in this process, as far as it can be left: pieces of guest memory, pins, descriptors. */
  get held(): Leftovers {
    return this.#served.leftovers;
  }

  /** Asks the guest to give a device back; settles when it has, and the server has taken back everything of it. @throws VM_NO_DEVICE (ENODEV), as `LinuxGuest.unplug`. */
  async unplug(name: string): Promise<void> {
    this.#device(name);
    await this.guest.unplug(name);
    await this.#served.disconnected(name);
  }

  /** Hot plug of a device that was unplugged. @throws VM_NO_DEVICE (ENODEV), as `LinuxGuest.plug`. */
  async plug(name: string): Promise<void> {
    await this.guest.plug(this.#device(name));
  }

  /** SIGKILL for QEMU; settles when the servers have taken back everything of the guest's. The devices are still there. */
  async kill(): Promise<void> {
    await this.guest.kill();
    await Promise.all([...this.#devices.keys()].map((name) => this.#served.disconnected(name)));
  }

  /** Ends QEMU, the servers, the devices. A second call does nothing. @returns what is left. @throws as `Teardown.run`, after all was tried. */
  async close(): Promise<Leftovers> {
    await this.#teardown.run();
    return this.held;
  }

  #device(name: string): QemuDevice {
    const device = this.#devices.get(name);
    if (device === undefined) throw vmErrors.NO_DEVICE({ device: name });
    return device;
  }
}

interface Parts {
  readonly mediator: Mediator;
  readonly served: ServedDevices;
  readonly devices: ReadonlyMap<string, QemuDevice>;
  readonly containers: readonly string[];
  readonly teardown: Teardown;
}

/** Every device hangs at a port of its own, so that it can be unplugged. */
const portOf = (device: string): string => `port-${device}`;

async function build(description: VmDescription, options: QemuVmOptions, teardown: Teardown): Promise<Parts> {
  const { sys = linuxSys(), clock = systemClock, log = silentLog } = options;
  const chosen = chooseDevices(description, options);
  const folder = mkdtempSync(join(tmpdir(), 'pinion-vm-'));
  teardown.defer(() => rmSync(folder, { recursive: true, force: true }));
  const pages = new ClientPages();
  const mediator = await createMediator({ memory: pages, log, clock, plugins: [type1(options.type1)] });
  teardown.defer(() => mediator.close());
  await registerDrivers(description, { chosen, registry: options.registry, mediator, log, teardown });
  const { memlock } = description;
  const vm = memlock === undefined ? {} : { lockLimit: Number(memlock >> 12n) };
  const served = new ServedDevices({ sys, mediator, pages, clock, log, vm });
  teardown.defer(() => served.close());
  const devices = new Map<string, QemuDevice>();
  for (const { config, container } of chosen) {
    const { name, uuid = '', parent = '', type } = config;
    const mdev = await mediator.parents.get(parent)?.create(type, uuid);
    if (mdev === undefined) throw vmErrors.NO_DEVICE({ device: name });
    await served.add({ name, vm: container, mdev });
    const path = join(folder, `${name}.sock`);
    served.listen(name, { path });
    devices.set(name, vfioUserDevice(path, { id: name, bus: portOf(name) }));
  }
  return { mediator, served, devices, containers: [...new Set(chosen.map(({ container }) => container))], teardown };
}

interface Chosen {
  readonly config: DeviceConfig;
  readonly container: string;
}

function chooseDevices({ containers }: VmDescription, { devices, registry }: QemuVmOptions): readonly Chosen[] {
  const all = containers.flatMap((container) =>
    container.devices.map((config): Chosen => ({ config, container: container.name })),
  );
  return devices.map((name) => {
    const chosen = all.find(({ config }) => config.name === name);
    if (chosen === undefined) throw vmErrors.NO_DEVICE({ device: name });
    const reason = refusalOf(chosen.config, registry);
    if (reason !== undefined) throw vmErrors.NOT_FOR_QEMU({ device: name, reason });
    return chosen;
  });
}

/** Drivers and parents of the chosen devices, and of no others. */
async function registerDrivers(
  { parents = [] }: VmDescription,
  about: { chosen: readonly Chosen[]; registry: Registry; mediator: Mediator; log: Log; teardown: Teardown },
): Promise<void> {
  const { chosen, registry, mediator, log, teardown } = about;
  const wanted = parents.filter(({ name }) => chosen.some(({ config }) => config.parent === name));
  const resources = { log, defer: (undo: () => void | Promise<void>) => teardown.defer(undo) };
  for (const driver of new Set(wanted.map((parent) => parent.driver))) {
    const kind = registry.kinds.get(driver);
    if (kind === undefined || !kind.mediated) throw vmErrors.NO_DEVICE({ device: driver });
    const own = wanted.filter((parent) => parent.driver === driver);
    const made = await kind.createDriver(own, resources);
    await mediator.use(definePlugin({ name: driver, core: '^0.1', register: (scope) => scope.vendorDriver(made) }));
  }
  for (const { name, driver } of wanted) mediator.registerParent(name, driver);
}
