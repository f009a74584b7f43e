import { statSync } from 'node:fs';
import { file, type Shape } from '../schema.js';

const BLOCK = 512;

/** A raw disk image: a file of whole blocks, at least one. */
export const diskImage: Shape<string> = (place, reader) => {
  const path = file(place, reader);
  if (path === undefined) return undefined;
  const { size } = statSync(path);
  if (size > 0 && size % BLOCK === 0) return path;
  return reader.report(place, `${path} has ${size} bytes; a disk image has whole blocks of ${BLOCK}`);
};
