import type { AddressSpace, Hypervisor, RunningGuest, Task } from '@pinion/core';
import { EmbeddedVm, type Host, type PciFunction, type VmDescription } from '@pinion/vm';
import type { CpuFactory } from './cpu.js';
import { v86Errors } from './errors.js';
import { aroundDisplay, ramBytesFor } from './guest-ram.js';
import { type GuestEnd, X86Machine } from './machine.js';
import type { PciRoot } from './pci-root.js';
import { selfTest } from './self-test.js';
import type { SerialPort } from './serial-port.js';
import { createV86Cpu } from './v86-adapter.js';

/** Guests are x86 programs in this process; what they can have is what a PCI bus can have. */
export const v86: Hypervisor = Object.freeze({ name: 'v86', deviceApis: Object.freeze(['vfio-pci']) });

export interface V86Options {
  /** A multiboot kernel: an ELF file. */
  readonly image: Uint8Array;
  readonly commandLine?: string;
  /** Names of the devices that are plugged in at once, in this order; default: all, in the description's. */
  readonly plug?: readonly string[];
  /** Who makes the CPU; default: the emulator v86. */
  readonly createCpu?: CpuFactory;
}

/**
 * A VM whose guest is machine code. The CPU's RAM is what the containers map and the devices pin; containers, devices, plug and unplug,
 * accounting, stop and kill are the embedded VM's (`vm`). Devices' addresses are guest-physical ones: there is no virtual IOMMU.
 */
export class V86Vm implements RunningGuest {
  readonly vm: EmbeddedVm;
  readonly #machine: X86Machine;

  private constructor(vm: EmbeddedVm, machine: X86Machine) {
    this.vm = vm;
    this.#machine = machine;
  }

  /**
   * Builds the VM; the CPU stands before the kernel's first instruction. A failure leaves nothing behind.
   * @throws V86_NOT_A_PC_DEVICE, V86_BAD_MEMORY, V86_BAD_IMAGE (EINVAL), V86_SELF_TEST (EIO), V86_NO_SLOT (ENOSPC), what the emulator's
   * adapter throws, and as `EmbeddedVm.start`.
   */
  static async start(host: Host, description: VmDescription, options: V86Options): Promise<V86Vm> {
    checkDevices(host, description);
    const memory = aroundDisplay(description.memory);
    const ramBytes = ramBytesFor(description.memory);
    const { image, commandLine = '', createCpu = createV86Cpu, plug } = options;
    await selfTest(createCpu, host.log);
    const { name } = description;
    const machine = await X86Machine.create({ name, ramBytes, image, commandLine, log: host.log }, createCpu);
    const vm = await EmbeddedVm.start(
      host,
      { ...description, memory },
      {
        ram: (region) => machine.ram.adopt(host.memory, region),
        bus: (_slot: string, pci: PciFunction) => machine.pci.plug(pci),
        ...(plug === undefined ? {} : { plug }),
      },
    );
    // Whoever ends the VM - also its host when it closes - ends a guest that sleeps.
    void vm.done.then(() => machine.stop());
    return new V86Vm(vm, machine);
  }

  get name(): string {
    return this.vm.name;
  }

  get task(): Task {
    return this.vm.task;
  }

  get memory(): AddressSpace {
    return this.vm.memory;
  }

  get done(): Promise<void> {
    return this.vm.done;
  }

  /** What the guest prints. */
  get serial(): SerialPort {
    return this.#machine.serial;
  }

  get pci(): PciRoot {
    return this.#machine.pci;
  }

  /**
   * Lets the guest run until it ends. @throws VM_KILLED, VM_STOPPED (ECANCELED) if the VM ended meanwhile, V86_CPU_FAULT, V86_MEMORY_MOVED
   * (EFAULT), V86_RUNAWAY (ETIMEDOUT), V86_RUNNING (EBUSY) the second time.
   */
  run(): Promise<GuestEnd> {
    return this.vm.run(() => this.#machine.run());
  }

  /** Orderly end, as `EmbeddedVm.stop`. */
  async stop(): Promise<void> {
    this.#machine.stop();
    await this.vm.stop();
  }

  /** The process dies: the CPU executes nothing more, memory is gone before the devices' files close. */
  async kill(): Promise<void> {
    this.#machine.stop();
    await this.vm.kill();
  }
}

/** @throws V86_NOT_A_PC_DEVICE (EINVAL) for channel devices and crypto queues. */
function checkDevices({ registry }: Host, { containers }: VmDescription): void {
  const devices = containers.flatMap((container) => container.devices);
  const odd = devices.filter(({ driver }) => !v86.deviceApis.includes(registry.kinds.get(driver)?.deviceApi ?? ''));
  if (odd.length > 0) {
    const names = odd.map(({ name, driver }) => `${name} (${driver})`);
    throw v86Errors.NOT_A_PC_DEVICE({ devices: names, hypervisor: v86.name });
  }
}
