import { type ChannelData, fetchBytes, storeBytes } from './control-unit.js';
import { REJECT, reject } from './eckd-check.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
/** Perform subsystem function: prepare for read subsystem data, set system characteristics. */
export const PSF_ORDER = { PREPARE: 0x18, SET_SYSTEM: 0x1d } as const;
/** What can be prepared. Source: PSF_SUBORDER_*, dasd_eckd.c; IBM internal disk subsystem reference. */
export const PSF_SUBORDER = { STATUS: 0x00, STATISTICS: 0x01, MESSAGE: 0x03, ADDRESSES: 0x0e, FEATURES: 0x41 } as const;
const PREPARE_SIZE = 12;
const SET_SYSTEM_SIZE = 66;
const STATUS_SIZE = 16;
const STATISTICS_SIZE = 96;
const MESSAGE_SIZE = 9;
const FEATURES_SIZE = 256;
/** One byte what an address is, one what it belongs to. */
const ADDRESSES_SIZE = 512;
const ADDRESS_BASE = 1;
const SENSE_SUBSYSTEM_SIZE = 44;
const SUMMARY_SIZE = 16;
/** Feature byte 8: the prefix command is there. */
const FEATURE_PREFIX = 0x01;

/** Reads and writes of records that a disk has done since it was made. */
export interface Traffic {
  reads: number;
  writes: number;
}

/**
 * What a 3990 answers about itself: perform subsystem function, then read subsystem data; sense subsystem status. There is one
 * volume, at address 0, no cache, no alias, and nothing that could need attention.
 */
export class EckdSubsystem {
  readonly traffic: Traffic = { reads: 0, writes: 0 };
  #prepared: Uint8Array | undefined;

  /** A new program starts: what was prepared is lost. */
  begin(): void {
    this.#prepared = undefined;
  }

  /** Only a read may follow what was prepared. */
  get waitsForRead(): boolean {
    return this.#prepared !== undefined;
  }

  perform(data: ChannelData): number {
    const [order] = fetchBytes(data, 1);
    if (order === PSF_ORDER.PREPARE) return this.#prepare(Uint8Array.of(order, ...fetchBytes(data, PREPARE_SIZE - 1)));
    if (order !== PSF_ORDER.SET_SYSTEM) throw reject(order === undefined ? REJECT.SHORT : REJECT.PARAMETER);
    if (fetchBytes(data, SET_SYSTEM_SIZE - 1).length < SET_SYSTEM_SIZE - 1) throw reject(REJECT.SHORT);
    return DONE;
  }

  read(data: ChannelData): number {
    const prepared = this.#prepared;
    if (prepared === undefined) throw reject(REJECT.SEQUENCE);
    this.#prepared = undefined;
    storeBytes(data, prepared);
    return DONE;
  }

  /** Status of the subsystem: one volume with one set of statistics, no cache. */
  sense(data: ChannelData): number {
    const view = new DataView(new ArrayBuffer(SENSE_SUBSYSTEM_SIZE));
    view.setUint8(3, 1);
    view.setUint16(6, STATISTICS_SIZE);
    storeBytes(data, new Uint8Array(view.buffer));
    return DONE;
  }

  /** There is never a summary to reset. */
  resetSummary(data: ChannelData): number {
    if (fetchBytes(data, SUMMARY_SIZE).length === 0) throw reject(REJECT.SHORT);
    return DONE;
  }

  #prepare(bytes: Uint8Array): number {
    if (bytes.length < PREPARE_SIZE) throw reject(REJECT.SHORT);
    const suborder = bytes[6];
    const reserved =
      suborder === PSF_SUBORDER.MESSAGE ? bytes.subarray(1, 6) : bytes.filter((_, at) => at > 0 && at !== 6);
    const answer = reserved.some((byte) => byte !== 0) ? undefined : this.#answer(suborder ?? 0xff);
    if (answer === undefined) throw reject(REJECT.PARAMETER);
    this.#prepared = answer;
    return DONE;
  }

  #answer(suborder: number): Uint8Array | undefined {
    switch (suborder) {
      case PSF_SUBORDER.STATUS:
        return new Uint8Array(STATUS_SIZE);
      case PSF_SUBORDER.STATISTICS:
        return this.#statistics();
      case PSF_SUBORDER.MESSAGE:
        return Uint8Array.from({ length: MESSAGE_SIZE }, (_, at) => (at === 1 ? MESSAGE_SIZE : 0));
      case PSF_SUBORDER.ADDRESSES:
        return Uint8Array.from({ length: ADDRESSES_SIZE }, (_, at) => (at === 0 ? ADDRESS_BASE : 0));
      case PSF_SUBORDER.FEATURES:
        return Uint8Array.from({ length: FEATURES_SIZE }, (_, at) => (at === 8 ? FEATURE_PREFIX : 0));
      default:
        return undefined;
    }
  }

  /** Normal reads and writes; without a cache nothing is a hit. */
  #statistics(): Uint8Array {
    const view = new DataView(new ArrayBuffer(STATISTICS_SIZE));
    view.setUint32(4, this.traffic.reads % 2 ** 32);
    view.setUint32(12, this.traffic.writes % 2 ** 32);
    return new Uint8Array(view.buffer);
  }
}
