import { ccwErrors } from './errors.js';

/** One record: its number, and key (0..255 bytes) and data (0..65535 bytes). A record without data is an end of file. */
export interface CkdRecord {
  readonly cylinder: number;
  readonly head: number;
  readonly number: number;
  readonly key: Uint8Array;
  readonly data: Uint8Array;
}

export const COUNT_SIZE = 8;
export const HOME_ADDRESS_SIZE = 5;
const TERMINATOR = new Uint8Array(8).fill(0xff);

/** 3390: bytes a track takes beside its records, and what each part of a record takes. Source: dasd_eckd.c recs_per_track(). */
const TRACK_UNITS = 1729;
const cells = (length: number): number => Math.ceil((length + 6) / 232) + 1;
const units = (length: number): number => Math.ceil((length + 6 * cells(length)) / 34);
const recordUnits = (keyLength: number, dataLength: number): number =>
  10 + (keyLength === 0 ? 0 : 9 + units(keyLength)) + 9 + units(dataLength);

/** Records of equal size that fit on a 3390 track beside R0. */
export const recordsPerTrack = (keyLength: number, dataLength: number): number =>
  Math.floor(TRACK_UNITS / recordUnits(keyLength, dataLength));

/** Whether these records fit on a 3390 track; R0 (8 bytes) is free. */
export const fitsTrack = (records: readonly CkdRecord[]): boolean =>
  records
    .filter(({ number }) => number > 0)
    .reduce((sum, { key, data }) => sum + recordUnits(key.length, data.length), 0) <= TRACK_UNITS;

/** The count area, 8 bytes: CC HH R KL DL. */
export function encodeCount(record: CkdRecord): Uint8Array {
  const view = new DataView(new ArrayBuffer(COUNT_SIZE));
  view.setUint16(0, record.cylinder);
  view.setUint16(2, record.head);
  view.setUint8(4, record.number);
  view.setUint8(5, record.key.length);
  view.setUint16(6, record.data.length);
  return new Uint8Array(view.buffer);
}

/** An empty track: home address and R0. */
export const emptyTrack = (cylinder: number, head: number): readonly CkdRecord[] => [
  { cylinder, head, number: 0, key: new Uint8Array(0), data: new Uint8Array(8) },
];

/**
 * The records of a track image: home address (0 CC HH), then count, key and data of each, then 8 bytes of FF. `place`:
 * for messages. @throws PinionError CCW_BAD_TRACK (EINVAL) for one that belongs elsewhere or breaks off.
 */
export function decodeTrack(bytes: Uint8Array, place: { cylinder: number; head: number }): readonly CkdRecord[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bad = (why: string): Error => ccwErrors.BAD_TRACK({ ...place, why });
  if (view.getUint16(1) !== place.cylinder || view.getUint16(3) !== place.head)
    throw bad('its home address is another');
  const records: CkdRecord[] = [];
  for (let at = HOME_ADDRESS_SIZE; ; ) {
    if (at + COUNT_SIZE > bytes.length) throw bad('it has no end');
    if (isTerminator(bytes.subarray(at))) break;
    const key = at + COUNT_SIZE;
    const data = key + view.getUint8(at + 5);
    const end = data + view.getUint16(at + 6);
    if (end > bytes.length) throw bad(`record ${view.getUint8(at + 4)} reaches behind it`);
    records.push({
      cylinder: view.getUint16(at),
      head: view.getUint16(at + 2),
      number: view.getUint8(at + 4),
      key: bytes.subarray(key, data),
      data: bytes.subarray(data, end),
    });
    at = end;
  }
  if (records.length === 0) throw bad('it has no R0');
  return records;
}

/** Whether these bytes begin with the mark that ends a track. */
export const isTerminator = (bytes: Uint8Array): boolean => TERMINATOR.every((byte, index) => bytes[index] === byte);

/** The bytes of a track, padded with zeros to `size`. @throws PinionError CCW_BAD_TRACK (EINVAL) if they are more. */
export function encodeTrack(
  records: readonly CkdRecord[],
  place: { cylinder: number; head: number },
  size: number,
): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint16(1, place.cylinder);
  view.setUint16(3, place.head);
  let at = HOME_ADDRESS_SIZE;
  for (const piece of [...records.flatMap((record) => [encodeCount(record), record.key, record.data]), TERMINATOR]) {
    if (at + piece.length > size)
      throw ccwErrors.BAD_TRACK({ ...place, why: `its records need more than ${size} bytes` });
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
