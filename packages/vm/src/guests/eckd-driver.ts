import {
  CCW_FLAG,
  CCW_SIZE,
  ECKD_COMMAND,
  ECKD_LOCATE_SIZE,
  ECKD_OPERATION,
  ECKD_PERMISSION,
  encodeEckdExtent,
  encodeEckdLocate,
  TIC,
  type TrackAddress,
} from '@pinion/ccw';

import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';
import { CCWS, ProgramPage } from './program-page.js';
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

/** Where the driver's own things stand in the program page. */
const PAGE = {
  EXTENT: 0x00,
  LOCATE: 0x10,
  SEEK: 0x20,
  SEARCH: 0x28,
  CHARACTERISTICS: 0x40,
};
const CHARACTERISTICS = 64;
const MULTI_TRACK = 0x80;
/** Records of one program: the page has room for so many CCWs, and a chain may have 256. */
export const RECORDS_MAX = 200;

/** A guest's driver for a count-key-data DASD (3390): define extent, locate record, then a read or write per record. */
export class EckdDriver {
  readonly #subchannel: number;
  readonly #page: ProgramPage;
  readonly #programs = new Turns();
  #cylinders = 0;
  #heads = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, subchannel: number) {
    this.#subchannel = subchannel;
    this.#page = new ProgramPage(machine, heap, subchannel);
  }

  /** Enables the subchannel and asks the disk what it is. @throws VM_NO_SUBCHANNEL, VM_NOT_A_DASD (ENODEV), and as `read`. */
  static async start(machine: GuestMachine, heap: GuestHeap, subchannel: number): Promise<EckdDriver> {
    const driver = new EckdDriver(machine, heap, subchannel);
    driver.#page.enable();
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
      this.#page.put(PAGE.SEEK, Uint8Array.of(0, 0, cylinder >> 8, cylinder, 0, head, 0, 0));
      this.#page.put(PAGE.SEARCH, Uint8Array.of(cylinder >> 8, cylinder, 0, head, record));
      await this.#page.run([
        this.#page.ccw(ECKD_COMMAND.SEEK, PAGE.SEEK, 6, CCW_FLAG.CHAIN_COMMAND),
        this.#page.ccw(ECKD_COMMAND.SEARCH_ID_EQUAL, PAGE.SEARCH, 5, CCW_FLAG.CHAIN_COMMAND),
        this.#page.ccw(TIC, CCWS + CCW_SIZE, 0, 0),
        { command: ECKD_COMMAND.READ_DATA, flags: CCW_FLAG.SLI, count: into.size, address: Number(into.at) },
      ]);
    });
  }

  /** READ IPL: the first record of the first track, 24 bytes. @throws as `read`. */
  async readIpl(at: bigint): Promise<void> {
    const ccw = { command: ECKD_COMMAND.READ_IPL, flags: CCW_FLAG.SLI, count: 24, address: Number(at) };
    await this.#programs.run(() => this.#page.run([ccw]));
  }

  async #identify(): Promise<void> {
    await this.#page.run([
      this.#page.ccw(ECKD_COMMAND.READ_DEVICE_CHARACTERISTICS, PAGE.CHARACTERISTICS, CHARACTERISTICS, CCW_FLAG.SLI),
    ]);
    const facts = this.#page.read(PAGE.CHARACTERISTICS, CHARACTERISTICS);
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
      this.#page.put(PAGE.EXTENT, encodeEckdExtent({ permission, begin: { cylinder: 0, head: 0 }, end }));
      const { track, first } = run;
      const locate = { orientation: 0, operation, count, seek: track, search: track, record: first };
      this.#page.put(PAGE.LOCATE, encodeEckdLocate(locate));
      await this.#page.run([
        this.#page.ccw(ECKD_COMMAND.DEFINE_EXTENT, PAGE.EXTENT, 16, CCW_FLAG.CHAIN_COMMAND),
        this.#page.ccw(ECKD_COMMAND.LOCATE_RECORD, PAGE.LOCATE, ECKD_LOCATE_SIZE, CCW_FLAG.CHAIN_COMMAND),
        ...Array.from({ length: count }, (_, index) => ({
          command: command | MULTI_TRACK,
          flags: index < count - 1 ? CCW_FLAG.CHAIN_COMMAND : 0,
          count: run.size,
          address: Number(run.at) + index * run.size,
        })),
      ]);
    });
  }
}
