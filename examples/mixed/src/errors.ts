import { catalogue } from '@pinion/core';

/** What this example refuses. */
export const mixedErrors = catalogue('MIXED', {
  NO_PICTURE: ['EINVAL', (d: { label: string }) => `the DASD holds no picture: its label begins with '${d.label}'`],
  WRONG_ORDER: ['EINVAL', (d: { missing: string }) => `the guest has no ${d.missing} yet; an earlier step makes it`],
  GUEST_ENDED: [
    'EIO',
    (d: { waiting: string; end: string }) => `the guest ended (${d.end}) instead of saying '${d.waiting}'`,
  ],
  NO_DEVICE: ['ENODEV', (d: { device: string }) => `vm.yaml names no device '${d.device}'`],
});
