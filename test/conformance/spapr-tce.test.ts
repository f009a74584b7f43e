import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Container, EXTENSION } from '@pinion/core';
import { PowerPlatform, powerTables, spaprTce, TCE_IOCTL, TceControl } from '@pinion/spapr-tce';
import { describeIommuBackend, failedCases, type IommuBackendHarness, runIommuBackend } from '@pinion/testkit';

type Options = Partial<Parameters<typeof spaprTce>[0]>;

const common = (name: string, options: Options): Omit<IommuBackendHarness, 'iommuType'> => ({
  name,
  backend: () => spaprTce({ hardware: powerTables, ...options }),
  passthrough: (memory) => new PowerPlatform({ memory }).createGroup(),
  // No pins, so nothing about drivers; no dirty tracking, copies or domains; charges by window and by region, not by page.
  capabilities: new Set(['passthrough', 'replaces', 'unmaps-parts', 'refuses-mediated']),
  leak: { name: 'none: nobody can pin', rounds: 0 },
});

/** v1: enabled; the default window is there, so that a case sees no charge but its own. */
const v1 = (options: Options = {}): IommuBackendHarness => ({
  ...common('sPAPR TCE v1', options),
  iommuType: EXTENSION.SPAPR_TCE_IOMMU,
  ready(container: Container) {
    new TceControl(container).enable();
    container.ioctl(TCE_IOCTL.UNMAP_DMA, { flags: 0, iova: 0n, size: 0n });
  },
});

/** v2: memory is registered before it is mapped. */
const v2 = (options: Options = {}): IommuBackendHarness => ({
  ...common('sPAPR TCE v2', options),
  iommuType: EXTENSION.SPAPR_TCE_v2_IOMMU,
  share: (container, memory) => new TceControl(container).registerMemory(memory),
});

describeIommuBackend(v1());
describeIommuBackend(v2());

for (const harness of [v1, v2]) {
  test(`${harness().name}: all that needs no pins runs, the rest is skipped by the name of what is missing`, async () => {
    const outcomes = await runIommuBackend(harness());
    const passed = outcomes.filter(({ outcome }) => outcome === 'passed');
    assert.ok(passed.length >= 15, `${passed.length} cases`);
    for (const outcome of outcomes) if (outcome.outcome === 'skipped') assert.notDeepEqual(outcome.missing, []);
  });

  test(`${harness().name} under the profile linux-6.12 keeps the contract`, async () => {
    assert.deepEqual(failedCases(await runIommuBackend(harness({ profile: 'linux-6.12' }))), []);
  });
}
