import { errors } from './errors.js';

/**
 * Where the real driver erred or still errs. By default none is on: the contract is Linux 6.15's with its mistakes repaired.
 * Sources: drivers/s390/crypto/vfio_ap_ops.c through the years, threads/2022-07; reference C.2 to C.5, E.3.
 */
export const AP_QUIRKS = {
  'blind-unpin': {
    kernels: 'before 6.2',
    reason:
      'dmaUnmap gives back one page at the start of the range, whatever it holds: the queue keeps its interrupt, and the page it remembers is given back again later',
  },
  'first-queue-only': {
    kernels: 'the first version of the repair, before it was merged',
    reason: 'dmaUnmap stops at the first queue of the range; the others keep their pages',
  },
  'zero-sentinel': {
    kernels: '6.2 and later',
    reason:
      'a queue without interrupts counts as one with its byte at address 0: an unmap there turns its signals off once more',
  },
  'isc-failure-leaks': {
    kernels: 'older ones',
    reason: 'AQIC answers 08 when the subclass cannot be registered, and keeps the page that it had pinned',
  },
  'failed-enable-frees-old': {
    kernels: '6.15',
    reason:
      'when AQIC answers an unexpected code, the old page is given back and the new one is forgotten, still pinned',
  },
  'stale-condition-code': {
    kernels: 'older ones',
    reason: 'an intercepted PQAP that worked leaves the condition code as it was',
  },
  'partial-adapters': {
    kernels: 'older ones',
    reason: 'a guest sees an adapter of which it has not every queue',
  },
  'endless-reset': {
    kernels: '6.15',
    reason: 'a reset waits for its queue without a limit; a queue that stays busy blocks close for ever',
  },
  'reset-unconfigured': {
    kernels: 'older ones',
    reason:
      'a queue that is taken from the host is reset although it is not there any more, which fails and is reported',
  },
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
