import { type Clock, type IrqInfo, isErrno, type Log, PROT_RW } from '@pinion/core';
import { linuxSys, type Sys, UnixSocket } from '@pinion/sys';
import { Client, RemoteDevice, SocketTransport } from '@pinion/vfio-user';
import { vmErrors } from './errors.js';
import { EventQueue } from './event-queue.js';
import type { GuestMemory, MemoryRegion } from './guest-memory.js';
import type { PciInterrupt } from './pci-function.js';

/** Where a device in another process is found, and whose it becomes. `limit`: milliseconds that it has for an answer. */
export interface RemoteFunctionOptions {
  readonly name: string;
  readonly socketPath: string;
  readonly memory: GuestMemory;
  readonly clock: Clock;
  readonly log: Log;
  readonly sys?: Sys | undefined;
  readonly limit?: number | undefined;
}

/**
 * A device in another process as a guest program sees it: registers that take time, and interrupts that arrive. It is told of the
 * guest's memory like a VMM's vfio-user server, and reaches it by messages: an embedded guest's memory is the process's own.
 */
export class RemoteFunction {
  readonly name: string;
  readonly #client: Client;
  readonly #device: RemoteDevice;
  readonly #interrupts = new EventQueue<PciInterrupt>();

  private constructor(name: string, client: Client, device: RemoteDevice) {
    this.name = name;
    this.#client = client;
    this.#device = device;
  }

  /** Connects, tells the device of all memory, and asks what it is. A failure leaves no connection. @throws what sys and the client throw. */
  static async connect(options: RemoteFunctionOptions): Promise<RemoteFunction> {
    const { name, socketPath, memory, clock, log, limit, sys = linuxSys() } = options;
    const client = await Client.connect({
      transport: new SocketTransport(UnixSocket.connect(sys, socketPath)),
      clock,
      log,
      memory: {
        read: (address, bytes) => bytes.set(memory.read(address, bytes.length)),
        write: (address, bytes) => memory.write(address, bytes),
      },
      ...(limit === undefined ? {} : { limit }),
    });
    try {
      for (const { at, size } of memory.regions) await client.mapDma({ address: at, size, prot: PROT_RW });
      const remote = new RemoteFunction(name, client, await RemoteDevice.open(client, sys, name));
      await remote.#device.connectIrqs((index, vector) => remote.#interrupts.push({ index, vector }));
      return remote;
    } catch (cause) {
      client.close();
      throw cause;
    }
  }

  /** What the device says of its interrupts. */
  get irqs(): readonly IrqInfo[] {
    return this.#device.irqs;
  }

  /** Size of a region in bytes; 0 for one that is not there. */
  regionSize(index: number): number {
    return this.#device.regions.find((region) => region.index === index)?.size ?? 0;
  }

  /** `length` bytes of a region. @throws as `Client`: VFIOUSER_REFUSED with the device's errno, VFIOUSER_DISCONNECTED (ENODEV). */
  async read(region: number, offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.#device.readRegion(region, offset, bytes);
    return bytes;
  }

  /** @throws as `read`. */
  async write(region: number, offset: number, bytes: Uint8Array): Promise<void> {
    await this.#device.writeRegion(region, offset, bytes);
  }

  /** @throws as `read`. */
  async read32(region: number, offset: number): Promise<number> {
    return new DataView((await this.read(region, offset, 4)).buffer).getUint32(0, true);
  }

  /** @throws as `read`. */
  async write32(region: number, offset: number, value: number): Promise<void> {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    await this.write(region, offset, bytes);
  }

  /** The next interrupt. Rejects with VM_UNPLUGGED (ENODEV) when the function goes. */
  interrupt(): Promise<PciInterrupt> {
    return this.#interrupts.next();
  }

  /** The pin stays quiet after it has interrupted until this is called, as with VFIO. @throws as `read`. */
  async unmask(index: number): Promise<void> {
    await this.#device.unmask(index);
  }

  /** @throws as `read`. */
  async reset(): Promise<void> {
    await this.#device.reset();
  }

  /** Memory was plugged. Called by the VM. @throws as `read`. */
  async map({ at, size }: MemoryRegion): Promise<void> {
    await this.#client.mapDma({ address: at, size, prot: PROT_RW });
  }

  /** Memory goes: when this settles, the device has given it back, or its process has gone. Called by the VM. @throws as `read`. */
  async unmap({ at, size }: MemoryRegion): Promise<void> {
    try {
      await this.#client.unmapDma({ address: at, size });
    } catch (cause) {
      if (!isErrno(cause, 'ENODEV')) throw cause;
    }
  }

  /** The connection ends, and with it the device's part of the VM. Called by the VM. */
  disconnect(reason: unknown = vmErrors.UNPLUGGED({ device: this.name })): void {
    this.#interrupts.end(reason);
    this.#device.close();
    this.#client.close();
  }
}
