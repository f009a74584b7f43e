import {
  CCW_FLAG,
  CCW_SIZE,
  type Ccw,
  commandOrb,
  DEVICE_STATUS,
  decodeIrb,
  encodeCcw,
  encodeExtent,
  encodeLocate,
  encodeOrb,
  FBA_BLOCK_SIZE,
  FBA_COMMAND,
  FBA_OPERATION,
  FBA_PERMISSION,
  IRB_SIZE,
  type Irb,
  SCSW,
} from '@pinion/ccw';
import { hex, PAGE_SIZE } from '@pinion/core';
import { SCHIB_SIZE } from '../channel-subsystem.js';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
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
const ENABLED = 0x80;
/** Byte of the subchannel information block that has the enabled bit. */
const SCHIB_ENABLE = 5;

/** Where things stand in the page that holds a program: parameters, blocks for instructions, CCWs, address lists. */
const PAGE = {
  EXTENT: 0x00,
  LOCATE: 0x10,
  SENSE_ID: 0x20,
  CHARACTERISTICS: 0x40,
  SCHIB: 0x80,
  ORB: 0xc0,
  IRB: 0x100,
  CCWS: 0x200,
  IDALS: 0x400,
};

/**
 * A guest's driver for a fixed-block DASD: builds channel programs (format-1 CCWs, format-2 address lists, data chaining) in its own
 * memory, starts the subchannel, waits for the interruption and looks at the status.
 */
export class DasdDriver {
  readonly #machine: GuestMachine;
  readonly #subchannel: number;
  /** Guest-physical address of the program page; below 2 GiB, as CCWs need. */
  readonly #page: bigint;
  /** The page holds one program at a time. */
  readonly #programs = new Turns();
  #blocks = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#machine = machine;
    this.#subchannel = subchannel;
    this.#page = heap.allocate(PAGE_SIZE);
  }

  /**
   * Enables the subchannel and asks the disk what it is. `heap` must lie below 2 GiB.
   * @throws VM_NO_SUBCHANNEL, VM_NOT_A_DASD (ENODEV), and as `read`.
   */
  static async start(machine: GuestMachine, heap: GuestHeap, subchannel: number): Promise<DasdDriver> {
    const driver = new DasdDriver(machine, heap, subchannel);
    driver.#enable();
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

  #enable(): void {
    const { channels, memory } = this.#machine;
    const schib = this.#page + BigInt(PAGE.SCHIB);
    if (channels.stsch(this.#subchannel, schib) !== 0) throw vmErrors.NO_SUBCHANNEL({ subchannel: this.#subchannel });
    const block = memory.read(schib, SCHIB_SIZE);
    block[SCHIB_ENABLE] = (block[SCHIB_ENABLE] ?? 0) | ENABLED;
    memory.write(schib, block);
    channels.msch(this.#subchannel, schib);
  }

  async #identify(): Promise<void> {
    const answers = this.#page;
    await this.#run([
      this.#ccw(FBA_COMMAND.SENSE_ID, PAGE.SENSE_ID, SENSE_ID, CCW_FLAG.CHAIN_COMMAND | CCW_FLAG.SLI),
      this.#ccw(FBA_COMMAND.READ_DEVICE_CHARACTERISTICS, PAGE.CHARACTERISTICS, CHARACTERISTICS, CCW_FLAG.SLI),
    ]);
    const id = this.#machine.memory.read(answers + BigInt(PAGE.SENSE_ID), SENSE_ID);
    const facts = this.#machine.memory.read(answers + BigInt(PAGE.CHARACTERISTICS), CHARACTERISTICS);
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
    this.#put(PAGE.EXTENT, encodeExtent(extent));
    this.#put(PAGE.LOCATE, encodeLocate({ operation, count: blocks, block }));
    await this.#run([
      this.#ccw(FBA_COMMAND.DEFINE_EXTENT, PAGE.EXTENT, 16, CCW_FLAG.CHAIN_COMMAND),
      this.#ccw(FBA_COMMAND.LOCATE, PAGE.LOCATE, 8, CCW_FLAG.CHAIN_COMMAND),
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
      this.#put(list, new Uint8Array(words.buffer));
      const chained = done + count < bytes ? CCW_FLAG.CHAIN_DATA : 0;
      ccws.push(this.#ccw(command, list, count, CCW_FLAG.IDA | chained));
      list += pages * IDAW;
    }
    return ccws;
  }

  /** A CCW whose data (or list) stands at `offset` of the program page. */
  #ccw(command: number, offset: number, count: number, flags: number): Ccw {
    return { command, flags, count, address: Number(this.#page) + offset };
  }

  async #run(ccws: readonly Ccw[]): Promise<void> {
    const { channels } = this.#machine;
    for (const [index, ccw] of ccws.entries()) this.#put(PAGE.CCWS + index * CCW_SIZE, encodeCcw(ccw));
    this.#put(PAGE.ORB, encodeOrb({ ...commandOrb(Number(this.#page) + PAGE.CCWS), intparm: this.#subchannel }));
    const cc = channels.ssch(this.#subchannel, this.#page + BigInt(PAGE.ORB));
    if (cc === 3) throw vmErrors.NO_SUBCHANNEL({ subchannel: this.#subchannel });
    if (cc !== 0) throw vmErrors.SUBCHANNEL_BUSY({ subchannel: this.#subchannel, cc });
    await channels.interrupt(this.#subchannel);
    channels.tsch(this.#subchannel, this.#page + BigInt(PAGE.IRB));
    this.#check(decodeIrb(this.#machine.memory.read(this.#page + BigInt(PAGE.IRB), IRB_SIZE)));
  }

  #check({ word0, deviceStatus, channelStatus, sense }: Irb): void {
    if ((word0 & (SCSW.CLEAR | SCSW.HALT)) !== 0) throw vmErrors.IO_LOST({ subchannel: this.#subchannel });
    const normal = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
    if (deviceStatus === normal && channelStatus === 0) return;
    throw vmErrors.IO_FAILED({
      subchannel: this.#subchannel,
      device: hex(deviceStatus),
      channel: hex(channelStatus),
      sense: Buffer.from(sense?.subarray(0, 2) ?? []).toString('hex') || 'none',
    });
  }

  #put(offset: number, bytes: Uint8Array): void {
    this.#machine.memory.write(this.#page + BigInt(offset), bytes);
  }
}
