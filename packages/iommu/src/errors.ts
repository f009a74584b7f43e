import { catalogue, type FrameRange, formatRange, frameAddress, hex } from '@pinion/core';

const at = (frame: number): string => hex(frameAddress(frame));

/** What the software IOMMU refuses, and why. The README's table is tested against this one. */
export const iommuErrors = catalogue('IOMMU', {
  BAD_OPTION: ['EINVAL', (d: { option: string; problem: string }) => `option ${d.option}: ${d.problem}`],
  GROUP_EXISTS: ['EEXIST', (d: { group: number }) => `a group with id ${d.group} exists already`],
  FUNCTION_EXISTS: ['EEXIST', (d: { device: string }) => `a function named ${d.device} exists already`],
  GROUP_BUSY: [
    'EBUSY',
    (d: { group: number; operation: string; by: string }) =>
      `${d.operation}: group ${d.group} is in use by ${d.by}; take that away first`,
  ],
  HOST_DRIVER: [
    'EPERM',
    (d: { group: number; device: string; driver: string }) =>
      `group ${d.group} cannot be taken: host driver ${d.driver} is bound to its function ${d.device}; unbind it first`,
  ],
  OWNED: ['EPERM', (d: { group: number }) => `group ${d.group} already has an owner; release it there first`],
  NOT_OWNER: ['EPERM', (d: { group: number }) => `group ${d.group} is not owned by the one who wants to release it`],
  NOT_ATTACHED: ['EINVAL', (d: { group: number }) => `the domain to detach is not the one of group ${d.group}`],
  INCOMPATIBLE: [
    'EINVAL',
    (d: { group: number; problem: string }) => `group ${d.group} cannot sit behind this domain: ${d.problem}`,
  ],
  DOMAIN_FREED: ['EINVAL', (d: { operation: string }) => `${d.operation}: the domain was freed`],
  DOMAIN_BUSY: [
    'EBUSY',
    (d: { groups: readonly number[] }) =>
      `the domain cannot be freed: group(s) ${d.groups.join(', ')} sit behind it; detach first`,
  ],
  BAD_RANGE: [
    'EINVAL',
    (d: { operation: string; first: number; count: number }) =>
      `${d.operation}: frame ${d.first}, count ${d.count} is no range of whole frames inside 64 bits`,
  ],
  BAD_FRAME: [
    'EINVAL',
    (d: { pfn: number; count: number }) => `host frames from ${d.pfn}, count ${d.count}: whole numbers below 2^51 only`,
  ],
  BAD_PROT: ['EINVAL', (d: { prot: number }) => `prot ${d.prot}: one of read, write or both is needed, nothing else`],
  BEYOND_WIDTH: [
    'ERANGE',
    (d: { range: FrameRange; width: number }) => `${formatRange(d.range)} lies above the ${d.width}-bit address width`,
  ],
  BEYOND_WIDTH_LEGACY: [
    'EFAULT',
    (d: { range: FrameRange; width: number }) => `${formatRange(d.range)} lies above the ${d.width}-bit address width`,
  ],
  ALREADY_MAPPED: [
    'EEXIST',
    (d: { range: FrameRange; frame: number }) =>
      `${formatRange(d.range)} cannot be mapped: ${at(d.frame)} is mapped already; unmap it first`,
  ],
  FAULT: [
    'EFAULT',
    (d: { device: string; iova: bigint; access: string; reason: string }) =>
      `DMA ${d.access} by ${d.device} at ${hex(d.iova)} faulted: ${d.reason}`,
  ],
  BUS_MASTER_OFF: [
    'EIO',
    (d: { device: string }) => `${d.device} cannot do DMA: bus mastering is off; set busMaster first`,
  ],
  BAD_ADDRESS: [
    'EINVAL',
    (d: { device: string; iova: bigint; length: number }) =>
      `DMA by ${d.device} at ${d.iova} over ${d.length} bytes leaves the 64-bit address space`,
  ],
  BAD_IOVA_REQUEST: [
    'EINVAL',
    (d: { operation: string; what: string; value: number }) => `${d.operation}: ${d.what} cannot be ${d.value}`,
  ],
  NO_IOVA: [
    'ENOMEM',
    (d: { size: number; limit: number }) => `no ${d.size} free IOVA frames in a row up to ${at(d.limit)}`,
  ],
});
