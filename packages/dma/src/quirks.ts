import { dmaErrors } from './errors.js';

/** Where Linux errs, or where hardware is looser than the API. All are off unless switched on. */
export const DMA_QUIRKS = {
  'write-implies-read': {
    kernels: ['linux-6.12'],
    reason: 'VT-d legacy tables have no write-only pages: a FROM_DEVICE mapping can be read by the device',
  },
  'segment-limit-wraps': {
    kernels: ['linux-6.12'],
    reason:
      'an entry may be longer than the segment limit; limit minus length then wraps, and every entry behind it is merged too',
  },
} as const;

/** Name of a row of DMA_QUIRKS. */
export type DmaQuirk = keyof typeof DMA_QUIRKS;

const isQuirk = (name: string): name is DmaQuirk => Object.hasOwn(DMA_QUIRKS, name);

/** Checks names that may come from outside. @throws DMA_UNKNOWN_QUIRK (EINVAL). */
export function quirkSet(names: Iterable<string>): ReadonlySet<DmaQuirk> {
  const quirks = new Set<DmaQuirk>();
  for (const quirk of names) {
    if (!isQuirk(quirk)) throw dmaErrors.UNKNOWN_QUIRK({ quirk, known: Object.keys(DMA_QUIRKS).join(', ') });
    quirks.add(quirk);
  }
  return quirks;
}

/** The quirks of one kernel, e.g. `linux-6.12`; a kernel that is in no row has none. */
export const quirksOf = (kernel: string): ReadonlySet<DmaQuirk> =>
  quirkSet(
    Object.entries(DMA_QUIRKS)
      .filter(([, { kernels }]) => kernels.some((known) => known === kernel))
      .map(([name]) => name),
  );
