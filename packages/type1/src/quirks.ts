/**
 * Where real kernels err, or differ from each other. By default none is on: the contract is Linux 6.12's with its mistakes
 * repaired. A kernel profile is a set of these, and under it every answer is that kernel's.
 * Sources: recordings of Linux 6.1.192, 6.12.95 and 7.3.4 (test/golden); [I] marks a deduction from reading the source.
 */
export const QUIRKS = {
  'top-mapping-invisible': {
    kernels: ['linux-6.1', 'linux-6.12'],
    reason:
      'iova + size of a mapping or a request that ends at 2^64 wraps to 0, so lookups never match it: such a mapping cannot be found, pinned or unmapped, duplicates of it are accepted, and an unmap up to 2^64 finds nothing',
  },
  'wrap-is-eoverflow': {
    kernels: ['linux-7.3'],
    reason: 'a range that wraps past 2^64 answers EOVERFLOW, and before the alignment is looked at; 6.x answers EINVAL',
  },
  'no-nesting-type': {
    kernels: ['linux-7.3'],
    reason: 'VFIO_TYPE1_NESTING_IOMMU was removed: CHECK_EXTENSION answers 0, SET_IOMMU ENODEV',
  },
  'aperture-check-needs-ranges': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'attach compares mappings with the new aperture only if there is a list of IOVA ranges, which a container with mediated devices alone does not have; the page tables refuse later, with their errno',
  },
  'aperture-check-wraps': {
    kernels: ['linux-6.1', 'linux-6.12'],
    reason: 'the search for mappings above the new aperture ends at 2^64, wraps to 0 and never finds one',
  },
  'replay-from-attacher': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'when a passthrough group joins, pages are taken from the memory (and first checked against the limit) of the process that attaches, not of the one that mapped [I]',
  },
  'unaligned-pins': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'a pin keeps the offset inside the page: it is a pin of its own with its own charge, and just below a mapping it yields the page before the mapping’s memory [I]',
  },
  'pins-without-owner': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason: 'any device of the container may unpin any page, whoever pinned it',
  },
  'close-keeps-pins': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason: 'pins that a driver left at close stay, with their charge, also after the last group left',
  },
  'unpin-stops-at-hole': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason: 'an unpin that meets an address without a mapping does not look at the rest of its range',
  },
  'dirty-shift-in-place': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'reading a mapping’s dirty bits at an offset that is no multiple of 64 pages shifts its own bitmap and clears only part of it: old bits come back at wrong places, also past the mapping and the range',
  },
  'failed-pin-dirties': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason: 'pages of a pin that failed half way stay marked dirty [I]',
  },
  'failed-copy-is-clean': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'a copy that faults half way through a mapping has written up to there, but none of its pages in that mapping count as dirty',
  },
  'late-bisect-succeeds': {
    kernels: ['linux-6.1', 'linux-6.12', 'linux-7.3'],
    reason:
      'when a mapping made during the callbacks is cut by the request, unmap answers success with what it had done, not EINVAL [I]',
  },
  'shared-zero-page': {
    kernels: ['linux-6.1'],
    reason:
      'a read-only pin of untouched anonymous memory takes the shared zero page, which is not counted; from 6.2 it becomes a real page (the address space decides; listed here so that a profile is complete)',
  },
} as const;

export type Quirk = keyof typeof QUIRKS;
export type KernelProfile = 'linux-6.1' | 'linux-6.12' | 'linux-7.3';
/** `fixed` is the default: no quirk at all. */
export type Profile = KernelProfile | 'fixed';

export const PROFILES: readonly Profile[] = ['fixed', 'linux-6.1', 'linux-6.12', 'linux-7.3'];

// why: Object.keys loses the key type of a constant object
const ALL = Object.keys(QUIRKS) as Quirk[];

/** The quirks of a profile. */
export function quirksOf(profile: Profile): ReadonlySet<Quirk> {
  const has = (quirk: Quirk): boolean => QUIRKS[quirk].kernels.some((kernel) => kernel === profile);
  return new Set(ALL.filter(has));
}
