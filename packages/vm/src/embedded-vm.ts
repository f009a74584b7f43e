import {
  type Device,
  type DeviceFile,
  type Mdev,
  Mutex,
  type PinionError,
  type RunningGuest,
  Teardown,
} from '@pinion/core';
import type { Sys } from '@pinion/sys';
import { type Accounting, accountingOf } from './accounting.js';
import type { VmDescription } from './description.js';
import type { DeviceConfig, DeviceKind } from './device-kind.js';
import type { DeviceSlot } from './device-slot.js';
import { vmErrors } from './errors.js';
import { GuestMachine, type PciBus } from './guest-machine.js';
import { GuestMemory, type MemoryRegion, type PluggedRegion, type RamSource } from './guest-memory.js';
import type { Host } from './host.js';
import { RemoteFunction } from './remote-function.js';
import { VmTask } from './task.js';
import { VmContainer } from './vm-container.js';

/** A program that a guest runs. It reaches the world through `machine` only. */
export type GuestProgram<T> = (machine: GuestMachine) => Promise<T>;

/** Parts of a VM that an emulator brings along. */
export interface VmParts {
  /** Where guest memory comes from; default: the host makes it. */
  readonly ram?: RamSource;
  /** Where PCI functions appear besides the guest machine. */
  readonly bus?: PciBus;
}

interface Slot extends DeviceSlot {
  readonly kind: DeviceKind;
  readonly container: VmContainer;
  plugged: boolean;
  file: DeviceFile | undefined;
  /** Takes the device from the guest's view; the argument is what waiting programs are told. */
  disconnect: ((reason: unknown) => void) | undefined;
}

/**
 * A VM of the embedded hypervisor: owns guest memory and maps it into its containers, connects devices with what guest programs see,
 * plugs and unplugs both while they run. Bytes at a device's address are the guest-physical ones: there is no virtual IOMMU.
 */
export class EmbeddedVm implements RunningGuest {
  readonly name: string;
  readonly host: Host;
  readonly memory: GuestMemory;
  readonly task: VmTask;
  readonly machine: GuestMachine;
  readonly done: Promise<void>;
  readonly #containers: VmContainer[] = [];
  readonly #slots: Slot[] = [];
  readonly #mdevs: Mdev[] = [];
  readonly #remotes = new Map<string, RemoteFunction>();
  readonly #settleDone: () => void;
  /** Devices and mappings change one after the other. */
  readonly #changes = new Mutex();
  readonly #untrack: () => void;
  #state: 'running' | 'stopped' | 'killed' = 'running';

  private constructor(host: Host, description: VmDescription, { ram, bus }: VmParts) {
    const { name, memlock } = description;
    this.name = name;
    this.host = host;
    this.memory = new GuestMemory(host.memory, name, ram);
    this.task = new VmTask(name, this.memory, memlock === undefined ? {} : { lockLimit: Number(memlock >> 12n) });
    this.machine = new GuestMachine(name, this.memory, { clock: host.clock, ...(bus === undefined ? {} : { bus }) });
    let settle = (): void => {};
    this.done = new Promise((resolve) => {
      settle = resolve;
    });
    this.#settleDone = settle;
    this.#untrack = host.track(() => this.stop());
  }

  /**
   * Builds the VM: memory, containers, mediated devices. `plug`: names of the devices that are plugged in at once, in this order;
   * default: all, in the description's. `ram`, `bus`: parts that somebody else brings. A failure leaves nothing behind.
   * @throws VM_NO_DEVICE (ENODEV), what core, the backend and the drivers throw.
   */
  static async start(
    host: Host,
    description: VmDescription,
    { plug, ...parts }: VmParts & { readonly plug?: readonly string[] } = {},
  ): Promise<EmbeddedVm> {
    const vm = new EmbeddedVm(host, description, parts);
    try {
      for (const region of description.memory) vm.memory.plug(region);
      for (const config of description.containers) await vm.#addContainer(config);
      for (const name of plug ?? vm.#slots.map(({ config }) => config.name)) await vm.plug(name);
    } catch (cause) {
      await vm.stop().catch((failure: unknown) => host.log.warn(`VM ${vm.name}: undoing its start failed`, failure));
      throw cause;
    }
    return vm;
  }

  get containers(): readonly VmContainer[] {
    return this.#containers;
  }

  /** Every device of the description. */
  get slots(): readonly DeviceSlot[] {
    return this.#slots;
  }

  get accounting(): Accounting {
    return accountingOf(this);
  }

  /** Runs a guest program. @throws VM_KILLED, VM_STOPPED (ECANCELED) if the VM ended meanwhile, whatever the program met; else what it throws. */
  async run<T>(program: GuestProgram<T>): Promise<T> {
    this.#checkRunning('start of a program');
    try {
      return await program(this.machine);
    } catch (cause) {
      throw this.#state === 'running' ? cause : this.#endError('a program', cause);
    }
  }

  /** Hot plug. A plugged device stays as it is. @throws VM_NO_DEVICE (ENODEV), what core, the backend and the driver throw; nothing changed then. */
  async plug(name: string): Promise<void> {
    await this.#change(`plug of ${name}`, () => this.#plug(this.#find(name)));
  }

  /** Hot unplug: guest programs that wait for the device get VM_UNPLUGGED. An unplugged device stays as it is. @throws VM_NO_DEVICE, and what its close throws. */
  async unplug(name: string): Promise<void> {
    const reason = vmErrors.UNPLUGGED({ device: name });
    await this.#change(`unplug of ${name}`, () => this.#unplug(this.#find(name), reason));
  }

  /**
   * Connects to a device that another process serves at `socketPath` (vfio-user): it learns of the VM's memory, also of what is
   * plugged and unplugged later, and goes with the VM. @throws VM_DEVICE_EXISTS (EEXIST), what the connection throws; nothing is left then.
   */
  async plugRemote(
    name: string,
    socketPath: string,
    options: { sys?: Sys; limit?: number } = {},
  ): Promise<RemoteFunction> {
    return this.#change(`plug of ${name}`, async () => {
      if (this.#remotes.has(name)) throw vmErrors.DEVICE_EXISTS({ device: name });
      const { clock, log } = this.host;
      const remote = await RemoteFunction.connect({ name, socketPath, memory: this.memory, clock, log, ...options });
      this.#remotes.set(name, remote);
      return remote;
    });
  }

  /** Ends the connection to a device of another process; one that is not there stays so. */
  async unplugRemote(name: string): Promise<void> {
    await this.#change(`unplug of ${name}`, async () => {
      this.#remotes.get(name)?.disconnect();
      this.#remotes.delete(name);
    });
  }

  /** Resets a plugged device, as a VMM does when its guest reboots or wakes. @throws VM_NO_DEVICE (ENODEV), what core and the driver throw. */
  async reset(name: string): Promise<void> {
    await this.#change(`reset of ${name}`, async () => {
      const { file, device } = this.#find(name);
      if (file === undefined) throw vmErrors.NO_DEVICE({ device: name });
      await device.reset();
    });
  }

  /** Adds memory to the running VM, for the guest and for every container. @throws as `GuestMemory.plug` and the backend; nothing changed then. */
  async plugMemory(region: MemoryRegion): Promise<void> {
    await this.#change(`plug of memory ${region.name}`, async () => {
      const plugged = this.memory.plug(region);
      try {
        await this.#map(plugged);
      } catch (cause) {
        this.memory.unplug(region.name);
        throw cause;
      }
    });
  }

  /** Takes memory from devices, then from the guest. @throws VM_NO_REGION (ENOENT), and as `unmapMemory`: the guest keeps it then. */
  async unplugMemory(name: string): Promise<void> {
    await this.#change(`unplug of memory ${name}`, async () => {
      await this.#unmap(this.#findRegion(name));
      this.memory.unplug(name);
    });
  }

  /** Makes a region that was unmapped known to every container again. @throws VM_NO_REGION (ENOENT), what the backend throws. */
  async mapMemory(name: string): Promise<void> {
    await this.#change(`map of memory ${name}`, () => this.#map(this.#findRegion(name)));
  }

  /**
   * Takes a region from every container, while the guest keeps it. Waits until no device holds or touches it.
   * @returns bytes that were mapped. @throws VM_NO_REGION (ENOENT), what the backend throws (a driver that keeps a page).
   */
  async unmapMemory(name: string): Promise<bigint> {
    return this.#change(`unmap of memory ${name}`, () => this.#unmap(this.#findRegion(name)));
  }

  /** Orderly end: unplugs everything, newest first, then lets the process exit. A second call waits for the first. */
  async stop(): Promise<void> {
    if (this.#state !== 'running') return this.done;
    this.#state = 'stopped';
    const teardown = new Teardown();
    teardown.defer(() => this.task.exit());
    await this.#end(teardown, this.#endError('waiting'));
  }

  /** The process dies: its memory is gone before its files close, and no program or driver of the guest gets to clean up. */
  async kill(): Promise<void> {
    if (this.#state !== 'running') return this.done;
    this.#state = 'killed';
    this.task.exit();
    await this.#end(new Teardown(), this.#endError('waiting'));
  }

  async #end(teardown: Teardown, reason: unknown): Promise<void> {
    for (const slot of this.#slots) this.#disconnect(slot, reason);
    for (const remote of this.#remotes.values()) remote.disconnect(reason);
    this.#remotes.clear();
    for (const mdev of this.#mdevs) teardown.defer(() => mdev.remove());
    for (const { container } of this.#containers) teardown.defer(() => container.close());
    for (const slot of this.#slots) teardown.defer(() => this.#unplug(slot, reason));
    try {
      await this.#changes.run(() => teardown.run());
    } finally {
      this.#untrack();
      this.#settleDone();
    }
  }

  async #addContainer({ name, iommu, devices }: VmDescription['containers'][number]): Promise<void> {
    const { host, task } = this;
    const iommuType = host.registry.iommuTypes.get(iommu) ?? 0;
    const container = new VmContainer(name, host.mediator.openContainer(task), { iommuType, task });
    this.#containers.push(container);
    for (const region of this.memory.regions) container.map(region);
    for (const config of devices) {
      const kind = host.registry.kinds.get(config.driver);
      if (kind === undefined) throw vmErrors.NO_DEVICE({ device: config.name });
      const device = await this.#createDevice(config);
      this.#slots.push({ config, kind, device, container, plugged: false, file: undefined, disconnect: undefined });
    }
  }

  async #createDevice(config: DeviceConfig): Promise<Device> {
    const bound = this.host.findFunction(config.name);
    if (bound !== undefined) return bound;
    const parent = this.host.mediator.parents.get(config.parent ?? '');
    if (parent === undefined || config.uuid === undefined) throw vmErrors.NO_DEVICE({ device: config.name });
    const mdev = await parent.create(config.type, config.uuid);
    this.#mdevs.push(mdev);
    return mdev.device;
  }

  async #plug(slot: Slot): Promise<void> {
    if (slot.plugged) return;
    const { kind, config, device, container } = slot;
    if (kind.mediated) kind.configure?.(config, device.ops, this.machine);
    const file = await container.openDevice(device.group, device.name);
    try {
      slot.disconnect = kind.connect(config, file, this.machine);
    } catch (cause) {
      await container.closeDevice(device.group, file);
      throw cause;
    }
    slot.file = file;
    slot.plugged = true;
  }

  async #unplug(slot: Slot, reason: unknown): Promise<void> {
    this.#disconnect(slot, reason);
    const { file, container, device } = slot;
    if (file === undefined) return;
    slot.file = undefined;
    await container.closeDevice(device.group, file);
  }

  #disconnect(slot: Slot, reason: unknown): void {
    slot.plugged = false;
    slot.disconnect?.(reason);
    slot.disconnect = undefined;
  }

  async #map(region: PluggedRegion): Promise<void> {
    const mapped: VmContainer[] = [];
    const told: RemoteFunction[] = [];
    try {
      for (const container of this.#containers) {
        container.map(region);
        mapped.push(container);
      }
      for (const remote of this.#remotes.values()) {
        await remote.map(region);
        told.push(remote);
      }
    } catch (cause) {
      for (const remote of told) await remote.unmap(region);
      for (const container of mapped) await container.unmap(region.name);
      throw cause;
    }
  }

  async #unmap(region: PluggedRegion): Promise<bigint> {
    let bytes = 0n;
    for (const remote of this.#remotes.values()) await remote.unmap(region);
    for (const container of this.#containers) bytes += await container.unmap(region.name);
    return bytes;
  }

  #change<T>(what: string, action: () => Promise<T>): Promise<T> {
    return this.#changes.run(async () => {
      this.#checkRunning(what);
      return action();
    });
  }

  #find(name: string): Slot {
    const slot = this.#slots.find(({ config }) => config.name === name);
    if (slot === undefined) throw vmErrors.NO_DEVICE({ device: name });
    return slot;
  }

  #findRegion(name: string): PluggedRegion {
    const region = this.memory.regions.find((each) => each.name === name);
    if (region === undefined) throw vmErrors.NO_REGION({ region: name });
    return region;
  }

  #checkRunning(what: string): void {
    if (this.#state !== 'running') throw this.#endError(what);
  }

  #endError(what: string, cause?: unknown): PinionError {
    const details = { guest: this.name, what };
    return this.#state === 'killed' ? vmErrors.KILLED(details, cause) : vmErrors.STOPPED(details, cause);
  }
}
