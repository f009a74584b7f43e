import { ccwErrors } from './errors.js';

/** Bugs that the real driver had. All are off unless named in the driver's options. */
export const CCW_QUIRKS = {
  'first-iova-only':
    'dmaUnmap looks only at the first page of the range: a program whose pages lie further inside keeps them pinned ' +
    '(Linux before 6.0; threads/2022-07)',
} as const;

export type CcwQuirk = keyof typeof CCW_QUIRKS;

const isQuirk = (name: string): name is CcwQuirk => Object.hasOwn(CCW_QUIRKS, name);

/** Checks names that may come from a configuration file. @throws CCW_UNKNOWN_QUIRK (EINVAL). */
export function quirkSet(names: Iterable<string>): ReadonlySet<CcwQuirk> {
  const quirks = new Set<CcwQuirk>();
  for (const quirk of names) {
    if (!isQuirk(quirk)) throw ccwErrors.UNKNOWN_QUIRK({ quirk, known: Object.keys(CCW_QUIRKS).join(', ') });
    quirks.add(quirk);
  }
  return quirks;
}
