import { EXTENSION } from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import { describeIommuBackend, type IommuBackendHarness } from '@pinion/testkit';
import { MAX_ROUNDS, type1 } from '@pinion/type1';

const harness: IommuBackendHarness = {
  name: 'type1 (v2)',
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  passthrough: (memory) => createSoftwareIommu({ memory }).createGroup({ functions: ['pt'] }),
  capabilities: new Set([
    'pins',
    'passthrough',
    'accounting',
    'refuses-overlap',
    'refuses-bisect',
    'lazy-map',
    'dma-rw',
    'dirty',
  ]),
  leak: { name: 'TYPE1_PIN_LEAK', rounds: MAX_ROUNDS },
};

describeIommuBackend(harness);
