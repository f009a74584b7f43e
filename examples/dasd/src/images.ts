import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CkdRecord,
  ECKD_COMMAND,
  emptyTrack,
  encodeTrack,
  HEADS_3390,
  herculesHeader,
  recordsPerTrack,
  TRACK_SIZE_3390,
} from '@pinion/ccw';
import { type CopyProgram, encodeCopyProgram } from '@pinion/vm';

const CYLINDERS = 8;
export const RECORD = 4096;
export const FBA_BLOCKS = 65_536;
/** Where the program is loaded to. */
const PROGRAM_AT = 0x2000;
const NO_KEY = new Uint8Array(0);

/** The dataset: records of 4 KiB from cylinder 1 on. */
export const PROGRAM: CopyProgram = { from: { cylinder: 1, head: 0 }, first: 1, count: 1000, size: RECORD, block: 128 };

/** What stands in record `index` of the dataset. */
export const recordData = (index: number): Uint8Array =>
  Uint8Array.from({ length: RECORD }, (_, at) => (index * 7 + at * 13 + (at >> 8)) & 0xff);

/** PSW, a CCW that reads the program, a CCW that goes on there. */
function iplRecord(size: number): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0008_0000);
  view.setUint32(4, 0x8000_0000 | PROGRAM_AT);
  view.setUint32(8, (ECKD_COMMAND.READ_DATA << 24) | PROGRAM_AT);
  view.setUint32(12, (0x20 << 24) | size);
  return bytes;
}

/** Writes an ECKD image in Hercules' format that can be IPLed, and an empty FBA image. @returns their paths. */
export function makeImages(folder: string): { readonly eckd: string; readonly fba: string } {
  const program = encodeCopyProgram(PROGRAM);
  const perTrack = recordsPerTrack(0, RECORD);
  const tracks: Uint8Array[] = [herculesHeader()];
  for (let track = 0; track < CYLINDERS * HEADS_3390; track += 1) {
    const place = { cylinder: Math.floor(track / HEADS_3390), head: track % HEADS_3390 };
    const records: CkdRecord[] = [...emptyTrack(place.cylinder, place.head)];
    const add = (data: Uint8Array): void => void records.push({ ...place, number: records.length, key: NO_KEY, data });
    if (track === 0) for (const data of [iplRecord(program.length), program]) add(data);
    const first = (track - HEADS_3390) * perTrack;
    for (
      let index = Math.max(first, 0);
      track >= HEADS_3390 && index < Math.min(first + perTrack, PROGRAM.count);
      index += 1
    )
      add(recordData(index));
    tracks.push(encodeTrack(records, place, TRACK_SIZE_3390));
  }
  const [eckd, fba] = [join(folder, 'eckd.ckd'), join(folder, 'fba.img')];
  writeFileSync(eckd, Buffer.concat(tracks));
  writeFileSync(fba, new Uint8Array(FBA_BLOCKS * 512));
  return { eckd, fba };
}
