import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asGfn, EXTENSION, type FrameRange, type Pfn, silentLog } from '@pinion/core';
import { type BackendFactory, KvmBackend, kvmBackend, NO_QUIRKS, staticBackend, xenBackend } from '@pinion/gvt';
import {
  describeHypervisorBackend,
  failedCases,
  type HypervisorCapability,
  type HypervisorHarness,
  runHypervisorBackend,
} from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { oneByOne } from './one-by-one.js';

const harness = (
  name: string,
  make: BackendFactory,
  capabilities: readonly HypervisorCapability[],
): HypervisorHarness => ({
  name,
  capabilities: new Set(capabilities),
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  make: ({ name: device, pins, dma }) => make({ device, pins, dma, log: silentLog, quirks: NO_QUIRKS }),
});

const memory = [{ first: asGfn(0), last: asGfn(0xfff) }];
describeHypervisorBackend(harness('kvm', kvmBackend, ['counts', 'large-pages', 'dma-pin']));
describeHypervisorBackend(harness('adapted', oneByOne, ['counts', 'large-pages', 'dma-pin']));
describeHypervisorBackend(harness('xen', xenBackend, ['large-pages']));
describeHypervisorBackend(harness('static', staticBackend({ memory }), ['large-pages']));

/** Drops a page at the first unmap, whoever else holds it. */
class Hasty extends KvmBackend {
  override dmaUnmapGuestPage(dma: Pfn): void {
    for (let refs = 0; refs < 8; refs++) super.dmaUnmapGuestPage(dma);
  }
}
/** Looks only at the first page of a range. */
class PointMinded extends KvmBackend {
  override releaseRange(range: FrameRange): number {
    return super.releaseRange({ first: range.first, last: range.first });
  }
}

const broken: readonly (readonly [what: string, make: BackendFactory, caught: string])[] = [
  ['drops a page too early', (parts) => new Hasty(parts), 'a page is held until its last reference'],
  [
    'sees only the first page of a range',
    (parts) => new PointMinded(parts),
    'a range goes: nothing in it is held whatever its references, the rest stays',
  ],
];
for (const [what, make, caught] of broken) {
  test(`a backend that ${what} is caught`, async () => {
    const outcomes = await runHypervisorBackend(harness(what, make, ['counts', 'large-pages', 'dma-pin']));
    assert.ok(failedCases(outcomes).includes(caught), failedCases(outcomes).join('; '));
  });
}
