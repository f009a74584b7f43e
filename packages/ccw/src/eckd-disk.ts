import { type Log, PinionError, silentLog } from '@pinion/core';
import { type CkdRecord, COUNT_SIZE, emptyTrack, encodeCount, fitsTrack, HOME_ADDRESS_SIZE } from './ckd-track.js';
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
import { Check, EckdPosition, type Head, reject, TRACK_SENSE } from './eckd-position.js';
import {
  ECKD_COMMAND as CMD,
  decodeAddress,
  ECKD_EXTENT_SIZE,
  ECKD_LOCATE_SIZE,
  ECKD_OPERATION,
  ECKD_PERMISSION,
  ECKD_SENSE_ID,
  eckdCharacteristics,
  MULTI_TRACK,
  MULTI_TRACK_COMMANDS,
  PREFIX_EXTENT_AT,
  PREFIX_LOCATE_AT,
  PREFIX_SIZE,
  type TrackAddress,
} from './eckd-wire.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
const FOUND = DONE | DEVICE_STATUS.MODIFIER;
const CHECKED = DONE | DEVICE_STATUS.UNIT_CHECK;
const END_OF_FILE = DONE | DEVICE_STATUS.UNIT_EXCEPTION;
const NO_SENSE = senseBytes(0);
const CONFIGURATION_SIZE = 256;
const PATH_GROUP_SIZE = 12;
const PATH_GROUP_PARAMETER = 12;
const RESERVE_SENSE = 32;
const IPL_RECORD = 1;

/**
 * A count-key-data disk (3390) on a volume. Programs orient themselves by seek and search loops or by define extent,
 * locate record and prefix, then read and write counts, keys and data; format writes make records. Data goes through a
 * track buffer; a write is on the volume when its command ends. The volume belongs to the caller.
 *
 * Unit checks, sense bytes 0 and 1: 80 00 command reject; 00 08 no record found; 00 20 end of cylinder; 00 40 invalid
 * track format (records do not fit, or the image's track is corrupt); 00 04 file protected (outside of the extent, or
 * the mask forbids it); 80 02 write inhibited; 10 80 equipment check (the image failed).
 * Source: F.1.1 layouts of dasd_eckd.h; 3990 channel commands.
 */
export class EckdDisk implements ControlUnit {
  readonly name: string;
  readonly #volume: CkdVolume;
  readonly #log: Log;
  readonly #at: EckdPosition;
  #sense = NO_SENSE;

  constructor(volume: CkdVolume, options: { readonly log?: Log } = {}) {
    this.name = `eckd ${volume.name}`;
    this.#volume = volume;
    this.#at = new EckdPosition(volume);
    this.#log = options.log ?? silentLog;
  }

  get sense(): Uint8Array {
    return this.#sense;
  }

  reset(): void {
    this.begin();
    this.#sense = NO_SENSE;
    this.#at.home();
  }

  begin(): void {
    this.#at.begin();
  }

  async execute(command: number, data: ChannelData): Promise<number> {
    if (command === CMD.NOP) return DONE;
    if (command === CMD.SENSE) return this.#answer(data, this.#takeSense());
    this.#sense = NO_SENSE;
    try {
      return await this.#execute(command, data);
    } catch (failure) {
      return this.#failed(failure);
    }
  }

  #failed(failure: unknown): number {
    if (failure instanceof Check) {
      this.#sense = senseBytes(failure.byte0, failure.byte1);
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

  async #execute(command: number, data: ChannelData): Promise<number> {
    const multi = (command & MULTI_TRACK) !== 0 && MULTI_TRACK_COMMANDS.has(command & ~MULTI_TRACK);
    const base = multi ? command & ~MULTI_TRACK : command;
    switch (base) {
      case CMD.SENSE_ID:
        return this.#answer(data, ECKD_SENSE_ID);
      case CMD.READ_DEVICE_CHARACTERISTICS:
        return this.#answer(data, eckdCharacteristics(this.#volume.cylinders, this.#volume.heads));
      case CMD.READ_CONFIGURATION:
        return this.#answer(data, configuration());
      case CMD.SENSE_PATH_GROUP:
        return this.#answer(data, new Uint8Array(PATH_GROUP_SIZE));
      case CMD.RESERVE:
      case CMD.RELEASE:
        return this.#answer(data, new Uint8Array(RESERVE_SENSE));
      case CMD.SET_PATH_GROUP:
        return this.#taken(data, PATH_GROUP_PARAMETER);
      case CMD.SET_FILE_MASK:
      case CMD.SET_SECTOR:
        return this.#taken(data, 1);
      case CMD.DEFINE_EXTENT:
        return this.#at.defineExtent(fetchBytes(data, ECKD_EXTENT_SIZE));
      case CMD.LOCATE_RECORD:
      case CMD.LOCATE_RECORD_EXTENDED:
        return this.#at.locate(fetchBytes(data, ECKD_LOCATE_SIZE));
      case CMD.PREFIX:
        return this.#prefix(fetchBytes(data, PREFIX_SIZE));
      case CMD.RECALIBRATE:
        return this.#at.seek({ cylinder: 0, head: 0 });
      case CMD.SEEK:
      case CMD.SEEK_CYLINDER:
      case CMD.SEEK_HEAD:
        return this.#seekCommand(base, fetchBytes(data, 6));
    }
    return this.#onTrack(base, multi, data);
  }

  /** Commands that look at or change records. */
  #onTrack(command: number, multi: boolean, data: ChannelData): Promise<number> {
    switch (command) {
      case CMD.SEARCH_ID_EQUAL:
        return this.#search(multi, fetchBytes(data, 5), (order) => order === 0);
      case CMD.SEARCH_ID_HIGH:
        return this.#search(multi, fetchBytes(data, 5), (order) => order > 0);
      case CMD.SEARCH_ID_EQUAL_HIGH:
        return this.#search(multi, fetchBytes(data, 5), (order) => order >= 0);
      case CMD.SEARCH_KEY_EQUAL:
        return this.#searchKey(multi, data);
      case CMD.SEARCH_HOME_ADDRESS:
        return this.#searchHome(fetchBytes(data, 4));
      case CMD.READ_IPL:
        return this.#readIpl(data);
      case CMD.READ_HOME_ADDRESS:
        return this.#readHome(data);
      case CMD.READ_R0:
        return this.#readR0(data);
      case CMD.READ_COUNT:
        return this.#read(multi, data, { next: true, parts: ['count'] });
      case CMD.READ_KEY_DATA:
        return this.#read(multi, data, { next: false, parts: ['key', 'data'] });
      case CMD.READ_DATA:
        return this.#read(multi, data, { next: false, parts: ['data'] });
      case CMD.READ_CKD:
        return this.#read(multi, data, { next: true, parts: ['count', 'key', 'data'] });
      case CMD.READ_MULTIPLE_CKD:
        return this.#readRest(data, false);
      case CMD.READ_TRACK:
        return this.#readRest(data, true);
      case CMD.WRITE_DATA:
        return this.#update(data, false);
      case CMD.WRITE_KEY_DATA:
        return this.#update(data, true);
      case CMD.WRITE_CKD:
        return this.#format(data);
      case CMD.ERASE:
        return this.#erase(data);
      case CMD.WRITE_R0:
        return this.#writeR0(data);
      default:
        throw reject();
    }
  }

  #answer(data: ChannelData, bytes: Uint8Array): number {
    storeBytes(data, bytes);
    return DONE;
  }

  #taken(data: ChannelData, length: number): number {
    if (fetchBytes(data, length).length < length) throw reject();
    return DONE;
  }

  #takeSense(): Uint8Array {
    const sense = this.#sense;
    this.#sense = NO_SENSE;
    return sense;
  }

  // --- positioning

  async #prefix(bytes: Uint8Array): Promise<number> {
    if (bytes.length < PREFIX_EXTENT_AT + ECKD_EXTENT_SIZE) throw reject();
    const [format = 0, validity = 0] = bytes;
    if (format > 1) throw reject();
    if ((validity & 0x80) !== 0)
      this.#at.defineExtent(bytes.subarray(PREFIX_EXTENT_AT, PREFIX_EXTENT_AT + ECKD_EXTENT_SIZE));
    return format === 1 ? this.#at.locate(bytes.subarray(PREFIX_LOCATE_AT)) : DONE;
  }

  #seekCommand(command: number, bytes: Uint8Array): number {
    if (bytes.length < 6) throw reject();
    const to = decodeAddress(bytes, 2);
    return this.#at.seek(command === CMD.SEEK_HEAD ? { ...to, cylinder: this.#at.address.cylinder } : to);
  }

  // --- searching

  async #search(multi: boolean, wanted: Uint8Array, fits: (order: number) => boolean): Promise<number> {
    const head = await this.#at.advance(multi, 'search');
    const record = head.records[head.index];
    if (record === undefined || wanted.length === 0) throw reject();
    head.passed = 'count';
    this.#at.matched = fits(compare(encodeCount(record).subarray(0, wanted.length), wanted));
    return this.#at.matched ? this.#hit(head) : DONE;
  }

  async #searchKey(multi: boolean, data: ChannelData): Promise<number> {
    const loaded = await this.#at.load();
    const head = loaded.passed === 'count' ? loaded : await this.#at.advance(multi, 'record');
    const record = head.records[head.index];
    const wanted = fetchBytes(data, record?.key.length ?? 0);
    head.passed = 'key';
    this.#at.matched =
      record !== undefined && wanted.length > 0 && compare(record.key.subarray(0, wanted.length), wanted) === 0;
    return this.#at.matched ? this.#hit(head) : DONE;
  }

  async #searchHome(wanted: Uint8Array): Promise<number> {
    const head = await this.#at.load();
    const home = homeAddress(head);
    head.index = -1;
    return compare(home.subarray(1), wanted) === 0 ? FOUND : DONE;
  }

  #hit(head: Head): number {
    head.turns = 0;
    return FOUND;
  }

  // --- reading

  async #readIpl(data: ChannelData): Promise<number> {
    this.#at.seek({ cylinder: 0, head: 0 });
    const head = await this.#at.load();
    const index = head.records.findIndex(({ number }) => number === IPL_RECORD);
    const record = head.records[index];
    if (record === undefined) throw new Check(0, SENSE1.NO_RECORD);
    head.index = index;
    head.passed = 'all';
    return this.#answer(data, record.data);
  }

  async #readHome(data: ChannelData): Promise<number> {
    const head = await this.#at.load();
    head.index = -1;
    return this.#answer(data, homeAddress(head));
  }

  async #readR0(data: ChannelData): Promise<number> {
    const head = await this.#at.load();
    const record = head.records[0];
    if (record === undefined) throw new Check(0, SENSE1.NO_RECORD);
    head.index = 0;
    head.passed = 'all';
    return this.#answer(data, joined([encodeCount(record), record.key, record.data]));
  }

  /** The current record if its wanted part has not passed yet, else the next. */
  async #read(
    multi: boolean,
    data: ChannelData,
    what: { next: boolean; parts: readonly ('count' | 'key' | 'data')[] },
  ): Promise<number> {
    this.#at.useDomain(ECKD_OPERATION.READ, ECKD_OPERATION.READ_ANY);
    const loaded = await this.#at.load();
    const pending =
      loaded.index >= 0 && (loaded.passed === 'count' || (loaded.passed === 'key' && what.parts[0] === 'data'));
    const head = pending && !what.next ? loaded : await this.#at.advance(multi, 'record');
    const record = head.records[head.index];
    if (record === undefined) throw new Check(0, SENSE1.NO_RECORD);
    head.turns = 0;
    head.passed = what.parts.includes('data') ? 'all' : 'count';
    storeBytes(data, joined(what.parts.map((part) => (part === 'count' ? encodeCount(record) : record[part]))));
    return record.data.length === 0 && what.parts.includes('data') ? END_OF_FILE : DONE;
  }

  /** All records from the next on, or the whole track with R0 and an end mark. */
  async #readRest(data: ChannelData, whole: boolean): Promise<number> {
    if (whole) this.#at.useDomain(ECKD_OPERATION.READ_TRACKS, ECKD_OPERATION.READ_ANY);
    const head =
      whole && this.#at.head?.index === this.#at.head?.records.length
        ? await this.#at.nextTrack()
        : await this.#at.load();
    const rest = whole ? head.records : head.records.slice(Math.max(head.index + 1, 1));
    const bytes = joined(rest.flatMap((record) => [encodeCount(record), record.key, record.data]));
    storeBytes(data, whole ? joined([bytes, new Uint8Array(COUNT_SIZE).fill(0xff)]) : bytes);
    head.index = head.records.length;
    head.passed = 'all';
    return DONE;
  }

  // --- writing

  /** Data, or key and data, of the record that was found; what the program does not give is zeros. */
  async #update(data: ChannelData, withKey: boolean): Promise<number> {
    this.#checkWrite(false);
    this.#at.useDomain(ECKD_OPERATION.WRITE);
    const loaded = await this.#at.load();
    const wanted = loaded.passed === 'count' || (!withKey && loaded.passed === 'key');
    if (!wanted && this.#at.domain === undefined) throw reject();
    if (!this.#at.matched && this.#at.domain === undefined) throw reject();
    const head = wanted ? loaded : await this.#at.advance(true, 'record');
    const record = head.records[head.index];
    if (record === undefined) throw new Check(0, SENSE1.NO_RECORD);
    const keyLength = withKey ? record.key.length : 0;
    const given = fetchBytes(data, keyLength + record.data.length);
    const whole = new Uint8Array(keyLength + record.data.length);
    whole.set(given);
    const key = withKey ? whole.subarray(0, keyLength) : record.key;
    await this.#store(head, head.records.with(head.index, { ...record, key, data: whole.subarray(keyLength) }));
    head.passed = 'all';
    return DONE;
  }

  /** A new record behind the one that was found; those behind it are gone. */
  async #format(data: ChannelData): Promise<number> {
    this.#checkWrite(true);
    this.#at.useDomain(ECKD_OPERATION.FORMAT);
    const head = await this.#at.load();
    if (head.index < 0 || (!this.#at.matched && this.#at.domain === undefined)) throw reject();
    const count = fetchBytes(data, COUNT_SIZE);
    if (count.length < COUNT_SIZE) throw reject();
    const view = new DataView(count.buffer, count.byteOffset);
    const [keyLength, dataLength] = [view.getUint8(5), view.getUint16(6)];
    const given = fetchBytes(data, keyLength + dataLength);
    const whole = new Uint8Array(keyLength + dataLength);
    whole.set(given);
    const record = {
      cylinder: view.getUint16(0),
      head: view.getUint16(2),
      number: view.getUint8(4),
      key: whole.subarray(0, keyLength),
      data: whole.subarray(keyLength),
    };
    const records = [...head.records.slice(0, head.index + 1), record];
    if (!fitsTrack(records)) throw new Check(0, TRACK_SENSE.INVALID_FORMAT);
    await this.#store(head, records);
    head.index += 1;
    head.passed = 'all';
    this.#at.matched = true;
    return DONE;
  }

  async #erase(data: ChannelData): Promise<number> {
    this.#checkWrite(true);
    const head = await this.#at.load();
    if (!this.#at.matched || head.index < 0) throw reject();
    fetchBytes(data, COUNT_SIZE);
    await this.#store(head, head.records.slice(0, head.index + 1));
    return DONE;
  }

  /** A new R0; the track is empty otherwise. */
  async #writeR0(data: ChannelData): Promise<number> {
    this.#checkWrite(true);
    const head = await this.#at.load();
    const [old] = emptyTrack(head.cylinder & 0xffff, head.head);
    const given = fetchBytes(data, COUNT_SIZE + 8);
    if (old === undefined || given.length < COUNT_SIZE) throw reject();
    const bytes = new Uint8Array(8);
    bytes.set(given.subarray(COUNT_SIZE));
    await this.#store(head, [{ ...old, data: bytes }]);
    head.index = 0;
    head.passed = 'all';
    this.#at.matched = true;
    return DONE;
  }

  async #store(head: Head, records: readonly CkdRecord[]): Promise<void> {
    await this.#volume.writeTrack(head.cylinder, head.head, records);
    head.records = records;
  }

  #checkWrite(format: boolean): void {
    if (this.#volume.readOnly) throw new Check(SENSE0.COMMAND_REJECT, SENSE1.WRITE_INHIBITED);
    const permission = this.#at.extent?.permission ?? ECKD_PERMISSION.ALL;
    const allowed = permission !== ECKD_PERMISSION.READ_ONLY && !(format && permission === ECKD_PERMISSION.UPDATE);
    if (!allowed) throw new Check(0, SENSE1.FILE_PROTECTED);
  }
}

const homeAddress = ({ cylinder, head }: TrackAddress): Uint8Array => {
  const bytes = new Uint8Array(HOME_ADDRESS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(1, cylinder & 0xffff);
  view.setUint16(3, ((cylinder >> 16) << 4) | head);
  return bytes;
};

/** Node descriptors of device and control unit; the rest of the 256 bytes says nothing. */
function configuration(): Uint8Array {
  const bytes = new Uint8Array(CONFIGURATION_SIZE);
  bytes.set([0xc4, 0x01, 0x01, 0x00], 0);
  bytes.set(new TextEncoder().encode('  3390'), 4);
  bytes.set([0xc4, 0x02, 0x00, 0x00], 64);
  bytes[224] = 0x80;
  return bytes;
}

/** Byte by byte: negative, 0 or positive. */
function compare(a: Uint8Array, b: Uint8Array): number {
  for (const [index, byte] of b.entries()) {
    const difference = (a[index] ?? -1) - byte;
    if (difference !== 0) return difference;
  }
  return 0;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
