/**
 * A video BIOS table as i915's parser wants it: header, one data block header, and the general definitions with one DisplayPort
 * child for each of the ports A to D. Source: intel_vbt_defs.h; i915 gvt opregion.c.
 */

const VBT = { SIGNATURE: '$VBT', VERSION: 155, HEADER: 48 } as const;
/** Version 186 has child devices of 33 bytes. */
const BDB = { SIGNATURE: 'BIOS_DATA_BLOCK ', VERSION: 186, HEADER: 22 } as const;
const BLOCK_HEADER = 3;
const GENERAL_DEFINITIONS = 2;
/** Bytes of the general definitions before their children. */
const DEFINITIONS = 5;
const CHILD_SIZE = 33;
/** Offsets in a child device. */
const CHILD = { HANDLE: 0, TYPE: 2, PORT: 16, SUPPORT: 24, AUX: 25, FLAGS: 27 } as const;
const TYPE_DISPLAY_PORT = 0x68c6;
const SUPPORTS_DISPLAY_PORT = 2;
const INTEGRATED_ENCODER = 0x20;
const CHECKSUM = 26;

/** Handle, port and AUX channel of ports A to D. */
const PORTS: readonly (readonly [handle: number, port: number, aux: number])[] = [
  [0x04, 10, 0x40],
  [0x40, 7, 0x10],
  [0x20, 8, 0x20],
  [0x10, 9, 0x30],
];

const BLOCK_SIZE = DEFINITIONS + PORTS.length * CHILD_SIZE;
/** Bytes of the table. */
export const VBT_SIZE = VBT.HEADER + BDB.HEADER + BLOCK_HEADER + BLOCK_SIZE;

/** The table; the sum of its bytes is zero. */
export function makeVbt(): Uint8Array {
  const bytes = new Uint8Array(VBT_SIZE);
  const view = new DataView(bytes.buffer);
  putText(bytes, 0, VBT.SIGNATURE);
  view.setUint16(20, VBT.VERSION, true);
  view.setUint16(22, VBT.HEADER, true);
  view.setUint16(24, VBT_SIZE, true);
  view.setUint32(28, VBT.HEADER, true);
  putDataBlocks(bytes.subarray(VBT.HEADER));
  bytes[CHECKSUM] = -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return bytes;
}

function putDataBlocks(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  putText(bytes, 0, BDB.SIGNATURE);
  view.setUint16(16, BDB.VERSION, true);
  view.setUint16(18, BDB.HEADER, true);
  view.setUint16(20, bytes.length, true);
  view.setUint8(BDB.HEADER, GENERAL_DEFINITIONS);
  view.setUint16(BDB.HEADER + 1, BLOCK_SIZE, true);
  const block = BDB.HEADER + BLOCK_HEADER;
  view.setUint8(block + DEFINITIONS - 1, CHILD_SIZE);
  for (const [index, [handle, port, aux]] of PORTS.entries()) {
    const child = block + DEFINITIONS + index * CHILD_SIZE;
    view.setUint16(child + CHILD.HANDLE, handle, true);
    view.setUint16(child + CHILD.TYPE, TYPE_DISPLAY_PORT, true);
    view.setUint8(child + CHILD.PORT, port);
    view.setUint8(child + CHILD.SUPPORT, SUPPORTS_DISPLAY_PORT);
    view.setUint8(child + CHILD.AUX, aux);
    view.setUint8(child + CHILD.FLAGS, INTEGRATED_ENCODER);
  }
}

/** Writes `text` as ASCII at `at`. */
export function putText(bytes: Uint8Array, at: number, text: string): void {
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
}
