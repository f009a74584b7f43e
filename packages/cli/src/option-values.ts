import { byteCount, Reader } from '@pinion/vm';
import { cliErrors } from './errors.js';

/** Bytes: `4096`, `0x1000`, `64M`, `4 GiB`, as in VM descriptions. @throws CLI_BAD_VALUE (EINVAL). */
export function parseBytes(option: string, value: string): bigint {
  const reader = new Reader(/^\d+$/.test(value) ? value : JSON.stringify(value), '');
  const bytes = reader.read(byteCount);
  if (bytes !== undefined && reader.problems.length === 0) return bytes;
  throw cliErrors.BAD_VALUE({ option, value, wanted: 'bytes such as 4096, 0x1000 or 64M' });
}

/** A whole number in a closed range. @throws CLI_BAD_VALUE (EINVAL). */
export function parseWhole(option: string, value: string, [min, max]: readonly [number, number]): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && number >= min && number <= max) return number;
  throw cliErrors.BAD_VALUE({ option, value, wanted: `a whole number from ${min} to ${max}` });
}

/** One of a set of names. @throws CLI_BAD_VALUE (EINVAL). */
export function oneOf<const T extends string>(option: string, value: string, known: readonly T[]): T {
  const found = known.find((each) => each === value);
  if (found !== undefined) return found;
  throw cliErrors.BAD_VALUE({ option, value, wanted: `one of ${known.join(', ')}` });
}
