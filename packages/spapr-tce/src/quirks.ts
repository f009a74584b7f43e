/** Kernels whose answers can be given. `fixed` is no kernel: it is Linux 6.12 without its mistakes, and the default. */
export const PROFILES = ['fixed', 'linux-6.12'] as const;
export type Profile = (typeof PROFILES)[number];
/** A kernel that was recorded. */
export type KernelProfile = Exclude<Profile, 'fixed'>;

interface QuirkAbout {
  readonly kernels: readonly KernelProfile[];
  readonly reason: string;
}

/**
 * Everything in which the kernel's sPAPR TCE backend differs from the default behaviour, with the reason. A profile is the set of
 * the quirks that name its kernel. Measured on 6.12 unless the reason says otherwise.
 */
export const QUIRKS = {
  'busy-unregister-leaks': {
    kernels: ['linux-6.12'],
    reason:
      'unregistering memory that entries still lead to answers 0 and forgets it in the container, but it stays registered and charged, for good (default: EBUSY)',
  },
  'first-page-bounds': {
    kernels: ['linux-6.12'],
    reason:
      'only the first page of a range is checked against the window: mapping past its end fails in the firmware, unmapping past it succeeds (default: ENXIO)',
  },
  'unaligned-iova-is-1': {
    kernels: ['linux-6.12'],
    reason:
      'an iova inside a page answers +1, which is neither success nor an error, and nothing is done (default: EINVAL)',
  },
  'partial-register-counts': {
    kernels: ['linux-6.12'],
    reason:
      'registering memory that ends too early answers how many pages could be pinned, and nothing is registered (default: EFAULT)',
  },
  'empty-register-is-enomem': {
    kernels: ['linux-6.12'],
    reason: 'registering no bytes allocates an empty array: a warning and ENOMEM (default: EINVAL)',
  },
  'refusal-takes-owner': {
    kernels: ['linux-6.12'],
    reason: 'a refused call makes its process the container’s owner all the same (default: only a successful one does)',
  },
  'remove-inside-window': {
    kernels: ['linux-6.12'],
    reason: 'REMOVE takes any address inside a window for its start (default: EINVAL)',
  },
  'refused-create-charges': {
    kernels: ['linux-6.12'],
    reason: 'the memory of a table that the platform refuses stays charged (default: given back)',
  },
  'failed-map-clears': {
    kernels: ['linux-6.12'],
    reason:
      'a mapping that fails midway has replaced the entries before and clears them; what they led to is unmapped (default: nothing changes)',
  },
  'read-map-pins-for-write': {
    kernels: ['linux-6.12'],
    reason:
      'v1 pins for writing whatever the rights, so that read-only memory cannot be mapped read-only (default: by rights)',
  },
  'accepts-fixed-windows': {
    kernels: ['linux-6.12'],
    reason:
      'v2 accepts a group without dynamic windows, which then cannot map or create anything (default: EINVAL when it attaches)',
  },
  'torn-down-map-is-partial': {
    kernels: ['linux-6.12'],
    reason:
      'memory that another thread unregisters while it is being mapped ends the mapping there with success (default: EINVAL, nothing changes); from the source, not recorded',
  },
} as const satisfies Record<string, QuirkAbout>;

export type Quirk = keyof typeof QUIRKS;

const about: Record<Quirk, QuirkAbout> = QUIRKS;

// why: the keys of QUIRKS are exactly the quirks
const NAMES = Object.keys(QUIRKS) as Quirk[];

/** The quirks of a profile; none for `fixed`. */
export function quirksOf(profile: Profile): ReadonlySet<Quirk> {
  if (profile === 'fixed') return new Set();
  return new Set(NAMES.filter((name) => about[name].kernels.includes(profile)));
}
