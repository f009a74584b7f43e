/**
 * Commands and parameters of a 3390 behind a 3990. All words are big-endian.
 * Source: Linux dasd_eckd.h (layouts); IBM 3390 and 3990 descriptions (meanings).
 */

export const ECKD_COMMAND = {
  READ_IPL: 0x02,
  NOP: 0x03,
  SENSE: 0x04,
  WRITE_DATA: 0x05,
  READ_DATA: 0x06,
  SEEK: 0x07,
  WRITE_HOME_ADDRESS: 0x09,
  READ_HOME_ADDRESS_ECKD: 0x0a,
  SEEK_CYLINDER: 0x0b,
  WRITE_KEY_DATA: 0x0d,
  READ_KEY_DATA: 0x0e,
  ERASE: 0x11,
  READ_COUNT: 0x12,
  RECALIBRATE: 0x13,
  UNCONDITIONAL_RESERVE: 0x14,
  WRITE_R0: 0x15,
  READ_R0: 0x16,
  WRITE_HOME_ADDRESS_CKD: 0x19,
  READ_HOME_ADDRESS: 0x1a,
  SEEK_HEAD: 0x1b,
  WRITE_CKD: 0x1d,
  READ_CKD: 0x1e,
  SET_FILE_MASK: 0x1f,
  SET_SECTOR: 0x23,
  PERFORM_SUBSYSTEM_FUNCTION: 0x27,
  SEARCH_KEY_EQUAL: 0x29,
  SEARCH_ID_EQUAL: 0x31,
  SENSE_PATH_GROUP: 0x34,
  SEARCH_HOME_ADDRESS: 0x39,
  READ_SUBSYSTEM_DATA: 0x3e,
  LOCATE_RECORD: 0x47,
  LOCATE_RECORD_EXTENDED: 0x4b,
  SEARCH_ID_HIGH: 0x51,
  SENSE_SUBSYSTEM_STATUS: 0x54,
  READ_MULTIPLE_CKD: 0x5e,
  DEFINE_EXTENT: 0x63,
  READ_DEVICE_CHARACTERISTICS: 0x64,
  SEARCH_ID_EQUAL_HIGH: 0x71,
  RELEASE: 0x94,
  WRITE_FULL_TRACK: 0x95,
  WRITE_TRACK_DATA: 0xa5,
  READ_TRACK_DATA: 0xa6,
  SET_PATH_GROUP: 0xaf,
  RESERVE: 0xb4,
  READ_TRACK: 0xde,
  SENSE_ID: 0xe4,
  PREFIX: 0xe7,
  PREFIX_READ: 0xea,
  DEFINE_SUBSYSTEM_OPERATION: 0xf7,
  RESET_SUMMARY_UNIT_CHECK: 0xf9,
  READ_CONFIGURATION: 0xfa,
} as const;

/** With this bit a read, write or search goes on with the next track. */
export const MULTI_TRACK = 0x80;
/** Commands that know the bit. */
export const MULTI_TRACK_COMMANDS: ReadonlySet<number> = new Set([
  0x05, 0x06, 0x0d, 0x0e, 0x12, 0x1d, 0x1e, 0x16, 0x1a, 0x29, 0x31, 0x51, 0x71, 0x39,
]);

/** A track by cylinder and head. */
export interface TrackAddress {
  readonly cylinder: number;
  readonly head: number;
}

/** `permission`: mask bits 7:6. */
export interface EckdExtent {
  readonly permission: number;
  readonly begin: TrackAddress;
  readonly end: TrackAddress;
}

export const ECKD_EXTENT_SIZE = 16;
export const ECKD_LOCATE_SIZE = 16;
/** Without its extended parameter. */
export const ECKD_LOCATE_EXTENDED_SIZE = 20;
export const PREFIX_EXTENT_AT = 12;
export const PREFIX_LOCATE_AT = 44;
export const PREFIX_SIZE = 64;
/** Validity byte of a prefix: it has an extent; check the base address; the command came by an alias. */
export const PREFIX_VALID = { EXTENT: 0x80, BASE: 0x20, ALIAS: 0x10 } as const;
/** Mask bits 7:6: 0 updates and formats, 1 inhibits writes, 2 updates only, 3 all. */
export const ECKD_PERMISSION = { FORMAT: 0, READ_ONLY: 1, UPDATE: 2, ALL: 3 } as const;
/**
 * Operations of a locate. Those above 0xff are the extended ones of a locate record extended, whose byte 0 says 3f.
 * Source: IBM internal disk subsystem reference, locate record extended; dasd_eckd.c (write track data).
 */
export const ECKD_OPERATION = {
  ORIENT: 0x00,
  WRITE: 0x01,
  FORMAT: 0x03,
  READ: 0x06,
  WRITE_TRACK: 0x0b,
  READ_TRACKS: 0x0c,
  READ_ANY: 0x16,
  WRITE_RECORDS: 0x109,
  READ_RECORDS: 0x10a,
  READ_TRACKSET: 0x10e,
  WRITE_TRACKSET: 0x111,
  WRITE_TRACK_DATA: 0x123,
} as const;
/** Orientation bits 7:6 of a locate: where the head stands when it is done. */
export const ORIENTATION = { COUNT: 0, HOME_ADDRESS: 1, DATA: 2, INDEX: 3 } as const;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The low 4 bits of HH are the head, the others the cylinder's upper bits. */
export function decodeAddress(bytes: Uint8Array, at: number): TrackAddress {
  const view = viewOf(bytes);
  const high = view.getUint16(at + 2);
  return { cylinder: view.getUint16(at) | ((high >> 4) << 16), head: high & 0x0f };
}

function encodeAddress(bytes: Uint8Array, at: number, { cylinder, head }: TrackAddress): void {
  const view = viewOf(bytes);
  view.setUint16(at, cylinder & 0xffff);
  view.setUint16(at + 2, ((cylinder >> 16) << 4) | head);
}

export function encodeEckdExtent({ permission, begin, end }: EckdExtent): Uint8Array {
  const bytes = new Uint8Array(ECKD_EXTENT_SIZE);
  bytes[0] = permission << 6;
  bytes[1] = 0xc0;
  encodeAddress(bytes, 8, begin);
  encodeAddress(bytes, 12, end);
  return bytes;
}

/** @param bytes at least 16 bytes. */
export const decodeEckdExtent = (bytes: Uint8Array): EckdExtent => ({
  permission: (bytes[0] ?? 0) >> 6,
  begin: decodeAddress(bytes, 8),
  end: decodeAddress(bytes, 12),
});

/**
 * `operation`: one of `ECKD_OPERATION`. `count`: records or tracks of the domain; `record`: number to search for.
 * `suffix`: the last command of the domain is a read count. `tracks`: which of the tracks from `seek` on belong to the
 * domain, first one first; empty where the operation has no such map.
 */
export interface EckdLocate {
  readonly orientation: number;
  readonly operation: number;
  readonly count: number;
  readonly seek: TrackAddress;
  readonly search: TrackAddress;
  readonly record: number;
  readonly suffix?: boolean;
  readonly tracks?: readonly boolean[];
}

const EXTENDED = 0x3f;
const SUFFIX = 0x01;
/** Auxiliary bits that a locate record may have: length valid, count suffix. */
const AUXILIARY_KNOWN = 0x81;

/** The 16 bytes of a locate record, or what a locate record extended takes if the operation needs one. */
export function encodeEckdLocate(locate: EckdLocate): Uint8Array {
  const { tracks = [], suffix = false, operation } = locate;
  const extended = operation > 0xff;
  const map = tracks.length === 0 ? 0 : Math.ceil(tracks.length / 8);
  const bytes = new Uint8Array(extended ? ECKD_LOCATE_EXTENDED_SIZE + map : ECKD_LOCATE_SIZE);
  bytes[0] = (locate.orientation << 6) | (extended ? EXTENDED : operation);
  bytes[1] = suffix ? SUFFIX : 0;
  bytes[3] = locate.count;
  encodeAddress(bytes, 4, locate.seek);
  encodeAddress(bytes, 8, locate.search);
  bytes[12] = locate.record;
  if (!extended) return bytes;
  bytes[17] = operation & 0xff;
  viewOf(bytes).setUint16(18, map);
  for (const [index, wanted] of tracks.entries()) {
    const at = ECKD_LOCATE_EXTENDED_SIZE + (index >> 3);
    if (wanted) bytes[at] = (bytes[at] ?? 0) | (0x80 >> (index & 7));
  }
  return bytes;
}

/** What stands in a locate; `reserved`: bits that must be zero are set. @param bytes at least 16 bytes, 20 if byte 0 says 3f. */
export function decodeEckdLocate(bytes: Uint8Array): EckdLocate & { readonly reserved: boolean } {
  const code = (bytes[0] ?? 0) & 0x3f;
  const auxiliary = bytes[1] ?? 0;
  return {
    orientation: (bytes[0] ?? 0) >> 6,
    operation: code === EXTENDED ? 0x100 | (bytes[17] ?? 0) : code,
    count: bytes[3] ?? 0,
    seek: decodeAddress(bytes, 4),
    search: decodeAddress(bytes, 8),
    record: bytes[12] ?? 0,
    suffix: (auxiliary & SUFFIX) !== 0,
    tracks: [...bytes.subarray(ECKD_LOCATE_EXTENDED_SIZE)].flatMap((byte) =>
      Array.from({ length: 8 }, (_, bit) => (byte & (0x80 >> bit)) !== 0),
    ),
    reserved: (auxiliary & ~AUXILIARY_KNOWN) !== 0 || bytes[2] !== 0,
  };
}

/** Bytes that follow the 20 of a locate record extended. @param bytes at least 20 bytes. */
export const extendedParameterSize = (bytes: Uint8Array): number => viewOf(bytes).getUint16(18);

/** A 3390 model 0A behind a 3990 model E9; one more command: read configuration data, 256 bytes. */
export const ECKD_SENSE_ID = Uint8Array.of(0xff, 0x39, 0x90, 0xe9, 0x33, 0x90, 0x0a, 0x00, 0x40, 0xfa, 0x01, 0x00);

/** Cylinders that 16 bits cannot say. */
const LARGE = 0xfffe;

/** The 64 bytes of read device characteristics. Source: struct dasd_eckd_characteristics. */
export function eckdCharacteristics(cylinders: number, heads: number): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = viewOf(bytes);
  view.setUint16(0, 0x3990);
  view.setUint8(2, 0xe9);
  view.setUint16(3, 0x3390);
  view.setUint8(5, 0x0a);
  view.setUint8(10, 0x20);
  view.setUint8(11, 0x26);
  view.setUint16(12, Math.min(cylinders, LARGE));
  view.setUint16(14, heads);
  view.setUint8(16, 224);
  view.setUint8(18, 56_664 >> 8);
  view.setUint8(19, 56_664 & 0xff);
  view.setUint16(20, 16);
  view.setUint8(22, 2);
  bytes.set([34, 19, 9, 6, 116], 23);
  view.setUint32(60, cylinders);
  return bytes;
}
