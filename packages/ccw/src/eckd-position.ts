import type { CkdRecord } from './ckd-track.js';
import type { CkdVolume } from './ckd-volume.js';
import { Check, fileProtected, noRecord, REJECT, reject, TRACK_SENSE } from './eckd-check.js';
import { OPERATIONS, type Operation } from './eckd-operations.js';
import {
  decodeEckdExtent,
  decodeEckdLocate,
  ECKD_EXTENT_SIZE,
  ECKD_LOCATE_EXTENDED_SIZE,
  ECKD_LOCATE_SIZE,
  ECKD_OPERATION,
  ECKD_PERMISSION,
  type EckdExtent,
  type EckdLocate,
  ORIENTATION,
  type TrackAddress,
} from './eckd-wire.js';
import { DEVICE_STATUS } from './wire.js';

const DONE = DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;

/** How much of the current record has passed under the head. */
export type Passed = 'count' | 'key' | 'all';

/** What a locate allows until `left` records or tracks are done. */
export interface Domain {
  readonly operation: number;
  /** Its last command is a read count. */
  readonly suffix: boolean;
  /** Tracks of a map that are still to come, after the one under the head. */
  readonly tracks: TrackAddress[];
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
    if (bytes.length < ECKD_EXTENT_SIZE) throw reject(REJECT.SHORT);
    if (this.extent !== undefined) throw reject(REJECT.SEQUENCE);
    const extent = decodeEckdExtent(bytes);
    if (this.#number(extent.begin) > this.#number(extent.end) || !this.#exists(extent.end))
      throw reject(REJECT.PARAMETER);
    this.extent = extent;
    return DONE;
  }

  /** A locate record of 16 bytes, or an extended one with its parameter. Nothing is selected unless all of it is right. */
  async locate(bytes: Uint8Array, kind: 'plain' | 'extended'): Promise<number> {
    if (bytes.length < (kind === 'plain' ? ECKD_LOCATE_SIZE : ECKD_LOCATE_EXTENDED_SIZE)) throw reject(REJECT.SHORT);
    if (this.extent === undefined) throw reject(REJECT.SEQUENCE);
    const locate = decodeEckdLocate(bytes);
    const operation = this.#checkLocate(locate, kind);
    const tracks = operation.mapped === true ? this.#mappedTracks(locate) : [];
    this.seek(locate.seek);
    const head = await this.load();
    await this.#orient(head, locate);
    if (operation.counts !== 'nothing') {
      const { count, suffix = false } = locate;
      this.domain = { operation: locate.operation, suffix, tracks, left: count };
    }
    return DONE;
  }

  #checkLocate(locate: EckdLocate & { readonly reserved: boolean }, kind: 'plain' | 'extended'): Operation {
    const operation = OPERATIONS.get(locate.operation);
    const known = operation !== undefined && (kind === 'extended' || locate.operation <= 0xff);
    if (!known || locate.reserved || !operation.orientations.includes(locate.orientation))
      throw reject(REJECT.PARAMETER);
    const least = operation.counts === 'nothing' ? 0 : locate.suffix === true ? 2 : 1;
    const most = operation.counts === 'nothing' ? 0 : Number.POSITIVE_INFINITY;
    if (locate.count < least || locate.count > most) throw reject(REJECT.PARAMETER);
    if (locate.suffix === true && operation.suffix !== true) throw reject(REJECT.PARAMETER);
    if (operation.writes !== 'nothing' && !this.permits(operation.writes)) throw reject(REJECT.SEQUENCE);
    return operation;
  }

  /** Whether the extent allows to write data, or records. */
  permits(what: 'data' | 'records'): boolean {
    const permission = this.extent?.permission ?? ECKD_PERMISSION.ALL;
    return permission !== ECKD_PERMISSION.READ_ONLY && (what === 'data' || permission !== ECKD_PERMISSION.UPDATE);
  }

  /** The tracks of a map behind its first one, all inside the extent. */
  #mappedTracks({ count, seek, tracks = [] }: EckdLocate): TrackAddress[] {
    const first = this.#number(seek);
    const wanted = tracks.flatMap((one, index) => (one ? [first + index] : []));
    if (tracks[0] !== true || wanted.length !== count) throw reject(REJECT.PARAMETER);
    const addresses = wanted.map((number) => this.#address(number));
    for (const address of addresses) {
      if (!this.#exists(address)) throw fileProtected();
      this.#checkInside(address);
    }
    return addresses.slice(1);
  }

  /** Puts the head where the orientation says. */
  async #orient(head: Head, { orientation, operation, search, record }: EckdLocate): Promise<void> {
    if (orientation === ORIENTATION.INDEX || operation === ECKD_OPERATION.WRITE_TRACKSET) return;
    const here = (cylinder: number, number: number): boolean =>
      cylinder === (search.cylinder & 0xffff) && number === search.head;
    if (orientation === ORIENTATION.HOME_ADDRESS || operation === ECKD_OPERATION.READ_TRACKS) {
      const wanted = orientation === ORIENTATION.HOME_ADDRESS && operation !== ECKD_OPERATION.READ_TRACKS;
      if (wanted && !here(head.cylinder & 0xffff, head.head)) throw noRecord();
      if (operation === ECKD_OPERATION.READ_TRACKS) head.index = this.#indexOf(head, record, here);
      if (orientation === ORIENTATION.HOME_ADDRESS) head.index = -1;
      return;
    }
    head.index = this.#indexOf(head, record, here);
    if (head.index < 0) throw noRecord();
    head.passed = orientation === ORIENTATION.DATA ? 'all' : 'count';
    this.matched = true;
  }

  #indexOf = (head: Head, number: number, here: (cylinder: number, head: number) => boolean): number =>
    head.records.findIndex((one) => one.number === number && here(one.cylinder, one.head & 0x0f));

  seek(to: TrackAddress): number {
    if (!this.#exists(to)) throw reject(REJECT.PARAMETER);
    this.#checkInside(to);
    this.address = { cylinder: to.cylinder, head: to.head };
    this.head = undefined;
    this.domain = undefined;
    this.matched = false;
    return DONE;
  }

  #number = ({ cylinder, head }: TrackAddress): number => cylinder * this.#volume.heads + head;

  #address = (number: number): TrackAddress => ({
    cylinder: Math.floor(number / this.#volume.heads),
    head: number % this.#volume.heads,
  });

  #exists({ cylinder, head }: TrackAddress): boolean {
    return cylinder < this.#volume.cylinders && head < this.#volume.heads;
  }

  #checkInside(track: TrackAddress): void {
    const extent = this.extent;
    if (extent === undefined) return;
    const at = this.#number(track);
    if (at < this.#number(extent.begin) || at > this.#number(extent.end)) throw fileProtected();
  }

  /** The track under the head, read once per seek. */
  async load(): Promise<Head> {
    if (this.head !== undefined) return this.head;
    const { cylinder, head } = this.address;
    const records = await this.#volume.readTrack(cylinder, head);
    this.head = { cylinder, head, records, index: -1, passed: 'all', turns: 0 };
    return this.head;
  }

  /** The next track of a multi-track operation: of the domain's map, or the one behind. R0 is under the head then. */
  async nextTrack(): Promise<Head> {
    const { domain, address } = this;
    const mapped = domain?.tracks.shift();
    const last = address.head + 1 >= this.#volume.heads;
    if (mapped === undefined && last && domain === undefined) throw new Check(0, TRACK_SENSE.END_OF_CYLINDER);
    const to = mapped ?? this.#address(this.#number(address) + 1);
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
      if (head.turns > 1 || tries > this.#volume.heads) throw noRecord();
    }
    return head;
  }

  /** A domain has so many commands of its kind; then another locate is needed. `count`: records or tracks of this one. */
  useDomain(operations: readonly number[], count = 1): void {
    const domain = this.domain;
    if (domain === undefined) return;
    const suffixed = domain.suffix && domain.left === 1;
    if (domain.left < count || suffixed || !operations.includes(domain.operation)) throw reject(REJECT.SEQUENCE);
    domain.left -= count;
  }

  /** The read count that ends a domain. @returns false if this domain has none, or not yet. */
  useSuffix(): boolean {
    const domain = this.domain;
    if (domain === undefined || !domain.suffix || domain.left !== 1) return false;
    domain.left = 0;
    return true;
  }

  /** Commands about the disk itself have no place in a domain. */
  leaveDomain(): void {
    if ((this.domain?.left ?? 0) > 0) throw reject(REJECT.SEQUENCE);
  }
}
