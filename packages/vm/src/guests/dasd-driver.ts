import {
  CCW_FLAG,
  type Ccw,
  encodeExtent,
  encodeLocate,
  FBA_BLOCK_SIZE,
  FBA_COMMAND,
  FBA_OPERATION,
  FBA_PERMISSION,
} from '@pinion/ccw';
import { PAGE_SIZE } from '@pinion/core';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { ProgramPage } from './program-page.js';
import { Turns } from './turns.js';

/** Blocks between the disk and guest memory at `at` (guest-physical, any page-aligned address). */
export interface DasdTransfer {
  readonly block: number;
  readonly blocks: number;
  readonly at: bigint;
}

/** Data of one CCW: 8 pages. */
const CCW_DATA = 8 * PAGE_SIZE;
/** CCWs that one program chains by data: so one program moves up to 512 KiB. */
const DATA_CCWS = 16;
const PROGRAM_BLOCKS = (CCW_DATA * DATA_CCWS) / FBA_BLOCK_SIZE;
const IDAW = 8;
const CHARACTERISTICS = 32;
const SENSE_ID = 8;

/** Where the driver's own things stand in the program page: parameters and answers, and address lists behind the CCWs. */
const PAGE = {
  EXTENT: 0x00,
  LOCATE: 0x10,
  SENSE_ID: 0x20,
  CHARACTERISTICS: 0x40,
  IDALS: 0x400,
};

/**
 * A guest's driver for a fixed-block DASD: builds channel programs (format-1 CCWs, format-2 address lists, data chaining) in its own
 * memory, starts the subchannel, waits for the interruption and looks at the status.
 */
export class DasdDriver {
  readonly #subchannel: number;
  readonly #page: ProgramPage;
  /** The page holds one program at a time. */
  readonly #programs = new Turns();
  #blocks = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#subchannel = subchannel;
    this.#page = new ProgramPage(machine, heap, subchannel);
  }

  /**
   * Enables the subchannel and asks the disk what it is. `heap` must lie below 2 GiB.
   * @throws VM_NO_SUBCHANNEL, VM_NOT_A_DASD (ENODEV), and as `read`.
   */
  static async start(machine: GuestMachine, heap: GuestHeap, subchannel: number): Promise<DasdDriver> {
    const driver = new DasdDriver(machine, heap, subchannel);
    driver.#page.enable();
    await driver.#identify();
    return driver;
  }

  /** Blocks of 512 bytes. */
  get capacity(): number {
    return this.#blocks;
  }

  /**
   * From the disk into memory. Programs of several calls run one after the other. @throws VM_IO_FAILED (EIO) with the channel's and the device's status, VM_IO_LOST (ECANCELED) when the host
   * ended the program (its memory was unmapped), VM_SUBCHANNEL_BUSY (EBUSY) when somebody else uses the subchannel, VM_UNPLUGGED, VM_KILLED while waiting.
   */
  async read(transfer: DasdTransfer): Promise<void> {
    await this.#transferAll(transfer, FBA_COMMAND.READ);
  }

  /** From memory to the disk. @throws as `read`. */
  async write(transfer: DasdTransfer): Promise<void> {
    await this.#transferAll(transfer, FBA_COMMAND.WRITE);
  }

  async #identify(): Promise<void> {
    await this.#page.run([
      this.#page.ccw(FBA_COMMAND.SENSE_ID, PAGE.SENSE_ID, SENSE_ID, CCW_FLAG.CHAIN_COMMAND | CCW_FLAG.SLI),
      this.#page.ccw(FBA_COMMAND.READ_DEVICE_CHARACTERISTICS, PAGE.CHARACTERISTICS, CHARACTERISTICS, CCW_FLAG.SLI),
    ]);
    const id = this.#page.read(PAGE.SENSE_ID, SENSE_ID);
    const facts = this.#page.read(PAGE.CHARACTERISTICS, CHARACTERISTICS);
    const view = new DataView(facts.buffer);
    const type = new DataView(id.buffer).getUint16(4);
    if (type !== 0x9336 || view.getUint16(4) !== FBA_BLOCK_SIZE) {
      throw vmErrors.NOT_A_DASD({ subchannel: this.#subchannel, type });
    }
    this.#blocks = view.getUint32(14);
  }

  async #transferAll({ block, blocks, at }: DasdTransfer, command: number): Promise<void> {
    for (let done = 0; done < blocks; done += PROGRAM_BLOCKS) {
      const count = Math.min(PROGRAM_BLOCKS, blocks - done);
      const part = { block: block + done, blocks: count, at: at + BigInt(done * FBA_BLOCK_SIZE) };
      await this.#programs.run(() => this.#transfer(part, command));
    }
  }

  async #transfer({ block, blocks, at }: DasdTransfer, command: number): Promise<void> {
    const writing = command === FBA_COMMAND.WRITE;
    const permission = writing ? FBA_PERMISSION.UPDATE : FBA_PERMISSION.READ_ONLY;
    const extent = { permission, blockSize: FBA_BLOCK_SIZE, locator: 0, begin: 0, end: this.#blocks - 1 };
    const operation = writing ? FBA_OPERATION.WRITE : FBA_OPERATION.READ;
    this.#page.put(PAGE.EXTENT, encodeExtent(extent));
    this.#page.put(PAGE.LOCATE, encodeLocate({ operation, count: blocks, block }));
    await this.#page.run([
      this.#page.ccw(FBA_COMMAND.DEFINE_EXTENT, PAGE.EXTENT, 16, CCW_FLAG.CHAIN_COMMAND),
      this.#page.ccw(FBA_COMMAND.LOCATE, PAGE.LOCATE, 8, CCW_FLAG.CHAIN_COMMAND),
      ...this.#dataCcws(command, at, blocks * FBA_BLOCK_SIZE),
    ]);
  }

  /** The data command, chained over as many CCWs as the bytes need, each with its list of page addresses. */
  #dataCcws(command: number, at: bigint, bytes: number): Ccw[] {
    const ccws: Ccw[] = [];
    let list = PAGE.IDALS;
    for (let done = 0; done < bytes; done += CCW_DATA) {
      const count = Math.min(CCW_DATA, bytes - done);
      const pages = Math.ceil(count / PAGE_SIZE);
      const words = new DataView(new ArrayBuffer(pages * IDAW));
      for (let page = 0; page < pages; page++) words.setBigUint64(page * IDAW, at + BigInt(done + page * PAGE_SIZE));
      this.#page.put(list, new Uint8Array(words.buffer));
      const chained = done + count < bytes ? CCW_FLAG.CHAIN_DATA : 0;
      ccws.push(this.#page.ccw(command, list, count, CCW_FLAG.IDA | chained));
      list += pages * IDAW;
    }
    return ccws;
  }
}
