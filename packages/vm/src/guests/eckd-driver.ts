import {
  CCW_FLAG,
  CCW_SIZE,
  type Ccw,
  commandOrb,
  DEVICE_STATUS,
  decodeIrb,
  ECKD_COMMAND,
  ECKD_LOCATE_SIZE,
  ECKD_OPERATION,
  ECKD_PERMISSION,
  encodeCcw,
  encodeEckdExtent,
  encodeEckdLocate,
  encodeOrb,
  IRB_SIZE,
  type Irb,
  SCSW,
  TIC,
  type TrackAddress,
} from '@pinion/ccw';
import { hex, PAGE_SIZE } from '@pinion/core';
import { SCHIB_SIZE } from '../channel-subsystem.js';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { Turns } from './turns.js';

/** Records of one size that stand one behind the other, over as many tracks as they take. `first`: number on the first track. */
export interface RecordRun {
  readonly track: TrackAddress;
  readonly first: number;
  readonly count: number;
  /** Bytes of data in each. */
  readonly size: number;
  /** Guest-physical address of the first byte, below 2 GiB. */
  readonly at: bigint;
}

/** Where things stand in the page that holds a program. */
const PAGE = {
  EXTENT: 0x00,
  LOCATE: 0x10,
  SEEK: 0x20,
  SEARCH: 0x28,
  CHARACTERISTICS: 0x40,
  SCHIB: 0x80,
  ORB: 0xc0,
  IRB: 0x100,
  CCWS: 0x200,
};
const ENABLED = 0x80;
const SCHIB_ENABLE = 5;
const CHARACTERISTICS = 64;
const MULTI_TRACK = 0x80;
/** Records of one program: the page has room for so many CCWs, and a chain may have 256. */
export const RECORDS_MAX = 200;

/** A guest's driver for a count-key-data DASD (3390): define extent, locate record, then a read or write per record. */
export class EckdDriver {
  readonly #machine: GuestMachine;
  readonly #subchannel: number;
  readonly #page: bigint;
  readonly #programs = new Turns();
  #cylinders = 0;
  #heads = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#machine = machine;
    this.#subchannel = subchannel;
    this.#page = heap.allocate(PAGE_SIZE);
  }

  /** Enables the subchannel and asks the disk what it is. @throws VM_NO_SUBCHANNEL, VM_NOT_A_DASD (ENODEV), and as `read`. */
  static async start(machine: GuestMachine, heap: GuestHeap, subchannel: number): Promise<EckdDriver> {
    const driver = new EckdDriver(machine, heap, subchannel);
    driver.#enable();
    await driver.#identify();
    return driver;
  }

  get geometry(): { readonly cylinders: number; readonly heads: number } {
    return { cylinders: this.#cylinders, heads: this.#heads };
  }

  /**
   * From the disk into memory. @throws VM_IO_FAILED (EIO) with the status and sense, VM_IO_LOST (ECANCELED) when the host ended the
   * program, VM_SUBCHANNEL_BUSY (EBUSY), VM_NO_SUBCHANNEL (ENODEV). At most `RECORDS_MAX` records are moved.
   */
  async read(run: RecordRun): Promise<void> {
    await this.#transfer(run, ECKD_COMMAND.READ_DATA, ECKD_OPERATION.READ);
  }

  /** Updates the data of records that exist. @throws as `read`. */
  async write(run: RecordRun): Promise<void> {
    await this.#transfer(run, ECKD_COMMAND.WRITE_DATA, ECKD_OPERATION.WRITE);
  }

  /** Reads the data of the record `record` of a track by a seek and a search loop: what an IPL can rely on. @throws as `read`. */
  async readBySearch(where: TrackAddress & { record: number }, into: { at: bigint; size: number }): Promise<void> {
    const { cylinder, head, record } = where;
    await this.#programs.run(async () => {
      this.#put(PAGE.SEEK, Uint8Array.of(0, 0, cylinder >> 8, cylinder, 0, head, 0, 0));
      this.#put(PAGE.SEARCH, Uint8Array.of(cylinder >> 8, cylinder, 0, head, record));
      await this.#run([
        this.#ccw(ECKD_COMMAND.SEEK, PAGE.SEEK, 6, CCW_FLAG.CHAIN_COMMAND),
        this.#ccw(ECKD_COMMAND.SEARCH_ID_EQUAL, PAGE.SEARCH, 5, CCW_FLAG.CHAIN_COMMAND),
        this.#ccw(TIC, PAGE.CCWS + CCW_SIZE, 0, 0),
        { command: ECKD_COMMAND.READ_DATA, flags: CCW_FLAG.SLI, count: into.size, address: Number(into.at) },
      ]);
    });
  }

  /** READ IPL: the first record of the first track, 24 bytes. @throws as `read`. */
  async readIpl(at: bigint): Promise<void> {
    const ccw = { command: ECKD_COMMAND.READ_IPL, flags: CCW_FLAG.SLI, count: 24, address: Number(at) };
    await this.#programs.run(() => this.#run([ccw]));
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
    await this.#run([
      this.#ccw(ECKD_COMMAND.READ_DEVICE_CHARACTERISTICS, PAGE.CHARACTERISTICS, CHARACTERISTICS, CCW_FLAG.SLI),
    ]);
    const facts = this.#machine.memory.read(this.#page + BigInt(PAGE.CHARACTERISTICS), CHARACTERISTICS);
    const view = new DataView(facts.buffer);
    const type = view.getUint16(3);
    if (type !== 0x3390) throw vmErrors.NOT_A_DASD({ subchannel: this.#subchannel, type });
    this.#cylinders = view.getUint32(60);
    this.#heads = view.getUint16(14);
  }

  async #transfer(run: RecordRun, command: number, operation: number): Promise<void> {
    const count = Math.min(run.count, RECORDS_MAX);
    const end = { cylinder: this.#cylinders - 1, head: this.#heads - 1 };
    const permission = operation === ECKD_OPERATION.READ ? ECKD_PERMISSION.READ_ONLY : ECKD_PERMISSION.UPDATE;
    await this.#programs.run(async () => {
      this.#put(PAGE.EXTENT, encodeEckdExtent({ permission, begin: { cylinder: 0, head: 0 }, end }));
      const { track, first } = run;
      const locate = { orientation: 0, operation, count, seek: track, search: track, record: first };
      this.#put(PAGE.LOCATE, encodeEckdLocate(locate));
      await this.#run([
        this.#ccw(ECKD_COMMAND.DEFINE_EXTENT, PAGE.EXTENT, 16, CCW_FLAG.CHAIN_COMMAND),
        this.#ccw(ECKD_COMMAND.LOCATE_RECORD, PAGE.LOCATE, ECKD_LOCATE_SIZE, CCW_FLAG.CHAIN_COMMAND),
        ...Array.from({ length: count }, (_, index) => ({
          command: command | MULTI_TRACK,
          flags: index < count - 1 ? CCW_FLAG.CHAIN_COMMAND : 0,
          count: run.size,
          address: Number(run.at) + index * run.size,
        })),
      ]);
    });
  }

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
