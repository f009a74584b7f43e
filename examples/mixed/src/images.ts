import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { paintScene, SCENE } from './scene.js';

const BLOCK = 512;
/** What block 0 of the picture's disk says: magic, width, height, first block of the pixels; little endian. */
export const PICTURE_MAGIC = 'PINIONPX';
const PIXELS_AT = 8;
const RESULT_BYTES = 8 * 1024 * 1024;

/**
 * Makes the two disk images the VM's description names: the DASD with the picture, and an empty disk for the result.
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
  writeFileSync(join(folder, 'result.img'), new Uint8Array(RESULT_BYTES));
  return pixels;
}
