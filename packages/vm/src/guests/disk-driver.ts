import { hex } from '@pinion/core';
import {
  DISK,
  DISK_BLOCK,
  DISK_CONFIG,
  DISK_FROM_MEMORY,
  DISK_MAGIC,
  DISK_MAX_BLOCKS,
  DISK_PCI_ID,
  DISK_STATUS,
  DISK_TO_MEMORY,
} from '../disk-registers.js';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { PciFunction } from '../pci-function.js';
import { Turns } from './turns.js';

const BAR0 = 0;
const CONFIG = 7;

/** A transfer between the disk and guest memory: `at` is guest-physical and, as the VM maps its memory, the device's address, too. */
export interface DiskTransfer {
  readonly lba: number;
  readonly blocks: number;
  readonly at: bigint;
}

const STATUS_NAMES = new Map<number, string>(Object.entries(DISK_STATUS).map(([name, status]) => [status, name]));

/** A guest's driver for the passthrough disk: registers, a doorbell, an interrupt. The function does the DMA. */
export class DiskDriver {
  readonly #pci: PciFunction;
  readonly #slot: string;
  /** The registers hold one transfer at a time. */
  readonly #transfers = new Turns();

  private constructor(pci: PciFunction, slot: string) {
    this.#pci = pci;
    this.#slot = slot;
  }

  /** Takes the function into use. @throws VM_NO_FUNCTION, VM_NOT_A_DISK (ENODEV). */
  static start(machine: GuestMachine, slot: string): DiskDriver {
    const pci = machine.pci(slot);
    if (pci.read32(CONFIG, DISK_CONFIG.ID) !== DISK_PCI_ID) throw vmErrors.NOT_A_DISK({ slot });
    pci.write32(CONFIG, DISK_CONFIG.COMMAND, DISK_CONFIG.MEMORY | DISK_CONFIG.BUS_MASTER);
    if (pci.read32(BAR0, DISK.MAGIC) !== DISK_MAGIC) throw vmErrors.NOT_A_DISK({ slot });
    pci.write32(BAR0, DISK.INTERRUPT_ENABLE, 1);
    return new DiskDriver(pci, slot);
  }

  /** Blocks of 512 bytes. */
  get capacity(): number {
    return this.#pci.read32(BAR0, DISK.CAPACITY) + this.#pci.read32(BAR0, DISK.CAPACITY + 4) * 2 ** 32;
  }

  /** From the disk into memory. @throws VM_DISK_FAILED (EIO) with the status, VM_UNPLUGGED, VM_KILLED while waiting. */
  async read(transfer: DiskTransfer): Promise<void> {
    await this.#transferAll(transfer, DISK_TO_MEMORY);
  }

  /** From memory to the disk. @throws as `read`. */
  async write(transfer: DiskTransfer): Promise<void> {
    await this.#transferAll(transfer, DISK_FROM_MEMORY);
  }

  async #transferAll({ lba, blocks, at }: DiskTransfer, direction: number): Promise<void> {
    for (let done = 0; done < blocks; done += DISK_MAX_BLOCKS) {
      const count = Math.min(DISK_MAX_BLOCKS, blocks - done);
      const part = { lba: lba + done, blocks: count, at: at + BigInt(done * DISK_BLOCK) };
      await this.#transfers.run(() => this.#transfer(part, direction));
    }
  }

  async #transfer({ lba, blocks, at }: DiskTransfer, direction: number): Promise<void> {
    this.#pci.write64(BAR0, DISK.LBA, BigInt(lba));
    this.#pci.write32(BAR0, DISK.COUNT, blocks);
    this.#pci.write32(BAR0, DISK.DIRECTION, direction);
    this.#pci.write64(BAR0, DISK.IOVA, at);
    this.#pci.write32(BAR0, DISK.DOORBELL, 1);
    while ((this.#pci.read32(BAR0, DISK.INTERRUPT) & 1) === 0) await this.#pci.interrupt();
    this.#pci.write32(BAR0, DISK.INTERRUPT, 1);
    const status = this.#pci.read32(BAR0, DISK.STATUS);
    if (status === DISK_STATUS.DONE) return;
    throw vmErrors.DISK_FAILED({ slot: this.#slot, status: STATUS_NAMES.get(status) ?? hex(status), at });
  }
}
