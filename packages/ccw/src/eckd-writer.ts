import { type CkdRecord, COUNT_SIZE, emptyTrack, fitsTrack, HOME_ADDRESS_SIZE, isTerminator } from './ckd-track.js';
import type { CkdVolume } from './ckd-volume.js';
import { type ChannelData, fetchBytes, SENSE0, SENSE1 } from './control-unit.js';
import { Check, fileProtected, invalidTrack, noRecord, REJECT, reject } from './eckd-check.js';
import type { EckdPosition, Head } from './eckd-position.js';
import { homeAddress } from './eckd-reader.js';
import { ECKD_OPERATION as OP } from './eckd-wire.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
const R0_DATA = 8;
/** A record number has 8 bits. */
const RECORDS_MAX = 256;

/** The writes of a 3390. What a program does not give is zeros. All answer device status; refusals are `Check`s. */
export class EckdWriter {
  readonly #at: EckdPosition;
  readonly #volume: CkdVolume;

  constructor(at: EckdPosition, volume: CkdVolume) {
    this.#at = at;
    this.#volume = volume;
  }

  /** Data, or key and data, of the record that was found. */
  async update(data: ChannelData, withKey: boolean): Promise<number> {
    this.#check('data');
    this.#at.useDomain([OP.WRITE, OP.WRITE_RECORDS, OP.WRITE_TRACK]);
    const loaded = await this.#at.load();
    const inDomain = this.#at.domain !== undefined;
    const wanted = loaded.passed === 'count' || (!withKey && loaded.passed === 'key');
    if (!inDomain && (!wanted || !this.#at.matched)) throw reject(REJECT.SEQUENCE);
    const head = wanted ? loaded : await this.#at.advance(true, 'record');
    const record = head.records[head.index];
    if (record === undefined) throw noRecord();
    const keyLength = withKey ? record.key.length : 0;
    const whole = filled(data, keyLength + record.data.length);
    const key = withKey ? whole.subarray(0, keyLength) : record.key;
    await this.#store(head, head.records.with(head.index, { ...record, key, data: whole.subarray(keyLength) }));
    head.passed = 'all';
    return DONE;
  }

  /** A new record behind the one that was found, or behind R0 of the next track; those behind it are gone. */
  async format(data: ChannelData, nextTrack: boolean): Promise<number> {
    this.#check('records');
    this.#at.useDomain([OP.FORMAT, OP.WRITE_TRACK]);
    const head = nextTrack ? await this.#at.nextTrack() : await this.#at.load();
    if (head.index < 0 || (!this.#at.matched && this.#at.domain === undefined && !nextTrack))
      throw reject(REJECT.SEQUENCE);
    const count = fetchBytes(data, COUNT_SIZE);
    if (count.length < COUNT_SIZE) throw reject(REJECT.SHORT);
    const records = [...head.records.slice(0, head.index + 1), newRecord(count, data)];
    if (!fitsTrack(records)) throw invalidTrack();
    await this.#store(head, records);
    head.index += 1;
    head.passed = 'all';
    this.#at.matched = true;
    return DONE;
  }

  /** Everything behind the record that was found goes. */
  async erase(data: ChannelData): Promise<number> {
    this.#check('records');
    this.#at.useDomain([OP.WRITE_TRACK, OP.FORMAT]);
    const head = await this.#at.load();
    if (!this.#at.matched || head.index < 0) throw reject(REJECT.SEQUENCE);
    fetchBytes(data, COUNT_SIZE);
    await this.#store(head, head.records.slice(0, head.index + 1));
    return DONE;
  }

  /** A home address: it must be the track's own, there are no alternate tracks. The track is empty then. */
  async home(data: ChannelData): Promise<number> {
    this.#check('records');
    this.#at.useDomain([OP.FORMAT]);
    const head = await this.#at.load();
    const given = fetchBytes(data, HOME_ADDRESS_SIZE);
    if (given.length < HOME_ADDRESS_SIZE) throw reject(REJECT.SHORT);
    if (homeAddress(head).some((byte, index) => byte !== given[index])) throw reject(REJECT.PARAMETER);
    await this.#store(head, emptyTrack(head.cylinder & 0xffff, head.head));
    head.index = -1;
    return DONE;
  }

  /** A new R0; the track is empty otherwise. */
  async r0(data: ChannelData): Promise<number> {
    this.#check('records');
    this.#at.useDomain([OP.FORMAT]);
    const head = await this.#at.load();
    const [old] = emptyTrack(head.cylinder & 0xffff, head.head);
    const given = fetchBytes(data, COUNT_SIZE + R0_DATA);
    if (old === undefined || given.length < COUNT_SIZE) throw reject(REJECT.SHORT);
    const bytes = new Uint8Array(R0_DATA);
    bytes.set(given.subarray(COUNT_SIZE));
    await this.#store(head, [{ ...old, data: bytes }]);
    head.index = 0;
    head.passed = 'all';
    this.#at.matched = true;
    return DONE;
  }

  /** A whole track as a read of a track gives it: R0, its records, an end mark; the next command takes the next track. */
  async track(data: ChannelData): Promise<number> {
    this.#check('records');
    if (this.#at.domain === undefined) throw reject(REJECT.SEQUENCE);
    this.#at.useDomain([OP.WRITE_TRACKSET]);
    const loaded = await this.#at.load();
    const head = loaded.index === loaded.records.length ? await this.#at.nextTrack() : loaded;
    const records = fetchTrack(data);
    if (records[0]?.number !== 0 || !fitsTrack(records)) throw invalidTrack();
    await this.#store(head, records);
    head.index = records.length;
    head.passed = 'all';
    return DONE;
  }

  /** The data of all records of all tracks of the domain, from the located record on. */
  async trackData(data: ChannelData): Promise<number> {
    this.#check('data');
    const tracks = this.#at.domain?.left ?? 0;
    if (tracks === 0) throw reject(REJECT.SEQUENCE);
    this.#at.useDomain([OP.WRITE_TRACK_DATA], tracks);
    let head = await this.#at.load();
    for (let left = tracks; left > 0 && !data.cancelled; left -= 1) {
      const from = Math.max(head.index, 1);
      const records = head.records.map((record, index) =>
        index < from ? record : { ...record, data: filled(data, record.data.length) },
      );
      await this.#store(head, records);
      if (left > 1) head = await this.#at.nextTrack();
    }
    head.index = head.records.length;
    head.passed = 'all';
    return DONE;
  }

  async #store(head: Head, records: readonly CkdRecord[]): Promise<void> {
    await this.#volume.writeTrack(head.cylinder, head.head, records);
    head.records = records;
  }

  #check(what: 'data' | 'records'): void {
    if (this.#volume.readOnly) throw new Check(SENSE0.COMMAND_REJECT, SENSE1.WRITE_INHIBITED);
    if (!this.#at.permits(what)) throw fileProtected();
  }
}

/** `length` bytes of the program, zeros where it gives none. */
function filled(data: ChannelData, length: number): Uint8Array {
  const whole = new Uint8Array(length);
  whole.set(fetchBytes(data, length));
  return whole;
}

/** The record that a count area announces, with what follows it. */
function newRecord(count: Uint8Array, data: ChannelData): CkdRecord {
  const view = new DataView(count.buffer, count.byteOffset);
  const keyLength = view.getUint8(5);
  const whole = filled(data, keyLength + view.getUint16(6));
  return {
    cylinder: view.getUint16(0),
    head: view.getUint16(2),
    number: view.getUint8(4),
    key: whole.subarray(0, keyLength),
    data: whole.subarray(keyLength),
  };
}

/** Records up to an end mark, as many bytes as they are and no more. */
function fetchTrack(data: ChannelData): readonly CkdRecord[] {
  const records: CkdRecord[] = [];
  while (records.length < RECORDS_MAX) {
    const count = fetchBytes(data, COUNT_SIZE);
    if (count.length < COUNT_SIZE) throw reject(REJECT.SHORT);
    if (isTerminator(count)) return records;
    records.push(newRecord(count, data));
  }
  throw invalidTrack();
}
