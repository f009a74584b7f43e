import { catalogue, hex } from '@pinion/core';

/** What VMs and their guests refuse. README.md has one row for each. */
export const vmErrors = catalogue('VM', {
  BAD_REGION: ['EINVAL', (d: { region: string; problem: string }) => `memory region ${d.region}: ${d.problem}`],
  REGION_EXISTS: [
    'EEXIST',
    (d: { region: string; other: string }) => `memory region ${d.region} overlaps region ${d.other}; move one of them`,
  ],
  NO_REGION: ['ENOENT', (d: { region: string }) => `there is no memory region named ${d.region}`],
  NO_MEMORY_AT: [
    'EFAULT',
    (d: { guest: string; address: bigint; length: number }) =>
      `guest ${d.guest} touched ${d.length} bytes at guest-physical ${hex(d.address)}, where it has no memory`,
  ],
  KILLED: ['ECANCELED', (d: { guest: string; what: string }) => `guest ${d.guest} was killed during: ${d.what}`],
});
