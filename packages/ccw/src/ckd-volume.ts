import { type CkdRecord, decodeTrack, emptyTrack, encodeTrack } from './ckd-track.js';
import type { DiskImage } from './disk-image.js';
import { ccwErrors } from './errors.js';

/** A count-key-data disk by tracks. Cylinders and heads count from 0. */
export interface CkdVolume {
  readonly name: string;
  readonly cylinders: number;
  readonly heads: number;
  readonly readOnly: boolean;
  /** @throws PinionError CCW_BAD_TRACK (EINVAL), and the image's. */
  readTrack(cylinder: number, head: number): Promise<readonly CkdRecord[]>;
  /** Writes the whole track. @throws as the image's `write`, CCW_BAD_TRACK (EINVAL) for too many bytes. */
  writeTrack(cylinder: number, head: number, records: readonly CkdRecord[]): Promise<void>;
}

export const HEADS_3390 = 15;
/** Bytes of a 3390 track in a Hercules image. */
export const TRACK_SIZE_3390 = 56_832;
const HEADER_SIZE = 512;
const HERCULES_MAGIC = 'CKD_P370';
const TYPE_3390 = 0x90;
/** The plain format: no header, every track in a slot of its own; a slot of zeros is an empty track. */
const SLOT_SIZE = 65_536;

/** The first 512 bytes of a Hercules 3390 image. */
export function herculesHeader(): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  bytes.set(new TextEncoder().encode(HERCULES_MAGIC));
  const view = new DataView(bytes.buffer);
  view.setUint32(8, HEADS_3390, true);
  view.setUint32(12, TRACK_SIZE_3390, true);
  view.setUint8(16, TYPE_3390);
  return bytes;
}

/**
 * A disk image as Hercules' tools make and read it (CKD_P370, not compressed, one file).
 * @throws PinionError CCW_BAD_IMAGE (EINVAL) for another format, another disk than a 3390, or a truncated file.
 */
export async function openHerculesVolume(image: DiskImage): Promise<CkdVolume> {
  const bad = (why: string): Error => ccwErrors.BAD_IMAGE({ image: image.name, why });
  if (image.size < HEADER_SIZE) throw bad(`${image.size} bytes hold no header`);
  const header = new Uint8Array(HEADER_SIZE);
  await image.read(0, [header]);
  if (new TextDecoder().decode(header.subarray(0, 8)) !== HERCULES_MAGIC) throw bad('it does not begin with CKD_P370');
  const view = new DataView(header.buffer);
  const heads = view.getUint32(8, true);
  const trackSize = view.getUint32(12, true);
  if (view.getUint8(16) !== TYPE_3390 || heads !== HEADS_3390 || trackSize !== TRACK_SIZE_3390)
    throw bad(`it is no 3390: type ${view.getUint8(16).toString(16)}, ${heads} heads, ${trackSize} bytes per track`);
  const cylinders = (image.size - HEADER_SIZE) / (heads * trackSize);
  if (!Number.isInteger(cylinders) || cylinders < 1) throw bad('it does not end with a whole cylinder');
  return new TrackVolume(image, { cylinders, heads, trackSize, offset: HEADER_SIZE, sparse: false });
}

/**
 * A disk in the plain format: 64 KiB per track, 15 tracks per cylinder; the file may have holes.
 * @throws PinionError CCW_BAD_IMAGE (EINVAL) unless the image is whole cylinders.
 */
export function openSparseVolume(image: DiskImage): CkdVolume {
  const cylinders = image.size / (HEADS_3390 * SLOT_SIZE);
  if (!Number.isInteger(cylinders) || cylinders < 1)
    throw ccwErrors.BAD_IMAGE({ image: image.name, why: `${image.size} bytes are no whole cylinders of 15 × 64 KiB` });
  return new TrackVolume(image, { cylinders, heads: HEADS_3390, trackSize: SLOT_SIZE, offset: 0, sparse: true });
}

interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly trackSize: number;
  readonly offset: number;
  readonly sparse: boolean;
}

class TrackVolume implements CkdVolume {
  readonly name: string;
  readonly cylinders: number;
  readonly heads: number;
  readonly readOnly: boolean;
  readonly #image: DiskImage;
  readonly #geometry: Geometry;

  constructor(image: DiskImage, geometry: Geometry) {
    this.name = image.name;
    this.cylinders = geometry.cylinders;
    this.heads = geometry.heads;
    this.readOnly = image.readOnly;
    this.#image = image;
    this.#geometry = geometry;
  }

  async readTrack(cylinder: number, head: number): Promise<readonly CkdRecord[]> {
    const bytes = new Uint8Array(this.#geometry.trackSize);
    await this.#image.read(this.#position(cylinder, head), [bytes]);
    const empty = this.#geometry.sparse && bytes.subarray(0, 32).every((byte) => byte === 0) && !isFirst(bytes);
    return empty ? emptyTrack(cylinder, head) : decodeTrack(bytes, { cylinder, head });
  }

  async writeTrack(cylinder: number, head: number, records: readonly CkdRecord[]): Promise<void> {
    const bytes = encodeTrack(records, { cylinder, head }, this.#geometry.trackSize);
    await this.#image.write(this.#position(cylinder, head), [bytes]);
  }

  #position(cylinder: number, head: number): number {
    const { offset, heads, trackSize } = this.#geometry;
    return offset + (cylinder * heads + head) * trackSize;
  }
}

/** R0 of a written track says that it has 8 bytes, also on the first one, whose addresses are zeros. */
const isFirst = (bytes: Uint8Array): boolean => bytes[12] === 8;
