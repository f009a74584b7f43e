import { catalogue } from '@pinion/core';

/** What goes wrong around a controller; what goes wrong inside is an NVMe status. */
export const errors = catalogue('NVME', {
  BAD_IMAGE: [
    'EINVAL',
    ({ path, problem }: { path: string; problem: string }) => `${path} cannot back a namespace: ${problem}`,
  ],
  SHORT_IMAGE: [
    'EIO',
    ({ path, offset }: { path: string; offset: number }) => `${path} ends at byte ${offset}; somebody truncated it`,
  ],
  NO_MEMORY: ['EFAULT', ({ problem }: { problem: string }) => `guest memory cannot be copied: ${problem}`],
  BAD_SIZE: [
    'EINVAL',
    ({ size, block }: { size: number; block: number }) =>
      `a namespace of ${size} bytes is no whole number of blocks of ${block} (use 512 or 4096)`,
  ],
});
