import { type Log, silentLog } from '@pinion/core';
import type { CpuFactory, CpuTraps, X86Cpu } from './cpu.js';
import { v86Errors } from './errors.js';
import { GuestRam } from './guest-ram.js';
import { checkImage } from './multiboot.js';
import { PciRoot } from './pci-root.js';
import { SerialPort } from './serial-port.js';

/** How a guest's program ended. */
export type GuestEnd =
  | { readonly kind: 'exit'; readonly code: number }
  /** HLT with interrupts off: nothing will ever happen in it again. */
  | { readonly kind: 'halt' };

export interface MachineOptions {
  /** Who it belongs to, for messages. */
  readonly name: string;
  readonly ramBytes: number;
  /** A multiboot kernel: an ELF file. */
  readonly image: Uint8Array;
  readonly commandLine?: string;
  readonly log?: Log;
}

/** The first serial port, and the port by which a guest ends the machine (QEMU's isa-debug-exit, at its customary place). */
const PORT = { SERIAL: 0x3f8, SERIAL_LAST: 0x3ff, EXIT: 0xf4, EXIT_LAST: 0xf7 } as const;

const SERIAL_LINE = 4;

const littleEndian = (value: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes.subarray(0, size);
};
const unsigned = (bytes: Uint8Array): number => bytes.reduceRight((value, byte) => value * 256 + byte, 0);

/** The event loop turns once: devices, sockets and files go on. */
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/**
 * A small PC: an x86 CPU with RAM and interrupt controllers, a serial port as console, a PCI bus, and a port to end with. It has no
 * firmware (the kernel is loaded as by a multiboot loader) and no timer: how much time passes for the guest depends only on what it
 * executes, so that every run is the same.
 */
export class X86Machine {
  readonly serial = new SerialPort((up) => this.#setIrq(SERIAL_LINE, up));
  readonly ram: GuestRam;
  readonly #name: string;
  readonly #cpu: X86Cpu;
  readonly #pci: PciRoot;
  #exit: { readonly code: number } | undefined;
  #state: 'made' | 'running' | 'ended' | 'stopped' = 'made';
  #wake: (() => void) | undefined;
  #buffer: ArrayBuffer;

  private constructor(name: string, cpu: X86Cpu, pci: PciRoot) {
    this.#name = name;
    this.#cpu = cpu;
    this.#pci = pci;
    this.ram = new GuestRam(cpu);
    this.#buffer = cpu.ram.buffer;
  }

  /** @throws V86_BAD_IMAGE (EINVAL) before anything is made, and what `createCpu` throws. */
  static async create(options: MachineOptions, createCpu: CpuFactory): Promise<X86Machine> {
    const { name, ramBytes, image, commandLine = '', log = silentLog } = options;
    checkImage(image, ramBytes);
    const pins = {
      setIrq: (line: number, up: boolean) => machine.#setIrq(line, up),
      deliverMessage: (vector: number) => machine.#deliverMessage(vector),
    };
    const pci = new PciRoot(pins, log);
    const traps: CpuTraps = {
      load: (address, size) => loaded(pci.load('memory', address, size)),
      store: (address, bytes) => pci.store('memory', address, bytes),
      portIn: (port, size) => machine.#portIn(port, size),
      portOut: (port, size, value) => machine.#portOut(port, littleEndian(value, size)),
    };
    const warn = (message: string): void => log.warn(`${name}: emulator: ${message}`);
    const machine = new X86Machine(name, await createCpu({ ramBytes, image, commandLine, traps, warn }), pci);
    return machine;
  }

  get pci(): PciRoot {
    return this.#pci;
  }

  /**
   * Lets the CPU run until the guest ends. Between slices of some milliseconds, and while it waits for an interrupt, the event loop has its
   * turn. @throws V86_STOPPED (ECANCELED), V86_CPU_FAULT, V86_MEMORY_MOVED (EFAULT), V86_RUNAWAY (ETIMEDOUT), V86_RUNNING (EBUSY) the second time.
   */
  async run(): Promise<GuestEnd> {
    if (this.#state === 'stopped') throw v86Errors.STOPPED({ guest: this.#name });
    if (this.#state !== 'made') throw v86Errors.RUNNING({ guest: this.#name });
    this.#state = 'running';
    try {
      return await this.#execute();
    } finally {
      if (this.#state === 'running') this.#state = 'ended';
    }
  }

  /** The CPU executes nothing any more. */
  stop(): void {
    this.#state = 'stopped';
    this.#wakeUp();
  }

  async #execute(): Promise<GuestEnd> {
    for (;;) {
      if (this.#state !== 'running') throw v86Errors.STOPPED({ guest: this.#name });
      const state = this.#cpu.step();
      this.#checkMemory();
      if (this.#exit !== undefined) return { kind: 'exit', code: this.#exit.code };
      if (state === 'dead') return { kind: 'halt' };
      if (state === 'halted') await this.#interrupt();
      else await turn();
    }
  }

  /** Until a device pulls at the CPU, or it is stopped. */
  #interrupt(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  #setIrq(line: number, up: boolean): void {
    this.#cpu.setIrq(line, up);
    this.#wakeUp();
  }

  #deliverMessage(vector: number): void {
    this.#cpu.deliverMessage(vector);
    this.#wakeUp();
  }

  /** Views of pinned pages must stay what they are: if the emulator moved RAM, they are not, and nothing can be trusted any more. */
  #checkMemory(): void {
    const { buffer } = this.#cpu.ram;
    if (buffer === this.#buffer || this.#state === 'stopped') return;
    const from = this.#buffer.byteLength;
    this.#state = 'stopped';
    throw v86Errors.MEMORY_MOVED({ from, to: buffer.byteLength });
  }

  #portIn(port: number, size: 1 | 2 | 4): number | undefined {
    if (this.#pci.ownsPort(port)) return unsigned(this.#pci.portIn(port, size));
    if (port >= PORT.SERIAL && port <= PORT.SERIAL_LAST) return this.serial.read(port - PORT.SERIAL);
    return loaded(this.#pci.load('io', port, size));
  }

  #portOut(port: number, bytes: Uint8Array): boolean {
    if (this.#pci.ownsPort(port)) this.#pci.portOut(port, bytes);
    else if (port >= PORT.SERIAL && port <= PORT.SERIAL_LAST) this.serial.write(port - PORT.SERIAL, bytes[0] ?? 0);
    else if (port >= PORT.EXIT && port <= PORT.EXIT_LAST) this.#exit ??= { code: unsigned(bytes) };
    else return this.#pci.store('io', port, bytes);
    return true;
  }
}

const loaded = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined ? undefined : unsigned(bytes);
