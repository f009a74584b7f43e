/** Numbers and masks as sysfs writes them. Source: kstrtoul(), ap_parse_mask_str() and ap_hex2bitmap() of the AP bus. */
import { errors } from './errors.js';
import { ApMask, MASK_BITS } from './matrix.js';

/** Decimal, `0x` hexadecimal or `0` octal, as kstrtoul() with base 0 takes it; one newline behind it is allowed. */
const NUMBER = /^(?:0x([0-9a-f]+)|0([0-7]+)|([0-9]+))\n?$/i;
const MASK = /^0x([0-9a-f]{1,64})$/i;
const CHANGE = /^([+-])(\w+)(?:-(\w+))?$/;

/** The index that `text` names. Its size is not checked. @throws AP_NOT_A_NUMBER (EINVAL). */
export function parseIndex(text: string): number {
  const [, hex, octal, decimal] = NUMBER.exec(text) ?? [];
  if (hex !== undefined) return Number.parseInt(hex, 16);
  if (octal !== undefined) return Number.parseInt(octal, 8);
  if (decimal !== undefined) return Number.parseInt(decimal, 10);
  throw errors.NOT_A_NUMBER({ text });
}

/** `0x` and up to 64 hex digits; the first digit holds indices 0 to 3, digits that are missing are zero. @throws AP_BAD_MASK (EINVAL). */
export function parseMask(text: string): ApMask {
  const [, digits] = MASK.exec(text) ?? [];
  if (digits === undefined) throw errors.BAD_MASK({ text });
  return ApMask.from(Buffer.from(digits.padEnd(MASK_BITS / 4, '0'), 'hex'));
}

/**
 * A whole mask (`0x...`), or changes to `from`: `+5`, `-0x10`, `+8-15`, several joined by commas, applied from left to right.
 * @throws AP_BAD_MASK, AP_NOT_A_NUMBER (EINVAL).
 */
export function parseMaskChange(text: string, from: ApMask): ApMask {
  const trimmed = text.replace(/\n$/, '');
  if (!/^[+-]/.test(trimmed)) return parseMask(trimmed);
  let mask = from;
  for (const part of trimmed.split(',')) {
    const [, sign, low, high = low] = CHANGE.exec(part) ?? [];
    if (low === undefined || high === undefined) throw errors.BAD_MASK({ text: part });
    const [first, last] = [parseIndex(low), parseIndex(high)];
    if (first > last || last >= MASK_BITS) throw errors.BAD_MASK({ text: part });
    for (let index = first; index <= last; index++) mask = sign === '+' ? mask.with(index) : mask.without(index);
  }
  return mask;
}
