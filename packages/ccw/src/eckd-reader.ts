import { type CkdRecord, COUNT_SIZE, encodeCount, HOME_ADDRESS_SIZE } from './ckd-track.js';
import { type ChannelData, fetchBytes, storeBytes } from './control-unit.js';
import { noRecord, REJECT, reject } from './eckd-check.js';
import type { EckdPosition, Head } from './eckd-position.js';
import { ECKD_OPERATION as OP, type TrackAddress } from './eckd-wire.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
const FOUND = DONE | DEVICE_STATUS.MODIFIER;
const END_OF_FILE = DONE | DEVICE_STATUS.UNIT_EXCEPTION;
const IPL_RECORD = 1;
const END_OF_TRACK = new Uint8Array(COUNT_SIZE).fill(0xff);
/** Domains in which records, or tracks, are read. */
const READS_RECORDS = [OP.READ, OP.READ_ANY, OP.READ_RECORDS];
const READS_TRACKS = [OP.READ_TRACKS, OP.READ_ANY, OP.READ_TRACKSET];

type Part = 'count' | 'key' | 'data';

/** The searches and reads of a 3390. All answer device status; refusals are `Check`s. */
export class EckdReader {
  readonly #at: EckdPosition;

  constructor(at: EckdPosition) {
    this.#at = at;
  }

  // --- searching

  /** Compares the next record's count area with what the program gives. */
  async searchId(multi: boolean, data: ChannelData, fits: (order: number) => boolean): Promise<number> {
    const wanted = fetchBytes(data, 5);
    const head = await this.#at.advance(multi, 'search');
    const record = head.records[head.index];
    if (record === undefined || wanted.length === 0) throw reject(REJECT.SHORT);
    head.passed = 'count';
    return this.#found(head, fits(compare(encodeCount(record).subarray(0, wanted.length), wanted)));
  }

  /** Compares the key of the record whose count has passed, else of the next one. */
  async searchKey(multi: boolean, data: ChannelData): Promise<number> {
    const loaded = await this.#at.load();
    const head = loaded.passed === 'count' ? loaded : await this.#at.advance(multi, 'record');
    const record = head.records[head.index];
    const wanted = fetchBytes(data, record?.key.length ?? 0);
    head.passed = 'key';
    const equal =
      record !== undefined && wanted.length > 0 && compare(record.key.subarray(0, wanted.length), wanted) === 0;
    return this.#found(head, equal);
  }

  async searchHome(data: ChannelData): Promise<number> {
    const wanted = fetchBytes(data, 4);
    const head = await this.#at.load();
    head.index = -1;
    return compare(homeAddress(head).subarray(1), wanted) === 0 ? FOUND : DONE;
  }

  #found(head: Head, found: boolean): number {
    this.#at.matched = found;
    if (!found) return DONE;
    head.turns = 0;
    return FOUND;
  }

  // --- reading

  async ipl(data: ChannelData): Promise<number> {
    this.#at.seek({ cylinder: 0, head: 0 });
    const head = await this.#at.load();
    return this.#passed(
      head,
      head.records.findIndex(({ number }) => number === IPL_RECORD),
      (record) => storeBytes(data, record.data),
    );
  }

  async home(data: ChannelData): Promise<number> {
    this.#at.useDomain([OP.READ_ANY, OP.READ_RECORDS]);
    const head = await this.#at.load();
    head.index = -1;
    storeBytes(data, homeAddress(head));
    return DONE;
  }

  async r0(data: ChannelData): Promise<number> {
    this.#at.useDomain([OP.READ_ANY, OP.READ_RECORDS]);
    return this.#passed(await this.#at.load(), 0, (record) =>
      storeBytes(data, joined([encodeCount(record), record.key, record.data])),
    );
  }

  #passed(head: Head, index: number, store: (record: CkdRecord) => void): number {
    const record = head.records[index];
    if (record === undefined) throw noRecord();
    head.index = index;
    head.passed = 'all';
    store(record);
    return DONE;
  }

  /** The current record if its wanted part has not passed yet, else the next; `next`: always the next. */
  async record(multi: boolean, data: ChannelData, what: { next: boolean; parts: readonly Part[] }): Promise<number> {
    const { parts } = what;
    const suffix = parts[0] === 'count' && parts.length === 1 && this.#at.useSuffix();
    if (!suffix) this.#at.useDomain(READS_RECORDS);
    const loaded = await this.#at.load();
    const pending =
      loaded.index >= 0 && (loaded.passed === 'count' || (loaded.passed === 'key' && parts[0] === 'data'));
    const head = pending && !what.next ? loaded : await this.#at.advance(multi, 'record');
    const record = head.records[head.index];
    if (record === undefined) throw noRecord();
    head.turns = 0;
    head.passed = parts.includes('data') ? 'all' : 'count';
    storeBytes(data, joined(parts.map((part) => (part === 'count' ? encodeCount(record) : record[part]))));
    return record.data.length === 0 && parts.includes('data') ? END_OF_FILE : DONE;
  }

  /** All records behind the current one. */
  async rest(data: ChannelData): Promise<number> {
    const head = await this.#at.load();
    storeBytes(data, image(head.records.slice(Math.max(head.index + 1, 1))));
    this.#pastEnd(head);
    return DONE;
  }

  /** The whole track with R0 and an end mark; the next command takes the next track. */
  async track(data: ChannelData): Promise<number> {
    this.#at.useDomain(READS_TRACKS);
    const head = await this.#trackUnderHead();
    storeBytes(data, joined([image(head.records), END_OF_TRACK]));
    this.#pastEnd(head);
    return DONE;
  }

  /** The data of all records of all tracks of the domain, from the located record on. */
  async trackData(data: ChannelData): Promise<number> {
    const tracks = this.#at.domain?.left ?? 0;
    if (tracks === 0) throw reject(REJECT.SEQUENCE);
    this.#at.useDomain([OP.READ_TRACKS], tracks);
    let head = await this.#trackUnderHead();
    for (let left = tracks; left > 0 && !data.cancelled; left -= 1) {
      storeBytes(data, joined(head.records.slice(Math.max(head.index, 1)).map((record) => record.data)));
      if (left > 1) head = await this.#at.nextTrack();
    }
    this.#pastEnd(head);
    return DONE;
  }

  async #trackUnderHead(): Promise<Head> {
    const head = await this.#at.load();
    return head.index === head.records.length ? this.#at.nextTrack() : head;
  }

  #pastEnd(head: Head): void {
    head.index = head.records.length;
    head.passed = 'all';
  }
}

/** A home address: flag, CC, HH. */
export function homeAddress({ cylinder, head }: TrackAddress): Uint8Array {
  const bytes = new Uint8Array(HOME_ADDRESS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint16(1, cylinder & 0xffff);
  view.setUint16(3, ((cylinder >> 16) << 4) | head);
  return bytes;
}

const image = (records: readonly CkdRecord[]): Uint8Array =>
  joined(records.flatMap((record) => [encodeCount(record), record.key, record.data]));

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
