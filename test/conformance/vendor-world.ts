import { EXTENSION } from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import type { VendorDriverHarness } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

/** What all our vendor drivers are tested with: type1 v2, and passthrough functions behind a software IOMMU. */
export const onType1: Pick<VendorDriverHarness, 'backend' | 'iommuType' | 'passthrough'> = {
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  passthrough: (memory) => createSoftwareIommu({ memory }).createGroup({ functions: ['pt'] }),
};
