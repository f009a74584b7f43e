import { catalogue, hex } from '@pinion/core';

/** A mapping as a report names it. */
export interface MappingDetails {
  readonly device: string;
  readonly driver: string;
  readonly dma: bigint;
  /** Bytes. */
  readonly size: number;
}

const who = (d: MappingDetails): string => `${d.driver} ${d.device}: `;
const where = (d: MappingDetails): string => ` [device address=${hex(d.dma)}] [size=${d.size} bytes]`;
type Two = MappingDetails & { readonly mapped: string; readonly used: string };
const two = (d: Two): string => ` [mapped as ${d.mapped}] [used as ${d.used}]`;

/** The debugger's reports: one row per check. Source: kernel/dma/debug.c, checks as in reference D.4. */
export const dmaDebugErrors = catalogue('DMADEBUG', {
  FREE_ERROR_ADDRESS: [
    'EINVAL',
    (d: MappingDetails) => `${who(d)}driver frees a failed mapping; test the result first${where(d)}`,
  ],
  FREE_UNKNOWN: ['EINVAL', (d: MappingDetails) => `${who(d)}driver frees DMA memory that it has not mapped${where(d)}`],
  FREE_SIZE: ['EINVAL', (d: Two) => `${who(d)}driver frees DMA memory with another size${where(d)}${two(d)}`],
  FREE_FUNCTION: ['EINVAL', (d: Two) => `${who(d)}driver frees DMA memory with the wrong function${where(d)}${two(d)}`],
  FREE_CPU_ADDRESS: [
    'EINVAL',
    (d: Two) => `${who(d)}driver frees coherent memory with another CPU address${where(d)}${two(d)}`,
  ],
  FREE_NENTS: [
    'EINVAL',
    (d: Two) =>
      `${who(d)}driver frees a list with another entry count; unmap wants what map was given, not what it returned${where(d)}${two(d)}`,
  ],
  FREE_DIRECTION: ['EINVAL', (d: Two) => `${who(d)}driver frees DMA memory with another direction${where(d)}${two(d)}`],
  MAP_UNCHECKED: ['EINVAL', (d: MappingDetails) => `${who(d)}driver never tested this map for an error${where(d)}`],
  MAP_STACK: ['EFAULT', (d: MappingDetails) => `${who(d)}driver maps memory from the stack${where(d)}`],
  MAP_TEXT: [
    'EFAULT',
    (d: MappingDetails) => `${who(d)}driver maps memory from kernel text or read-only data${where(d)}`,
  ],
  MAP_VMALLOC: [
    'EFAULT',
    (d: MappingDetails) => `${who(d)}driver maps vmalloc memory, which is not contiguous${where(d)}`,
  ],
  MAP_INVALID: ['EFAULT', (d: MappingDetails) => `${who(d)}driver maps an address where no memory is${where(d)}`],
  SYNC_UNKNOWN: ['EINVAL', (d: MappingDetails) => `${who(d)}driver syncs DMA memory that it has not mapped${where(d)}`],
  SYNC_OUTSIDE: ['EINVAL', (d: Two) => `${who(d)}driver syncs past the end of a mapping${where(d)}${two(d)}`],
  SYNC_DIRECTION: ['EINVAL', (d: Two) => `${who(d)}driver syncs DMA memory with another direction${where(d)}${two(d)}`],
  SYNC_READ_ONLY: [
    'EINVAL',
    (d: Two) => `${who(d)}driver syncs for the CPU what the device only reads${where(d)}${two(d)}`,
  ],
  SYNC_WRITE_ONLY: [
    'EINVAL',
    (d: Two) => `${who(d)}driver syncs for the device what it only writes${where(d)}${two(d)}`,
  ],
  SYNC_NENTS: ['EINVAL', (d: Two) => `${who(d)}driver syncs a list with another entry count${where(d)}${two(d)}`],
  SEGMENT_LONG: [
    'EINVAL',
    (d: MappingDetails & { readonly max: number }) =>
      `${who(d)}list segment is longer than the device claims to take [max=${d.max}]${where(d)}`,
  ],
  SEGMENT_BOUNDARY: [
    'EINVAL',
    (d: MappingDetails & { readonly boundary: bigint }) =>
      `${who(d)}list segment crosses a boundary [boundary=${hex(d.boundary)}]${where(d)}`,
  ],
  OVERLAP: [
    'EEXIST',
    (d: MappingDetails) => `${who(d)}memory that the device writes is mapped a second time${where(d)}`,
  ],
  OVERLAP_LIMIT: [
    'EEXIST',
    (d: MappingDetails & { readonly limit: number }) =>
      `${who(d)}more than ${d.limit} overlapping mappings of one cacheline; mappings may be leaking${where(d)}`,
  ],
  PENDING: [
    'EBUSY',
    (d: MappingDetails & { readonly count: number; readonly mapped: string }) =>
      `${who(d)}driver leaves its device with ${d.count} mappings; one of them:${where(d)} [mapped as ${d.mapped}]`,
  ],
  OUT_OF_ENTRIES: [
    'ENOMEM',
    (d: { readonly entries: number }) => `the debugger has no entry left (of ${d.entries}) and switches itself off`,
  ],
});
