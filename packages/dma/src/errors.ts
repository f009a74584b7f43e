import { catalogue, hex } from '@pinion/core';

/** What this package refuses, and why. The README's table is tested against this one. The debugger's reports: debug/reports.ts. */
export const dmaErrors = catalogue('DMA', {
  BAD_OPTION: ['EINVAL', (d: { option: string; problem: string }) => `option ${d.option}: ${d.problem}`],
  UNKNOWN_QUIRK: ['EINVAL', (d: { quirk: string; known: string }) => `no quirk named ${d.quirk}; known: ${d.known}`],
  BAD_DIRECTION: [
    'EINVAL',
    (d: { device: string; direction: number }) => `${d.device}: ${d.direction} is no direction; use one of DIRECTION`,
  ],
  BAD_LENGTH: [
    'EINVAL',
    (d: { what: string; length: number; offset: number }) =>
      `${d.what} of ${d.length} bytes at offset ${d.offset}: whole bytes are wanted, and at least one unless in a list`,
  ],
  BAD_NENTS: [
    'EINVAL',
    (d: { device: string; nents: number; entries: number }) =>
      `${d.device}: ${d.nents} entries of a list that has ${d.entries}`,
  ],
  BAD_ADDRESS: [
    'EINVAL',
    (d: { device: string; address: bigint }) => `${d.device}: ${hex(d.address)} is no 64-bit address`,
  ],
  BAD_MASK: [
    'EIO',
    (d: { device: string; mask: bigint }) =>
      `${d.device}: a mask of ${hex(d.mask)} cannot be served; without an IOMMU 24 bits are the least`,
  ],
  NO_CPU_SPACE: [
    'EINVAL',
    (d: { device: string }) => `${d.device}: no CPU address space was given, so only pages can be mapped`,
  ],
  NOT_LINEAR: [
    'EINVAL',
    (d: { device: string; address: bigint; area: string }) =>
      `${d.device}: CPU address ${hex(d.address)} is ${d.area}, no memory that can be mapped in one piece`,
  ],
  NO_IOVA: [
    'ENOMEM',
    (d: { device: string; frames: number; last: bigint }) =>
      `${d.device}: no ${d.frames} frames of IOVA up to ${hex(d.last)}; unmap something or register a shrinker`,
  ],
  IOMMU_FULL: [
    'ENOMEM',
    (d: { device: string; reason: string }) => `${d.device}: the IOMMU has no memory for its tables: ${d.reason}`,
  ],
  IOMMU_REFUSED: [
    'EINVAL',
    (d: { device: string; reason: string }) => `${d.device}: the IOMMU refused the mapping: ${d.reason}`,
  ],
  EMPTY_ENTRY: [
    'ENOMEM',
    (d: { device: string; index: number }) =>
      `${d.device}: list entry ${d.index} is empty, so the list cannot be mapped`,
  ],
  NO_PAGES: [
    'ENOMEM',
    (d: { device: string; pages: number }) => `${d.device}: no ${d.pages} pages of memory in its reach`,
  ],
  OUT_OF_REACH: [
    'EIO',
    (d: { device: string; address: bigint; mask: bigint }) =>
      `${d.device}: ${hex(d.address)} lies above its mask ${hex(d.mask)} and there is no bounce buffer`,
  ],
  BOUNCE_OUT_OF_REACH: [
    'EIO',
    (d: { device: string; address: bigint; mask: bigint }) =>
      `${d.device}: even the bounce buffer at ${hex(d.address)} lies above its mask ${hex(d.mask)}`,
  ],
  BOUNCE_FULL: [
    'EIO',
    (d: { device: string; length: number; used: number; slots: number }) =>
      `${d.device}: no room to bounce ${d.length} bytes; ${d.used} of ${d.slots} slots are in use (256 KiB is the most in one piece)`,
  ],
  NOT_MAPPED: [
    'EINVAL',
    (d: { device: string; address: bigint }) =>
      `${d.device}: nothing is mapped at ${hex(d.address)}; unmap what map returned`,
  ],
  WRONG_SIZE: [
    'EINVAL',
    (d: { device: string; address: bigint; frames: number; mapped: number }) =>
      `${d.device}: unmap of ${d.frames} frames at ${hex(d.address)}, where ${d.mapped} were mapped at once`,
  ],
  NOT_ALLOCATED: [
    'EINVAL',
    (d: { pfn: number; pages: number }) => `${d.pages} pages from frame ${hex(d.pfn)} are not allocated`,
  ],
  OUTSIDE: [
    'EINVAL',
    (d: { what: string; at: number; length: number; size: number }) =>
      `${d.length} bytes at ${d.at} lie outside the ${d.what} of ${d.size} bytes`,
  ],
  NOT_OWNER: [
    'EBUSY',
    (d: { device: string; address: bigint; length: number; access: string }) =>
      `CPU ${d.access} of ${d.length} bytes at ${hex(d.address)}: ${d.device} owns them until unmap or sync for CPU`,
  ],
  STILL_MAPPED: [
    'EBUSY',
    (d: { what: string; mappings: number }) => `${d.what} still has ${d.mappings} mappings; unmap them first`,
  ],
  SHRINK_RECURSION: [
    'EDEADLK',
    (d: { shrinker: string; device: string }) =>
      `${d.device}: a mapping from inside shrinker ${d.shrinker}; a shrinker frees, it may not need more`,
  ],
  SHRINK_FAILED: [
    'ENOMEM',
    (d: { report: string }) => `still no space for a mapping after shrinking: ${d.report}; unpin or free what is held`,
  ],
  SHRINKER_EXISTS: ['EEXIST', (d: { shrinker: string }) => `a dma shrinker named ${d.shrinker} is registered already`],
  REGION_OVERLAP: [
    'EEXIST',
    (d: { first: number; pages: number }) => `a region over guest frames ${hex(d.first)} +${d.pages} exists already`,
  ],
  NO_REGION: ['ENOENT', (d: { gfn: number }) => `guest frame ${hex(d.gfn)} is in no region; add its region first`],
  FRAME_MAPPED: ['EEXIST', (d: { gfn: number }) => `guest frame ${hex(d.gfn)} is mapped already; unmap it first`],
});
