import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXTENSION } from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import { describeIommuBackend, failedCases, type IommuBackendHarness, runIommuBackend } from '@pinion/testkit';
import { MAX_ROUNDS, PIN_TABLE_KINDS, type Profile, type Type1Options, type1 } from '@pinion/type1';

const harness = (name: string, options: Type1Options = {}): IommuBackendHarness => ({
  name,
  backend: () => type1(options),
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
    'domains',
  ]),
  leak: { name: 'TYPE1_PIN_LEAK', rounds: MAX_ROUNDS },
});

for (const pinTable of PIN_TABLE_KINDS) describeIommuBackend(harness(`type1 v2, pin table ${pinTable}`, { pinTable }));

const TOP = ['the page at the end of the address space is an ordinary page'];
/** What kernels do otherwise than the contract, caught by exactly these cases. */
const kernels: readonly (readonly [profile: Profile, caught: readonly string[]])[] = [
  ['linux-6.1', TOP],
  ['linux-6.12', TOP],
  [
    'linux-7.3',
    [
      'map with a wrap past 2^64 is EINVAL and changes nothing',
      'unmap with a wrap past 2^64 is EINVAL, calls nobody and changes nothing',
    ],
  ],
];
for (const [profile, caught] of kernels) {
  test(`type1 under the profile ${profile} differs in exactly the known cases`, async () => {
    assert.deepEqual(failedCases(await runIommuBackend(harness(profile, { profile }))), caught);
  });
}
