import { type DiskImage, openFileImage } from '@pinion/ccw';
import {
  type DeviceOps,
  type IrqInfo,
  type IrqSink,
  type Log,
  PinionError,
  type RegionInfo,
  silentLog,
} from '@pinion/core';
import type { PassthroughFunction } from '@pinion/iommu';
import { dwordBar, type Identity, msi, PciDevice } from '@pinion/pci';
import {
  DISK,
  DISK_BAR_SIZE,
  DISK_BLOCK,
  DISK_FROM_MEMORY,
  DISK_MAGIC,
  DISK_MAX_BLOCKS,
  DISK_PCI_ID,
  DISK_STATUS,
  DISK_TO_MEMORY,
} from './disk-registers.js';

/** Bytes that go through the disk's own buffer at a time. */
const BUFFER = 64 * 1024;
const MASS_STORAGE_OTHER = 0x018000;
const IDENTITY: Identity = {
  vendor: DISK_PCI_ID & 0xffff,
  device: DISK_PCI_ID >>> 16,
  classCode: MASS_STORAGE_OTHER,
  interruptPin: 'A',
};

/** Registers a guest may write. */
const WRITABLE: ReadonlySet<number> = new Set([
  DISK.LBA,
  DISK.LBA + 4,
  DISK.COUNT,
  DISK.DIRECTION,
  DISK.IOVA,
  DISK.IOVA + 4,
  DISK.INTERRUPT_ENABLE,
]);

interface Transfer {
  readonly position: number;
  readonly iova: bigint;
  readonly length: number;
  readonly fromMemory: boolean;
}

/** A transfer in flight. After `cancelled` it makes no more DMA; `done` settles when the image is at rest, too. */
interface Job {
  cancelled: boolean;
  done: Promise<void>;
}

/**
 * A disk that is passed through whole: a PCI function whose every DMA goes through the domain of its IOMMU group. It knows no
 * guest and no pins; what it may touch is what its container mapped. Transfers run beside the guest and end with an interrupt.
 */
export class PassthroughDisk implements DeviceOps {
  readonly regions: readonly RegionInfo[];
  readonly irqs: readonly IrqInfo[];
  readonly #pci: PciDevice;
  readonly #ops: ReturnType<PciDevice['ops']>;
  readonly #function: PassthroughFunction;
  readonly #openImage: () => Promise<DiskImage>;
  readonly #log: Log;
  readonly #registers = new DataView(new ArrayBuffer(DISK_BAR_SIZE));
  #image: DiskImage | undefined;
  #job: Job | undefined;

  /** `openImage` is called whenever the device is opened; the image is closed with it. `log` hears of a listener that throws. */
  constructor(pci: PassthroughFunction, openImage: () => Promise<DiskImage>, log: Log = silentLog) {
    this.#function = pci;
    this.#openImage = openImage;
    this.#log = log;
    const registers = dwordBar({
      read: (offset) => this.#get(offset),
      write: (offset, value) => this.#writeRegister(offset, value),
    });
    this.#pci = new PciDevice({
      name: pci.name,
      log,
      identity: IDENTITY,
      bars: [{ index: 0, kind: 'memory32', size: DISK_BAR_SIZE, handler: registers }],
      capabilities: [msi()],
      reset: () => this.#reset(),
      commandChanged: () => this.#followBusMaster(),
    });
    this.#ops = this.#pci.ops();
    this.regions = this.#ops.regions ?? [];
    this.irqs = this.#ops.irqs ?? [];
    this.#function.busMaster = false;
  }

  /** A disk on a raw image file. */
  static onFile(pci: PassthroughFunction, path: string, log?: Log): PassthroughDisk {
    return new PassthroughDisk(pci, () => openFileImage(path), log);
  }

  get busy(): boolean {
    return this.#job !== undefined;
  }

  async open(): Promise<void> {
    this.#image = await this.#openImage();
    this.#powerOn(this.#image);
  }

  async close(): Promise<void> {
    await this.#ops.close();
    this.#followBusMaster();
    await this.#image?.close();
    this.#image = undefined;
  }

  async reset(): Promise<void> {
    await this.#ops.reset();
  }

  request(count: number): void {
    this.#ops.request?.(count);
  }

  setIrqSink(sink: IrqSink | undefined): void {
    this.#ops.setIrqSink(sink);
  }

  readRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#ops.readRegion(index, offset, bytes);
  }

  /** Registers are written whole: 4 or 8 aligned bytes. Anything else in BAR0, and what is read-only, is ignored. */
  writeRegion(index: number, offset: number, bytes: Uint8Array): void {
    this.#ops.writeRegion(index, offset, bytes);
  }

  #writeRegister(offset: number, value: number): void {
    if (offset === DISK.DOORBELL) this.#start();
    else if (offset === DISK.INTERRUPT) this.#acknowledge(value);
    else if (WRITABLE.has(offset) && !this.busy) this.#set(offset, value);
  }

  #acknowledge(value: number): void {
    this.#set(DISK.INTERRUPT, this.#get(DISK.INTERRUPT) & ~value);
    if (this.#get(DISK.INTERRUPT) === 0) this.#pci.setIntx(false);
  }

  /** What the IOMMU lets through goes by the command register. */
  #followBusMaster(): void {
    this.#function.busMaster = this.#pci.busMaster;
  }

  async #reset(): Promise<void> {
    await this.#stop();
    this.#followBusMaster();
    if (this.#image !== undefined) this.#powerOn(this.#image);
  }

  #powerOn(image: DiskImage): void {
    new Uint8Array(this.#registers.buffer).fill(0);
    this.#set(DISK.MAGIC, DISK_MAGIC);
    this.#registers.setBigUint64(DISK.CAPACITY, BigInt(Math.floor(image.size / DISK_BLOCK)), true);
  }

  #start(): void {
    const image = this.#image;
    if (image === undefined || this.busy) return;
    const job: Job = { cancelled: false, done: Promise.resolve() };
    this.#job = job;
    this.#set(DISK.STATUS, DISK_STATUS.BUSY);
    job.done = this.#run(image, job).then((status) => this.#finish(job, status));
  }

  /** @returns the status to show. */
  async #run(image: DiskImage, job: Job): Promise<number> {
    const transfer = this.#decode();
    if (transfer === undefined) return DISK_STATUS.BAD_COMMAND;
    try {
      for (let done = 0; done < transfer.length && !job.cancelled; done += BUFFER) {
        await this.#move(image, job, {
          position: transfer.position + done,
          iova: transfer.iova + BigInt(done),
          length: Math.min(BUFFER, transfer.length - done),
          fromMemory: transfer.fromMemory,
        });
      }
      return DISK_STATUS.DONE;
    } catch (cause) {
      // The error's name is the IOMMU's; its fault log has the address. The guest only learns which side refused.
      return cause instanceof PinionError && cause.name.startsWith('IOMMU_')
        ? DISK_STATUS.DMA_FAULT
        : DISK_STATUS.MEDIA;
    }
  }

  async #move(image: DiskImage, job: Job, { position, iova, length, fromMemory }: Transfer): Promise<void> {
    const buffer = new Uint8Array(length);
    if (fromMemory) {
      this.#function.read(iova, buffer);
      await image.write(position, [buffer]);
    } else {
      await image.read(position, [buffer]);
      if (!job.cancelled) this.#function.write(iova, buffer);
    }
  }

  #decode(): Transfer | undefined {
    const count = this.#get(DISK.COUNT);
    const direction = this.#get(DISK.DIRECTION);
    if (count < 1 || count > DISK_MAX_BLOCKS || direction > DISK_FROM_MEMORY) return undefined;
    return {
      // A position too big to be exact is beyond the end of any image, and the image refuses that.
      position: Number(this.#registers.getBigUint64(DISK.LBA, true)) * DISK_BLOCK,
      iova: this.#registers.getBigUint64(DISK.IOVA, true),
      length: count * DISK_BLOCK,
      fromMemory: direction !== DISK_TO_MEMORY,
    };
  }

  #finish(job: Job, status: number): void {
    if (this.#job === job) this.#job = undefined;
    if (job.cancelled) return;
    this.#set(DISK.STATUS, status);
    this.#set(DISK.INTERRUPT, 1);
    if ((this.#get(DISK.INTERRUPT_ENABLE) & 1) !== 0) this.#raise();
  }

  /** Whoever listens cannot break the device. */
  #raise(): void {
    try {
      if (!this.#pci.signal(0)) this.#pci.setIntx(true);
    } catch (cause) {
      this.#log.warn(`${this.#function.name}: the receiver of its interrupt failed`, cause);
    }
  }

  /** No DMA happens after the call; settles when the image is at rest. */
  async #stop(): Promise<void> {
    const job = this.#job;
    if (job === undefined) return;
    job.cancelled = true;
    await job.done;
  }

  #get(register: number): number {
    return this.#registers.getUint32(register, true);
  }

  #set(register: number, value: number): void {
    this.#registers.setUint32(register, value >>> 0, true);
  }
}
