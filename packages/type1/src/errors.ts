import { catalogue, type FrameRange, formatProt, formatRange, frameAddress, hex, type Prot } from '@pinion/core';

const span = (iova: bigint, size: bigint): string => `iova ${hex(iova)}, size ${hex(size)}`;
const frames = (all: readonly number[]): string =>
  `${all
    .slice(0, 4)
    .map((frame) => hex(frameAddress(frame)))
    .join(', ')}${all.length > 4 ? `, ... (${all.length} pages)` : ''}`;
/** Who holds which frames: one entry per device. */
export interface Culprit {
  readonly device: string;
  readonly driver: string;
  readonly frames: readonly number[];
}
const culprits = (all: readonly Culprit[]): string =>
  all.length === 0
    ? 'nobody that is open'
    : all.map((c) => `device ${c.device} (driver ${c.driver}) on ${frames(c.frames)}`).join('; ');

/** What type1 refuses, and why. The README's table is tested against this one. */
export const type1Errors = catalogue('TYPE1', {
  BAD_TYPE: [
    'EINVAL',
    (d: { type: number }) => `IOMMU type ${d.type} is not one of type1's; use 1 (type1) or 3 (type1v2)`,
  ],
  BAD_ARGSZ: [
    'EINVAL',
    (d: { operation: string; argsz: number; min: number }) => `${d.operation}: argsz ${d.argsz} is below ${d.min}`,
  ],
  BAD_FLAGS: [
    'EINVAL',
    (d: { operation: string; flags: number; problem: string }) => `${d.operation}: flags ${hex(d.flags)}: ${d.problem}`,
  ],
  BAD_NUMBER: [
    'EINVAL',
    (d: { operation: string; what: string; value: bigint }) =>
      `${d.operation}: ${d.what} ${d.value} is no unsigned 64-bit number`,
  ],
  BAD_ALIGNMENT: [
    'EINVAL',
    (d: { operation: string; iova: bigint; size: bigint; page: bigint }) =>
      `${d.operation}: ${span(d.iova, d.size)}: size must not be 0 and all must be multiples of ${hex(d.page)}`,
  ],
  WRAPS: [
    'EINVAL',
    (d: { operation: string; iova: bigint; size: bigint }) => `${d.operation}: ${span(d.iova, d.size)} goes past 2^64`,
  ],
  TOO_LARGE: [
    'EOVERFLOW',
    (d: { operation: string; iova: bigint; size: bigint }) => `${d.operation}: ${span(d.iova, d.size)} goes past 2^64`,
  ],
  OVERLAP: [
    'EEXIST',
    (d: { range: FrameRange; other: FrameRange }) =>
      `map ${formatRange(d.range)}: overlaps the mapping ${formatRange(d.other)}; unmap that first`,
  ],
  ENTRY_LIMIT: [
    'ENOSPC',
    (d: { limit: number }) => `the container has its limit of ${d.limit} mappings; unmap some or raise dmaEntryLimit`,
  ],
  OUTSIDE_RANGES: [
    'EINVAL',
    (d: { range: FrameRange }) =>
      `map ${formatRange(d.range)}: not inside one of the IOVA ranges that all IOMMUs of the container can map; see info`,
  ],
  NO_MEMORY_OF_CALLER: [
    'ENODEV',
    (d: { operation: string; task: string }) => `${d.operation}: task ${d.task} has no memory any more`,
  ],
  OWNER_GONE: [
    'ENODEV',
    (d: { operation: string; range: FrameRange; mm: string }) =>
      `${d.operation}: the memory ${d.mm} behind ${formatRange(d.range)} is gone (its process exited)`,
  ],
  MEMLOCK: [
    'ENOMEM',
    (d: { task: string; locked: number; wanted: number; limit: number }) =>
      `task ${d.task}: ${d.locked} pages locked and ${d.wanted} more wanted, RLIMIT_MEMLOCK is ${d.limit} pages; raise it or grant CAP_IPC_LOCK`,
  ],
  VADDR_NOT_MAPPED: [
    'ENOENT',
    (d: { range: FrameRange }) => `new vaddr for ${formatRange(d.range)}: nothing is mapped there`,
  ],
  VADDR_MISMATCH: [
    'EINVAL',
    (d: { range: FrameRange; problem: string }) => `new vaddr for ${formatRange(d.range)}: ${d.problem}`,
  ],
  VADDR_INVALID: [
    'EBUSY',
    (d: { operation: string; count: number }) =>
      `${d.operation}: ${d.count} mapping(s) wait for a new vaddr; give it first`,
  ],
  VADDR_WITH_MDEV: [
    'EBUSY',
    () => 'vaddr cannot be taken away while a mediated device is in the container: it pins through it',
  ],
  BISECTS: [
    'EINVAL',
    (d: { operation: string; iova: bigint; size: bigint; mapping: FrameRange }) =>
      `${d.operation}: ${span(d.iova, d.size)} cuts the mapping ${formatRange(d.mapping)}; take it whole`,
  ],
  BAD_ALL: ['EINVAL', (d: { iova: bigint; size: bigint }) => `unmap all: ${span(d.iova, d.size)} must both be 0`],
  BAD_BITMAP: ['EINVAL', (d: { problem: string }) => `dirty bitmap: ${d.problem}`],
  BITMAP_FAULT: [
    'EFAULT',
    (d: { size: bigint; bytes: number }) => `dirty bitmap: size says ${d.size} bytes, the buffer has ${d.bytes}`,
  ],
  TRACKING_OFF: ['EINVAL', () => 'dirty pages are not tracked; start tracking first'],
  TOO_MANY_BITS: [
    'EINVAL',
    (d: { range: FrameRange }) => `mapping ${formatRange(d.range)} has more pages than a dirty bitmap can have bits`,
  ],
  NOT_V2: ['EACCES', (d: { operation: string }) => `${d.operation} needs type1v2; this container is type1`],
  NOT_MAPPED: [
    'EINVAL',
    (d: { operation: string; iova: bigint }) => `${d.operation}: iova ${hex(d.iova)} is not mapped`,
  ],
  PROT: [
    'EPERM',
    (d: { operation: string; iova: bigint; wanted: Prot; granted: Prot }) =>
      `${d.operation}: iova ${hex(d.iova)} is mapped ${formatProt(d.granted)}, ${d.wanted <= 3 ? formatProt(d.wanted) : hex(d.wanted)} was asked`,
  ],
  NO_DUTY: [
    'EINVAL',
    (d: { group: string }) => `pin for group ${d.group}: no open device of the container declares dmaUnmap`,
  ],
  DEVICE_PAGE: [
    'EINVAL',
    (d: { iova: bigint }) => `pin: iova ${hex(d.iova)} leads to device memory, which has no page to pin`,
  ],
  RW_OWNER_GONE: [
    'EPERM',
    (d: { iova: bigint; mm: string }) =>
      `dma_rw: the memory ${d.mm} behind iova ${hex(d.iova)} is gone (its process exited)`,
  ],
  RW_NOT_MAPPER: [
    'EFAULT',
    (d: { iova: bigint; task: string }) => `dma_rw: task ${d.task} is not the one that mapped iova ${hex(d.iova)}`,
  ],
  RW_FAULT: [
    'EFAULT',
    (d: { iova: bigint; length: number }) =>
      `dma_rw: some of the ${d.length} bytes at iova ${hex(d.iova)} could not be reached`,
  ],
  ATTACHED: ['EINVAL', (d: { group: string }) => `group ${d.group} is attached already`],
  NOT_ATTACHED: ['ENODEV', (d: { group: string }) => `group ${d.group} has no domain in this container`],
  NO_IOMMU: [
    'EINVAL',
    (d: { group: string }) => `group ${d.group} has no IOMMU behind it; type1 needs one for passthrough`,
  ],
  NO_NESTING: ['EINVAL', (d: { group: string }) => `group ${d.group}: its IOMMU cannot nest; use type1v2`],
  APERTURE: [
    'EINVAL',
    (d: { group: string; aperture: FrameRange; mapping?: FrameRange }) =>
      `group ${d.group}: its aperture ${formatRange(d.aperture)} ${d.mapping === undefined ? 'has nothing in common with the container’s' : `does not reach the mapping ${formatRange(d.mapping)}`}`,
  ],
  RESERVED: [
    'EINVAL',
    (d: { group: string; reserved: FrameRange; mapping: FrameRange }) =>
      `group ${d.group}: the mapping ${formatRange(d.mapping)} lies in its reserved region ${formatRange(d.reserved)}; unmap it first`,
  ],
  NO_RANGES: [
    'EINVAL',
    (d: { group: string }) => `group ${d.group}: no IOVA is left that all groups of the container can use`,
  ],
  UNSAFE_INTERRUPTS: [
    'EPERM',
    (d: { group: string }) =>
      `group ${d.group}: its interrupts are not isolated; set allowUnsafeInterrupts to accept that`,
  ],
  PIN_LEAK: [
    'EBUSY',
    (d: { range: FrameRange; rounds: number; pages: number; culprits: readonly Culprit[] }) =>
      `unmap: ${d.pages} page(s) of ${formatRange(d.range)} are still pinned after ${d.rounds} round(s) of dmaUnmap, held by ${culprits(d.culprits)}; the mapping stays (a kernel would stop here)`,
  ],
});
