import assert from 'node:assert/strict';
import { type Container, createMediator, type DeviceFile, EXTENSION, type Mdev, PROT_RW } from '@pinion/core';
import { type NamespaceStore, type NvmePluginOptions, nvme } from '@pinion/example-nvme';
import { PciSoftware } from '@pinion/pci';
import { FakeClock, SimulatedOs, type SimulatedTask } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { type GuestRam, LinuxDriver } from './linux-driver.js';

/** Where the guest's memory begins, and how much there is. */
export const RAM = 0x100_0000n;
export const RAM_SIZE = 0x80_0000n;

export interface Rig {
  readonly os: SimulatedOs;
  readonly task: SimulatedTask;
  readonly clock: FakeClock;
  readonly container: Container;
  readonly mdev: Mdev;
  readonly file: DeviceFile;
  readonly pci: PciSoftware;
  readonly ram: GuestRam;
  readonly linux: LinuxDriver;
  readonly irqs: string[];
  readonly warned: string[];
  /** Turns of the event loop and of the clock until everything has settled. */
  settle(): Promise<void>;
  mapRam(): void;
}

/** A disk behind type1 with 8 MiB of guest memory. Ends with nothing pinned, locked or mapped. */
export async function withDisk(options: NvmePluginOptions, run: (rig: Rig) => void | Promise<void>): Promise<void> {
  const os = new SimulatedOs();
  const clock = new FakeClock();
  const task = os.spawn({ name: 'vmm' });
  const warned: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warned.push(message) };
  const mediator = await createMediator({ memory: os.host, plugins: [type1(), nvme(options)], clock, log });
  const mdev = await mediator.registerParent('slot', 'nvme').create('disk', '0b5cbd34-6d51-44b3-8b36-7f6a1c2f1f04');
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(mdev.uuid);
  const vaddr = task.memory.mmap({ size: RAM_SIZE });
  const mapRam = (): void => void container.mapDma({ iova: RAM, size: RAM_SIZE, vaddr, prot: PROT_RW });
  mapRam();
  const ram: GuestRam = {
    first: RAM,
    write: (at, bytes) => task.memory.poke(vaddr + at - RAM, bytes),
    read: (at, length) => task.memory.peek(vaddr + at - RAM, length).slice(),
  };
  const irqs: string[] = [];
  mdev.device.ops.setIrqSink?.((index, vector) => irqs.push(`${index}:${vector}`));
  const pci = new PciSoftware(file);
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn += 1) {
      clock.advance(0);
      await new Promise(setImmediate);
    }
  };
  const linux = new LinuxDriver(pci, ram);
  await run({ os, task, clock, container, mdev, file, pci, ram, linux, irqs, warned, settle, mapRam });
  await mediator.close();
  assert.deepEqual([os.host.pinnedPages, task.memory.lockedPages], [0, 0]);
}

/** A store whose reads and writes wait at a gate until somebody opens it. */
export class GatedStore implements NamespaceStore {
  readonly readOnly = false;
  readonly #inner: NamespaceStore;
  #waiting: (() => void)[] = [];
  closed = false;

  constructor(inner: NamespaceStore) {
    this.#inner = inner;
  }

  get size(): number {
    return this.#inner.size;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  open(): void {
    for (const go of this.#waiting.splice(0)) go();
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    await this.#gate();
    await this.#inner.read(offset, into);
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    await this.#gate();
    await this.#inner.write(offset, from);
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#gate();
    await this.#inner.zero(offset, length);
  }

  flush(): Promise<void> {
    return this.#gate();
  }

  close(): void {
    this.closed = true;
  }

  #gate(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
