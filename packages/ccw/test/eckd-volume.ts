import {
  CCW_FLAG,
  type Ccw,
  type CcwDevice,
  commandOrb,
  ECKD_COMMAND,
  ECKD_PERMISSION,
  EckdDisk,
  type EckdLocate,
  emptyTrack,
  encodeCcw,
  encodeEckdExtent,
  encodeEckdLocate,
  encodeTrack,
  HEADS_3390,
  herculesHeader,
  type Irb,
  TRACK_SIZE_3390,
} from '@pinion/ccw';
import type { FakeGuest } from './fake-guest.js';
import { AT } from './subchannel.js';

/** A Hercules 3390 image of empty tracks, in memory. */
export function herculesBytes(cylinders: number): Uint8Array {
  const bytes = new Uint8Array(512 + cylinders * HEADS_3390 * TRACK_SIZE_3390);
  bytes.set(herculesHeader());
  for (let track = 0; track < cylinders * HEADS_3390; track += 1) {
    const place = { cylinder: Math.floor(track / HEADS_3390), head: track % HEADS_3390 };
    const records = emptyTrack(place.cylinder, place.head);
    bytes.set(encodeTrack(records, place, TRACK_SIZE_3390), 512 + track * TRACK_SIZE_3390);
  }
  return bytes;
}

/** One command with its data: bytes for the disk, or a number of bytes to read. */
export type Step = readonly [command: number, data: Uint8Array | number, flags?: number];

export interface Outcome {
  readonly irb: Irb;
  /** What each reading step got. */
  readonly reads: readonly Uint8Array[];
}

/** Runs one program of chained commands; each step's data stands 64 KiB after the one before. */
export async function runSteps(guest: FakeGuest, device: CcwDevice, steps: readonly Step[]): Promise<Outcome> {
  const place = (index: number): number => AT.data + index * 0x8000;
  for (const [index, [command, data, flags = 0]] of steps.entries()) {
    const tic = command === 0x08;
    const chained = index < steps.length - 1 && !tic ? CCW_FLAG.CHAIN_COMMAND : 0;
    const count = typeof data === 'number' ? data : data.length;
    if (typeof data !== 'number') guest.poke(place(index), data);
    const ccw: Ccw = tic
      ? { command, flags: 0, count: 0, address: AT.ccws + Number(data) * 8 }
      : { command, flags: flags | chained, count, address: place(index) };
    guest.poke(AT.ccws + index * 8, encodeCcw(ccw));
  }
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  const reads = steps.map(([, data], index) => guest.peek(place(index), typeof data === 'number' ? data : 0));
  return { irb: device.irb, reads };
}

/** Define extent over a whole small volume. */
export const extent = (cylinders: number, permission: number = ECKD_PERMISSION.FORMAT): Step => [
  ECKD_COMMAND.DEFINE_EXTENT,
  encodeEckdExtent({ permission, begin: { cylinder: 0, head: 0 }, end: { cylinder: cylinders - 1, head: 14 } }),
];

export const locate = (where: Pick<EckdLocate, 'operation' | 'count' | 'record'> & Partial<EckdLocate>): Step => {
  const seek = where.seek ?? { cylinder: 0, head: 0 };
  return [ECKD_COMMAND.LOCATE_RECORD, encodeEckdLocate({ orientation: 0, search: seek, ...where, seek })];
};

/** Count, key and data of a record, as write CKD takes them. */
export function ckd(record: {
  cylinder: number;
  head: number;
  number: number;
  key?: Uint8Array;
  data: Uint8Array;
}): Uint8Array {
  const key = record.key ?? new Uint8Array(0);
  const bytes = new Uint8Array(8 + key.length + record.data.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, record.cylinder);
  view.setUint16(2, record.head);
  view.setUint8(4, record.number);
  view.setUint8(5, key.length);
  view.setUint16(6, record.data.length);
  bytes.set(key, 8);
  bytes.set(record.data, 8 + key.length);
  return bytes;
}

export { EckdDisk };
