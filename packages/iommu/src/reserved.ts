import { asIovaFrame, LAST_FRAME, type ReservedRegion } from '@pinion/core';
import { iommuErrors } from './errors.js';

/** Where x86 devices write their interrupts: 0xfee00000-0xfeefffff. Source: Intel SDM, "Message Signalled Interrupts". */
export const X86_MSI_WINDOW: ReservedRegion = Object.freeze({
  range: Object.freeze({ first: asIovaFrame(0xfee00), last: asIovaFrame(0xfeeff) }),
  kind: 'msi',
});

/** Sorted by address. @throws IOMMU_BAD_OPTION (EINVAL) for a region that is no range of frames. */
export function checkReserved(regions: readonly ReservedRegion[]): readonly ReservedRegion[] {
  for (const { range } of regions) {
    const whole = Number.isSafeInteger(range.first) && Number.isSafeInteger(range.last);
    if (!whole || range.first < 0 || range.last > LAST_FRAME || range.first > range.last) {
      throw iommuErrors.BAD_OPTION({
        option: 'reserved',
        problem: `frames ${range.first}..${range.last} are no range inside 64 bits`,
      });
    }
  }
  return Object.freeze([...regions].sort((a, b) => a.range.first - b.range.first));
}
