import { gemErrors } from './errors.js';

/** Bugs that i915 had at some time. All are off unless switched on; the debugger of @pinion/dma names each. */
export const GEM_QUIRKS = {
  'unmap-mapped-nents':
    'the list is unmapped with the number of segments that map returned instead of the entries it was given (FREE_NENTS)',
  'userptr-skips-prepare':
    'the worker that brings the pages of a user pointer does not map them, so the GPU is told addresses that nobody mapped',
  'enospc-leaks':
    'a full IOMMU answers ENOSPC, and user space evicts its own bindings for ever instead of seeing ENOMEM',
} as const;

/** Name of a row of GEM_QUIRKS. */
export type GemQuirk = keyof typeof GEM_QUIRKS;

const isQuirk = (name: string): name is GemQuirk => Object.hasOwn(GEM_QUIRKS, name);

/** Checks names that may come from outside. @throws GEM_UNKNOWN_QUIRK (EINVAL). */
export function quirkSet(names: Iterable<string>): ReadonlySet<GemQuirk> {
  const quirks = new Set<GemQuirk>();
  for (const quirk of names) {
    if (!isQuirk(quirk)) throw gemErrors.UNKNOWN_QUIRK({ quirk, known: Object.keys(GEM_QUIRKS).join(', ') });
    quirks.add(quirk);
  }
  return quirks;
}
