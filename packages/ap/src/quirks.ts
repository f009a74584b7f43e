import { errors } from './errors.js';

/** Bugs that the real driver had. All are off unless named in the driver's options. */
export const AP_QUIRKS = {
  'blind-unpin':
    'dmaUnmap gives back one page at the start of the range, whatever it holds: the queue keeps its interrupt and its pin ' +
    '(Linux before 6.2; threads/2022-07)',
} as const;

export type ApQuirk = keyof typeof AP_QUIRKS;

const isQuirk = (name: string): name is ApQuirk => Object.hasOwn(AP_QUIRKS, name);

/** Checks names that may come from a configuration file. @throws AP_UNKNOWN_QUIRK (EINVAL). */
export function quirkSet(names: Iterable<string>): ReadonlySet<ApQuirk> {
  const quirks = new Set<ApQuirk>();
  for (const quirk of names) {
    if (!isQuirk(quirk)) throw errors.UNKNOWN_QUIRK({ quirk, known: Object.keys(AP_QUIRKS).join(', ') });
    quirks.add(quirk);
  }
  return quirks;
}
