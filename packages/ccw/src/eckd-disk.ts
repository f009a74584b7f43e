import { type Log, PinionError, silentLog } from '@pinion/core';
import type { CkdVolume } from './ckd-volume.js';
import {
  type ChannelData,
  type ControlUnit,
  fetchBytes,
  SENSE0,
  SENSE1,
  senseBytes,
  storeBytes,
} from './control-unit.js';
import { Check, REJECT, reject, TRACK_SENSE } from './eckd-check.js';
import { EckdPosition } from './eckd-position.js';
import { EckdReader } from './eckd-reader.js';
import { DiskShare } from './eckd-share.js';
import { EckdSubsystem } from './eckd-subsystem.js';
import {
  ECKD_COMMAND as CMD,
  decodeAddress,
  ECKD_EXTENT_SIZE,
  ECKD_LOCATE_EXTENDED_SIZE,
  ECKD_LOCATE_SIZE,
  ECKD_PERMISSION,
  ECKD_SENSE_ID,
  eckdCharacteristics,
  extendedParameterSize,
  MULTI_TRACK,
  MULTI_TRACK_COMMANDS,
  PREFIX_EXTENT_AT,
  PREFIX_LOCATE_AT,
  PREFIX_SIZE,
  PREFIX_VALID,
} from './eckd-wire.js';
import { EckdWriter } from './eckd-writer.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
const CHECKED = DONE | DEVICE_STATUS.UNIT_CHECK;
const NO_SENSE = senseBytes(0);
const CONFIGURATION_SIZE = 256;
const PATH_GROUP_SIZE = 12;
const PATH_GROUP_PARAMETER = 12;
const RESERVE_SENSE = 32;
const SEEK_SIZE = 6;
/** Commands that a disk which somebody else reserved answers all the same. */
const WHILE_RESERVED: ReadonlySet<number> = new Set([
  CMD.SENSE,
  CMD.SENSE_ID,
  CMD.SENSE_PATH_GROUP,
  CMD.SET_PATH_GROUP,
  CMD.UNCONDITIONAL_RESERVE,
]);
/** Commands that are no business of a domain. */
const OUTSIDE_DOMAIN: ReadonlySet<number> = new Set([
  CMD.READ_DEVICE_CHARACTERISTICS,
  CMD.READ_CONFIGURATION,
  CMD.PERFORM_SUBSYSTEM_FUNCTION,
  CMD.READ_SUBSYSTEM_DATA,
  CMD.SENSE_SUBSYSTEM_STATUS,
  CMD.RESERVE,
  CMD.RELEASE,
  CMD.UNCONDITIONAL_RESERVE,
]);

/** `share`: the same for all units of one volume, if there are several. */
export interface EckdDiskOptions {
  readonly log?: Log;
  readonly share?: DiskShare;
}

/**
 * A count-key-data disk (3390) on a volume. Programs orient themselves by seek and search loops or by define extent,
 * locate record (extended) and prefix, then read and write counts, keys, data and whole tracks; format writes make
 * records. Data goes through a track buffer; a write is on the volume when its command ends. The volume belongs to the
 * caller. While another unit of its share has reserved the disk, programs stay pending.
 *
 * Unit checks, sense bytes 0 and 1: 80 00 command reject (byte 7 says why: 1 unknown command, 2 out of order, 3 too few
 * bytes, 4 bad parameter); 00 08 no record found; 00 20 end of cylinder; 00 40 invalid track format (records do not fit,
 * or the image's track is corrupt); 00 04 file protected (outside of the extent, or the mask forbids it); 80 02 write
 * inhibited; 10 80 equipment check (the image failed). A write domain that ends early is no check.
 * Source: F.1.1 layouts of dasd_eckd.h; 3990 channel commands.
 */
export class EckdDisk implements ControlUnit {
  readonly name: string;
  readonly #volume: CkdVolume;
  readonly #log: Log;
  readonly #share: DiskShare;
  readonly #at: EckdPosition;
  readonly #reader: EckdReader;
  readonly #writer: EckdWriter;
  readonly #subsystem = new EckdSubsystem();
  #sense = NO_SENSE;

  constructor(volume: CkdVolume, options: EckdDiskOptions = {}) {
    this.name = `eckd ${volume.name}`;
    this.#volume = volume;
    this.#at = new EckdPosition(volume);
    this.#reader = new EckdReader(this.#at);
    this.#writer = new EckdWriter(this.#at, volume);
    this.#log = options.log ?? silentLog;
    this.#share = options.share ?? new DiskShare();
  }

  get sense(): Uint8Array {
    return this.#sense;
  }

  reset(): void {
    this.begin();
    this.#share.release(this);
    this.#sense = NO_SENSE;
    this.#at.home();
  }

  begin(): void {
    this.#at.begin();
    this.#subsystem.begin();
  }

  whenFree(command: number): Promise<void> | undefined {
    return WHILE_RESERVED.has(command) ? undefined : this.#share.whenFree(this);
  }

  async execute(command: number, data: ChannelData): Promise<number> {
    if (command === CMD.NOP) return DONE;
    if (command === CMD.SENSE) return this.#answer(data, this.#takeSense());
    this.#sense = NO_SENSE;
    try {
      if (this.#subsystem.waitsForRead && command !== CMD.READ_SUBSYSTEM_DATA) throw reject(REJECT.SEQUENCE);
      if (OUTSIDE_DOMAIN.has(command)) this.#at.leaveDomain();
      return await this.#execute(command, data);
    } catch (failure) {
      return this.#failed(failure);
    }
  }

  #failed(failure: unknown): number {
    if (failure instanceof Check) {
      this.#sense = senseBytes(failure.byte0, failure.byte1, failure.byte7);
      return CHECKED;
    }
    this.#log.warn(`${this.name}: the image failed`, failure);
    this.#at.head = undefined;
    const corrupt = failure instanceof PinionError && failure.name === 'CCW_BAD_TRACK';
    this.#sense = corrupt
      ? senseBytes(0, TRACK_SENSE.INVALID_FORMAT)
      : senseBytes(SENSE0.EQUIPMENT_CHECK, SENSE1.PERMANENT);
    return CHECKED;
  }

  #execute(command: number, data: ChannelData): number | Promise<number> {
    const multi = (command & MULTI_TRACK) !== 0 && MULTI_TRACK_COMMANDS.has(command & ~MULTI_TRACK);
    const base = multi ? command & ~MULTI_TRACK : command;
    return this.#identify(base, data) ?? this.#orient(base, data) ?? this.#onTrack(base, multi, data);
  }

  /** Commands about the unit and the disk as a whole. */
  #identify(command: number, data: ChannelData): number | undefined {
    switch (command) {
      case CMD.SENSE_ID:
        return this.#answer(data, ECKD_SENSE_ID);
      case CMD.READ_DEVICE_CHARACTERISTICS:
        return this.#answer(data, eckdCharacteristics(this.#volume.cylinders, this.#volume.heads));
      case CMD.READ_CONFIGURATION:
        return this.#answer(data, configuration());
      case CMD.SENSE_PATH_GROUP:
        return this.#answer(data, new Uint8Array(PATH_GROUP_SIZE));
      case CMD.SET_PATH_GROUP:
        return this.#taken(data, PATH_GROUP_PARAMETER);
      case CMD.RESERVE:
      case CMD.UNCONDITIONAL_RESERVE:
        this.#share.reserve(this);
        return this.#answer(data, new Uint8Array(RESERVE_SENSE));
      case CMD.RELEASE:
        this.#share.release(this);
        return this.#answer(data, new Uint8Array(RESERVE_SENSE));
      case CMD.PERFORM_SUBSYSTEM_FUNCTION:
        return this.#subsystem.perform(data);
      case CMD.READ_SUBSYSTEM_DATA:
        return this.#subsystem.read(data);
      case CMD.SENSE_SUBSYSTEM_STATUS:
        return this.#subsystem.sense(data);
      case CMD.RESET_SUMMARY_UNIT_CHECK:
        return this.#subsystem.resetSummary(data);
      default:
        return undefined;
    }
  }

  /** Commands that say where and what the following ones work on. */
  #orient(command: number, data: ChannelData): number | Promise<number> | undefined {
    switch (command) {
      case CMD.SET_FILE_MASK:
      case CMD.SET_SECTOR:
        return this.#taken(data, 1);
      case CMD.DEFINE_EXTENT:
        return this.#at.defineExtent(fetchBytes(data, ECKD_EXTENT_SIZE));
      case CMD.LOCATE_RECORD:
        return this.#at.locate(fetchBytes(data, ECKD_LOCATE_SIZE), 'plain');
      case CMD.LOCATE_RECORD_EXTENDED:
        return this.#at.locate(fetchLocate(data, new Uint8Array(0)), 'extended');
      case CMD.PREFIX:
        return this.#prefix(data, false);
      case CMD.PREFIX_READ:
        return this.#prefix(data, true);
      case CMD.RECALIBRATE:
        return this.#at.seek({ cylinder: 0, head: 0 });
      case CMD.SEEK:
      case CMD.SEEK_CYLINDER:
      case CMD.SEEK_HEAD:
        return this.#seekCommand(command, fetchBytes(data, SEEK_SIZE));
      default:
        return undefined;
    }
  }

  /** Commands that look at or change records. */
  #onTrack(command: number, multi: boolean, data: ChannelData): Promise<number> {
    const [reader, writer, traffic] = [this.#reader, this.#writer, this.#subsystem.traffic];
    const search = SEARCHES.get(command);
    if (search !== undefined) return reader.searchId(multi, data, search);
    const write = WRITES.get(command);
    if (write !== undefined) {
      traffic.writes += 1;
      return write(writer, data, multi);
    }
    const read = READS.get(command);
    if (read === undefined) throw reject(REJECT.COMMAND);
    traffic.reads += 1;
    return read(reader, data, multi);
  }

  #answer(data: ChannelData, bytes: Uint8Array): number {
    storeBytes(data, bytes);
    return DONE;
  }

  #taken(data: ChannelData, length: number): number {
    if (fetchBytes(data, length).length < length) throw reject(REJECT.SHORT);
    return DONE;
  }

  #takeSense(): Uint8Array {
    const sense = this.#sense;
    this.#sense = NO_SENSE;
    return sense;
  }

  /** Define extent and, in format 1, locate record extended in one command. There are no aliases: the base is address 0. */
  async #prefix(data: ChannelData, readOnly: boolean): Promise<number> {
    const bytes = fetchBytes(data, PREFIX_SIZE);
    if (bytes.length < PREFIX_EXTENT_AT + ECKD_EXTENT_SIZE) throw reject(REJECT.SHORT);
    const [format = 0, validity = 0, address = 0, , system = 0] = bytes;
    const verified = (validity & PREFIX_VALID.BASE) === 0 || (address === 0 && system === 0);
    if (format > 1 || !verified || (validity & PREFIX_VALID.ALIAS) !== 0) throw reject(REJECT.PARAMETER);
    const extent = bytes.slice(PREFIX_EXTENT_AT, PREFIX_EXTENT_AT + ECKD_EXTENT_SIZE);
    if (readOnly) extent[0] = ECKD_PERMISSION.READ_ONLY << 6;
    if ((validity & PREFIX_VALID.EXTENT) !== 0) this.#at.defineExtent(extent);
    return format === 1 ? this.#at.locate(fetchLocate(data, bytes.subarray(PREFIX_LOCATE_AT)), 'extended') : DONE;
  }

  #seekCommand(command: number, bytes: Uint8Array): number {
    if (bytes.length < SEEK_SIZE) throw reject(REJECT.SHORT);
    const to = decodeAddress(bytes, 2);
    return this.#at.seek(command === CMD.SEEK_HEAD ? { ...to, cylinder: this.#at.address.cylinder } : to);
  }
}

const SEARCHES: ReadonlyMap<number, (order: number) => boolean> = new Map([
  [CMD.SEARCH_ID_EQUAL, (order: number) => order === 0],
  [CMD.SEARCH_ID_HIGH, (order: number) => order > 0],
  [CMD.SEARCH_ID_EQUAL_HIGH, (order: number) => order >= 0],
]);

type Read = (reader: EckdReader, data: ChannelData, multi: boolean) => Promise<number>;
const READS: ReadonlyMap<number, Read> = new Map<number, Read>([
  [CMD.SEARCH_KEY_EQUAL, (reader, data, multi) => reader.searchKey(multi, data)],
  [CMD.SEARCH_HOME_ADDRESS, (reader, data) => reader.searchHome(data)],
  [CMD.READ_IPL, (reader, data) => reader.ipl(data)],
  [CMD.READ_HOME_ADDRESS, (reader, data) => reader.home(data)],
  [CMD.READ_HOME_ADDRESS_ECKD, (reader, data) => reader.home(data)],
  [CMD.READ_R0, (reader, data) => reader.r0(data)],
  [CMD.READ_COUNT, (reader, data, multi) => reader.record(multi, data, { next: true, parts: ['count'] })],
  [CMD.READ_KEY_DATA, (reader, data, multi) => reader.record(multi, data, { next: false, parts: ['key', 'data'] })],
  [CMD.READ_DATA, (reader, data, multi) => reader.record(multi, data, { next: false, parts: ['data'] })],
  [CMD.READ_CKD, (reader, data, multi) => reader.record(multi, data, { next: true, parts: ['count', 'key', 'data'] })],
  [CMD.READ_MULTIPLE_CKD, (reader, data) => reader.rest(data)],
  [CMD.READ_TRACK, (reader, data) => reader.track(data)],
  [CMD.READ_TRACK_DATA, (reader, data) => reader.trackData(data)],
]);

type Write = (writer: EckdWriter, data: ChannelData, multi: boolean) => Promise<number>;
const WRITES: ReadonlyMap<number, Write> = new Map<number, Write>([
  [CMD.WRITE_DATA, (writer, data) => writer.update(data, false)],
  [CMD.WRITE_KEY_DATA, (writer, data) => writer.update(data, true)],
  [CMD.WRITE_CKD, (writer, data, multi) => writer.format(data, multi)],
  [CMD.ERASE, (writer, data) => writer.erase(data)],
  [CMD.WRITE_HOME_ADDRESS, (writer, data) => writer.home(data)],
  [CMD.WRITE_HOME_ADDRESS_CKD, (writer, data) => writer.home(data)],
  [CMD.WRITE_R0, (writer, data) => writer.r0(data)],
  [CMD.WRITE_FULL_TRACK, (writer, data) => writer.track(data)],
  [CMD.WRITE_TRACK_DATA, (writer, data) => writer.trackData(data)],
]);

/** A locate record extended of which `begun` has been taken, with the parameter that it announces. */
function fetchLocate(data: ChannelData, begun: Uint8Array): Uint8Array {
  const missing = ECKD_LOCATE_EXTENDED_SIZE - begun.length;
  const fixed = missing > 0 ? Uint8Array.of(...begun, ...fetchBytes(data, missing)) : begun;
  if (fixed.length < ECKD_LOCATE_EXTENDED_SIZE) throw reject(REJECT.SHORT);
  const size = extendedParameterSize(fixed);
  if (size === 0) return fixed;
  const parameter = fetchBytes(data, size);
  if (parameter.length < size) throw reject(REJECT.SHORT);
  return Uint8Array.of(...fixed, ...parameter);
}

/** Node descriptors of device and control unit; the rest of the 256 bytes says nothing. */
function configuration(): Uint8Array {
  const bytes = new Uint8Array(CONFIGURATION_SIZE);
  bytes.set([0xc4, 0x01, 0x01, 0x00], 0);
  bytes.set(new TextEncoder().encode('  3390'), 4);
  bytes.set([0xc4, 0x02, 0x00, 0x00], 64);
  bytes[224] = 0x80;
  return bytes;
}
