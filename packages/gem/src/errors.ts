import { catalogue } from '@pinion/core';

/** What this package refuses, and why. The README's table is tested against this one. */
export const gemErrors = catalogue('GEM', {
  BAD_SIZE: [
    'EINVAL',
    (d: { what: string; pages: number }) => `${d.what}: ${d.pages} is no number of pages, use 1 or more`,
  ],
  UNKNOWN_QUIRK: ['EINVAL', (d: { quirk: string; known: string }) => `no quirk named ${d.quirk}; known: ${d.known}`],
  PURGED: [
    'EFAULT',
    (d: { object: string; madvise: string }) =>
      `${d.object} is ${d.madvise === 'dontneed' ? 'marked as not needed' : 'purged'}; only what is needed can get pages`,
  ],
  FREED: ['ENOENT', (d: { object: string }) => `${d.object} was freed`],
  PAGES_PINNED: [
    'EBUSY',
    (d: { object: string; pins: number }) => `${d.object}: pages are pinned ${d.pins} times; unbind and unpin first`,
  ],
  NOT_PINNED: ['EINVAL', (d: { object: string }) => `${d.object}: pages are not pinned, there is nothing to unpin`],
  STILL_BOUND: [
    'EBUSY',
    (d: { object: string; spaces: string }) =>
      `${d.object} is still bound in ${d.spaces} by a pinned mapping; unpin it first`,
  ],
  NOT_BOUND: ['ENOENT', (d: { object: string; space: string }) => `${d.object} is not bound in ${d.space}`],
  SPACE_FULL: [
    'ENOSPC',
    (d: { object: string; space: string; pages: number }) =>
      `${d.object}: no ${d.pages} pages in a row left in ${d.space}; unbind something`,
  ],
  UNMAPPED: ['EFAULT', (d: { space: string; page: number }) => `${d.space}: nothing is bound at page ${d.page}`],
  NO_SPACE: [
    'ENOSPC',
    (d: { object: string; reason: string }) =>
      `${d.object}: cannot be mapped for DMA and nothing can be shrunk: ${d.reason}`,
  ],
  NO_MEMORY: [
    'ENOMEM',
    (d: { object: string; reason: string }) => `${d.object}: no pages or no way to map them: ${d.reason}`,
  ],
  AGAIN: [
    'EAGAIN',
    (d: { object: string }) => `${d.object}: its pages are being fetched from the user; try again when the worker ran`,
  ],
  LOCKED: [
    'EDEADLK',
    (d: { object: string; operation: string }) =>
      `${d.operation} of ${d.object} from inside another operation on it would wait for itself`,
  ],
  OBJECTS_LEFT: [
    'EBUSY',
    (d: { objects: number }) => `${d.objects} objects are left; free them before the device goes`,
  ],
});
