/**
 * Commands and parameters of fixed-block disks. All words are big-endian.
 * Source: Linux dasd_fba.h (layouts); IBM 9336 and 3370 descriptions (meanings).
 */

export const FBA_COMMAND = {
  NOP: 0x03,
  SENSE: 0x04,
  WRITE: 0x41,
  READ: 0x42,
  LOCATE: 0x43,
  DEFINE_EXTENT: 0x63,
  READ_DEVICE_CHARACTERISTICS: 0x64,
  SENSE_ID: 0xe4,
} as const;

/** Operation of a locate. */
export const FBA_OPERATION = { WRITE: 0x5, READ: 0x6, VERIFY: 0x8 } as const;

/** Who may write inside an extent: mask bits 7:6. 3 allows as much as 0. */
export const FBA_PERMISSION = { UPDATE: 0, READ_ONLY: 1, NO_DATA: 2, ALL: 3 } as const;

/**
 * Blocks of a disk, and the numbers by which a program calls them. `locator`: first block on the disk; `begin`..`end`
 * (closed): their relative numbers; `blockSize`: bytes, 0 for the disk's own.
 */
export interface FbaExtent {
  readonly permission: number;
  readonly blockSize: number;
  readonly locator: number;
  readonly begin: number;
  readonly end: number;
}

export const EXTENT_SIZE = 16;

export function encodeExtent(extent: FbaExtent): Uint8Array {
  const bytes = new Uint8Array(EXTENT_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, extent.permission << 6);
  view.setUint16(2, extent.blockSize);
  view.setUint32(4, extent.locator);
  view.setUint32(8, extent.begin);
  view.setUint32(12, extent.end);
  return bytes;
}

/** @param bytes 16 bytes. */
export function decodeExtent(bytes: Uint8Array): FbaExtent {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    permission: view.getUint8(0) >> 6,
    blockSize: view.getUint16(2),
    locator: view.getUint32(4),
    begin: view.getUint32(8),
    end: view.getUint32(12),
  };
}

/** The blocks of the next transfer. `block`: relative number of the first; `count`: blocks. */
export interface FbaLocate {
  readonly operation: number;
  readonly count: number;
  readonly block: number;
}

export const LOCATE_SIZE = 8;

export function encodeLocate(locate: FbaLocate): Uint8Array {
  const bytes = new Uint8Array(LOCATE_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, locate.operation);
  view.setUint16(2, locate.count);
  view.setUint32(4, locate.block);
  return bytes;
}

/** @param bytes 8 bytes. */
export function decodeLocate(bytes: Uint8Array): FbaLocate {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { operation: view.getUint8(0) & 0x0f, count: view.getUint16(2), block: view.getUint32(4) };
}

/** What a 9336 model 10 behind a 6310 model 80 answers to sense ID. */
export const FBA_SENSE_ID = Uint8Array.of(0xff, 0x63, 0x10, 0x80, 0x93, 0x36, 0x10, 0x00);

const CHARACTERISTICS_SIZE = 32;
/** Burst mode, data chaining. */
const MODE = 0x30;
const CLASS_FBA = 0x21;
const TYPE_9336 = 0x11;
const BLOCKS_PER_CYLINDER = 63;
const BLOCKS_PER_POSITION = 315;

/** What a disk of `blocks` blocks answers to read device characteristics. */
export function deviceCharacteristics(blockSize: number, blocks: number): Uint8Array {
  const bytes = new Uint8Array(CHARACTERISTICS_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set([MODE, 0, CLASS_FBA, TYPE_9336]);
  view.setUint16(4, blockSize);
  view.setUint32(6, BLOCKS_PER_CYLINDER);
  view.setUint32(10, BLOCKS_PER_POSITION);
  view.setUint32(14, blocks);
  return bytes;
}
