import type { CkdRecord } from './ckd-track.js';
import type { CkdVolume } from './ckd-volume.js';
import { SENSE0, SENSE1 } from './control-unit.js';
import {
  decodeEckdExtent,
  decodeEckdLocate,
  ECKD_EXTENT_SIZE,
  ECKD_LOCATE_SIZE,
  ECKD_OPERATION,
  type EckdExtent,
  ORIENTATION,
  type TrackAddress,
} from './eckd-wire.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;

/** Sense byte 1 of a 3390. */
export const TRACK_SENSE = { INVALID_FORMAT: 0x40, END_OF_CYLINDER: 0x20 } as const;

/** Ends a command with a unit check and these sense bytes. */
export class Check extends Error {
  readonly byte0: number;
  readonly byte1: number;

  constructor(byte0: number, byte1 = 0) {
    super(`sense ${byte0.toString(16)} ${byte1.toString(16)}`);
    this.byte0 = byte0;
    this.byte1 = byte1;
  }
}

export const reject = (): Check => new Check(SENSE0.COMMAND_REJECT);

/** How much of the current record has passed under the head. */
export type Passed = 'count' | 'key' | 'all';

/** What a locate allows until `left` records are done. */
export interface Domain {
  readonly operation: number;
  left: number;
}

/** Where the head is: on a track, over its record `index` (-1: before R0). */
export interface Head extends TrackAddress {
  records: readonly CkdRecord[];
  index: number;
  passed: Passed;
  /** Index points that a search has met since it began. */
  turns: number;
}

/**
 * Where a 3390's head stands and what the program may do there: extent, domain of a locate, track, record. All refusals
 * are `Check`s.
 */
export class EckdPosition {
  extent: EckdExtent | undefined;
  domain: Domain | undefined;
  head: Head | undefined;
  address: TrackAddress = { cylinder: 0, head: 0 };
  /** A search has found its record, so that it may be written. */
  matched = false;
  readonly #volume: CkdVolume;

  constructor(volume: CkdVolume) {
    this.#volume = volume;
  }

  /** A new program starts: the arm stays where it is. */
  begin(): void {
    this.extent = undefined;
    this.domain = undefined;
    this.head = undefined;
    this.matched = false;
  }

  home(): void {
    this.address = { cylinder: 0, head: 0 };
  }

  defineExtent(bytes: Uint8Array): number {
    if (bytes.length < ECKD_EXTENT_SIZE || this.extent !== undefined) throw reject();
    const extent = decodeEckdExtent(bytes);
    if (this.#number(extent.begin) > this.#number(extent.end) || !this.#exists(extent.end)) throw reject();
    this.extent = extent;
    return DONE;
  }

  async locate(bytes: Uint8Array): Promise<number> {
    if (bytes.length < ECKD_LOCATE_SIZE || this.extent === undefined) throw reject();
    const { orientation, operation, count, seek, search, record } = decodeEckdLocate(bytes);
    if (count === 0) throw reject();
    const known: readonly number[] = Object.values(ECKD_OPERATION);
    if (!known.includes(operation)) throw reject();
    this.seek(seek);
    const head = await this.load();
    this.domain = { operation, left: count };
    if (
      orientation === ORIENTATION.HOME_ADDRESS ||
      orientation === ORIENTATION.INDEX ||
      operation === ECKD_OPERATION.READ_TRACKS
    )
      return DONE;
    const index = head.records.findIndex(
      (one) =>
        one.number === record && one.cylinder === (search.cylinder & 0xffff) && (one.head & 0x0f) === search.head,
    );
    if (index < 0) throw new Check(0, SENSE1.NO_RECORD);
    head.index = index;
    head.passed = 'count';
    this.matched = true;
    return DONE;
  }

  seek(to: TrackAddress): number {
    if (!this.#exists(to)) throw reject();
    this.#checkInside(to);
    this.address = { cylinder: to.cylinder, head: to.head };
    this.head = undefined;
    this.domain = undefined;
    this.matched = false;
    return DONE;
  }

  #number = ({ cylinder, head }: TrackAddress): number => cylinder * this.#volume.heads + head;

  #exists({ cylinder, head }: TrackAddress): boolean {
    return cylinder < this.#volume.cylinders && head < this.#volume.heads;
  }

  #checkInside(track: TrackAddress): void {
    const extent = this.extent;
    if (extent === undefined) return;
    const at = this.#number(track);
    if (at < this.#number(extent.begin) || at > this.#number(extent.end)) throw new Check(0, SENSE1.FILE_PROTECTED);
  }

  /** The track under the head, read once per seek. */
  async load(): Promise<Head> {
    if (this.head !== undefined) return this.head;
    const { cylinder, head } = this.address;
    const records = await this.#volume.readTrack(cylinder, head);
    this.head = { cylinder, head, records, index: -1, passed: 'all', turns: 0 };
    return this.head;
  }

  /** The next track of a multi-track operation. */
  async nextTrack(): Promise<Head> {
    const { cylinder, head } = this.address;
    const domain = this.domain;
    const last = head + 1 >= this.#volume.heads;
    if (last && domain === undefined) throw new Check(0, TRACK_SENSE.END_OF_CYLINDER);
    const to = last ? { cylinder: cylinder + 1, head: 0 } : { cylinder, head: head + 1 };
    if (!this.#exists(to)) throw new Check(0, TRACK_SENSE.END_OF_CYLINDER);
    this.seek(to);
    this.domain = domain;
    const found = await this.load();
    found.index = 0;
    return found;
  }

  /** The head goes on to the next record behind R0; around the track, or to the next one. */
  async advance(multi: boolean, from: 'record' | 'search'): Promise<Head> {
    let head = await this.load();
    head.index += 1;
    if (head.index === 0 && from === 'record') head.index = 1;
    for (let tries = 0; head.index >= head.records.length; tries += 1) {
      if (multi || this.domain !== undefined) {
        head = await this.nextTrack();
        head.index = from === 'search' ? 0 : 1;
      } else {
        head.turns += 1;
        head.index = from === 'search' ? 0 : 1;
      }
      if (head.turns > 1 || tries > this.#volume.heads) throw new Check(0, SENSE1.NO_RECORD);
    }
    return head;
  }

  /** A domain has so many commands of its kind; then another locate is needed. */
  useDomain(...operations: readonly number[]): void {
    const domain = this.domain;
    if (domain === undefined) return;
    if (domain.left === 0 || !operations.includes(domain.operation)) throw reject();
    domain.left -= 1;
  }
}
