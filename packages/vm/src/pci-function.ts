import type { DeviceFile, RegionInfo } from '@pinion/core';
import { vmErrors } from './errors.js';
import { EventQueue } from './event-queue.js';

/** Which interrupt came: VFIO's index and vector. */
export interface PciInterrupt {
  readonly index: number;
  readonly vector: number;
}

/**
 * A PCI function as its guest sees it: registers in regions, and interrupts that arrive. Every access is trapped and goes to
 * the device as a region access.
 */
export class PciFunction {
  readonly name: string;
  readonly #file: DeviceFile;
  readonly #interrupts = new EventQueue<PciInterrupt>();

  constructor(name: string, file: DeviceFile) {
    this.name = name;
    this.#file = file;
    file.device.ops.setIrqSink?.((index, vector) => this.#interrupts.push({ index, vector }));
  }

  get regions(): readonly RegionInfo[] {
    return this.#file.device.ops.regions ?? [];
  }

  /** @throws CORE_FILE_CLOSED (EBADF) once the function was unplugged, CORE_NO_REGION, CORE_OUT_OF_REGION (EINVAL). */
  read(region: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#file.readRegion(region, offset, bytes);
    return bytes;
  }

  write(region: number, offset: number, bytes: Uint8Array): void {
    this.#file.writeRegion(region, offset, bytes);
  }

  read32(region: number, offset: number): number {
    return new DataView(this.read(region, offset, 4).buffer).getUint32(0, true);
  }

  write32(region: number, offset: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    this.write(region, offset, bytes);
  }

  write64(region: number, offset: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.write(region, offset, bytes);
  }

  /** The next interrupt. Rejects with VM_UNPLUGGED (ENODEV) when the function goes. */
  interrupt(): Promise<PciInterrupt> {
    return this.#interrupts.next();
  }

  /** Hands every interrupt to `receive` from now on, first of all the pin's if it is up; `interrupt()` gets none any more. */
  deliverTo(receive: (interrupt: PciInterrupt) => void): void {
    this.#file.device.ops.setIrqSink?.((index, vector) => receive({ index, vector }));
  }

  /** Interrupts that nobody took are forgotten. */
  clearInterrupts(): void {
    this.#interrupts.clear();
  }

  /** The function is gone: who waits for an interrupt is told so. Called by the hypervisor. */
  disconnect(reason: unknown = vmErrors.UNPLUGGED({ device: this.name })): void {
    this.#file.device.ops.setIrqSink?.(undefined);
    this.#interrupts.end(reason);
  }
}
