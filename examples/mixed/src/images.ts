import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { paintScene, SCENE } from './scene.js';

const BLOCK = 512;
/** What block 0 of the picture's disk says: magic, width, height, first block of the pixels; little endian. */
export const PICTURE_MAGIC = 'PINIONPX';
const PIXELS_AT = 8;
const MIB = 1 << 20;
const RESULT_BYTES = 8 * MIB;
/** The NVMe disk: it begins with the picture; a copy goes to `COPY_AT`. Bytes. */
const ARCHIVE_BYTES = 64 * MIB;
export const ARCHIVE = 'archive.img';
/** The passthrough disk. */
export const RESULT = 'result.img';
export const COPY_AT = 16 * MIB;

/**
 * Makes the disk images that the VM's description names: the DASD with the picture, an empty disk for the result, and the
 * archive with the picture.
 * @returns the picture.
 */
export function makeImages(folder: string): Uint8Array {
  mkdirSync(folder, { recursive: true });
  const pixels = paintScene();
  const image = new Uint8Array(PIXELS_AT * BLOCK + Math.ceil(pixels.length / BLOCK) * BLOCK);
  const header = new DataView(image.buffer);
  image.set(new TextEncoder().encode(PICTURE_MAGIC));
  header.setUint32(8, SCENE.width, true);
  header.setUint32(12, SCENE.height, true);
  header.setUint32(16, PIXELS_AT, true);
  image.set(pixels, PIXELS_AT * BLOCK);
  writeFileSync(join(folder, 'picture.fba'), image);
  writeFileSync(join(folder, RESULT), new Uint8Array(RESULT_BYTES));
  writeFileSync(join(folder, ARCHIVE), pixels);
  truncateSync(join(folder, ARCHIVE), ARCHIVE_BYTES);
  return pixels;
}
