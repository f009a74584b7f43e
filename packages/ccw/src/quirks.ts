import { ccwErrors } from './errors.js';

/**
 * What real drivers do and should not. All are off unless named in the driver's options. `recorded`: Linux 6.12 does
 * it, as recordings of it show; the others are bugs of the past.
 */
export const CCW_QUIRKS = {
  'first-iova-only': {
    recorded: false,
    reason:
      'dmaUnmap looks only at the first page of the range: a program whose pages lie further inside keeps them pinned ' +
      '(Linux before 6.0; threads/2022-07)',
  },
  'byte-compare': {
    recorded: false,
    reason:
      'dmaUnmap looks for data that begins exactly at the first byte of the range, comparing addresses and not frames: ' +
      'data inside of a page, or in a later page, keeps it pinned (the first version of the fix; threads/2022-07)',
  },
  'whole-chain-reads': {
    recorded: true,
    reason: 'a chain is copied by one read of 2048 bytes: a short program at the end of a mapping is EINVAL',
  },
  'idal-over-read': {
    recorded: true,
    reason: 'lists of 32-bit words are read 8 bytes per word: a list at the end of a mapping is EINVAL',
  },
  'stale-return-code': {
    recorded: true,
    reason: 'a write without a function bit answers with whatever stands in the return code',
  },
  'positive-return-code': {
    recorded: true,
    reason:
      'a refused CSCH leaves its condition code 1 or 2 as return code, so the write seems to have taken 1 or 2 bytes',
  },
  'failed-copy-clears': {
    recorded: true,
    reason: 'a write from an unreadable buffer fills the region with zeros before it fails',
  },
  'unaligned-pins': {
    recorded: true,
    reason: 'pages are pinned by the address of the data, with its offset inside the page',
  },
  'crw-read-pops': {
    recorded: true,
    reason: 'any read of the report region takes a report off the queue, also one that does not see it or fails',
  },
  'path-halts-idle': {
    recorded: true,
    reason: 'a path that goes is halted also when no program runs: an interrupt that nobody asked for',
  },
  'path-strands-program': {
    recorded: true,
    reason:
      'a program whose path goes is cancelled without a word: its pages stay pinned and starts get EBUSY until the ' +
      'guest halts or clears',
  },
  'quiesce-tells': {
    recorded: true,
    reason: 'the interruption of a halt or clear that only a reset or an unmapping wanted is told to the guest',
  },
  'irq-count-ignored': {
    recorded: true,
    reason: 'SET_IRQS with count 0 acts as with count 1, on bytes that the caller did not count',
  },
} as const;

export type CcwQuirk = keyof typeof CCW_QUIRKS;

export const CCW_PROFILES = ['fixed', 'linux-6.12'] as const;
export type CcwProfile = (typeof CCW_PROFILES)[number];

const isQuirk = (name: string): name is CcwQuirk => Object.hasOwn(CCW_QUIRKS, name);

/** What a kernel does: the quirks of `linux-6.12`; none of `fixed`. */
export function ccwQuirksOf(profile: CcwProfile): ReadonlySet<CcwQuirk> {
  const names = Object.keys(CCW_QUIRKS).filter(isQuirk);
  return new Set(profile === 'fixed' ? [] : names.filter((name) => CCW_QUIRKS[name].recorded));
}

/** Checks names that may come from a configuration file. @throws CCW_UNKNOWN_QUIRK (EINVAL). */
export function quirkSet(names: Iterable<string>): ReadonlySet<CcwQuirk> {
  const quirks = new Set<CcwQuirk>();
  for (const quirk of names) {
    if (!isQuirk(quirk)) throw ccwErrors.UNKNOWN_QUIRK({ quirk, known: Object.keys(CCW_QUIRKS).join(', ') });
    quirks.add(quirk);
  }
  return quirks;
}
