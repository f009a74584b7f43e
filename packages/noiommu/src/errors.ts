import { catalogue } from '@pinion/core';

/** What the no-IOMMU backend refuses, and why. The README's table is tested against this one. */
export const noIommuErrors = catalogue('NOIOMMU', {
  BAD_TYPE: ['EINVAL', (d: { type: number }) => `IOMMU type ${d.type} is not no-IOMMU; use 8`],
  RAWIO: [
    'EPERM',
    (d: { task: string }) => `task ${d.task} needs CAP_SYS_RAWIO: without an IOMMU a device reaches all memory`,
  ],
  NOT_SUPPORTED: [
    'ENOTTY',
    (d: { operation: string; container: string }) =>
      `${d.operation}: container ${d.container} has no IOMMU, so nothing can be mapped; program the device with physical addresses`,
  ],
});
