import { asGfn } from '@pinion/core';
import { type BackendFactory, kvmBackend, staticBackend, xenBackend } from '@pinion/gvt';
import { describeVendorDriver } from '@pinion/testkit';
import { gvtHarnessOn } from './gvt-harness.js';
import { oneByOne } from './one-by-one.js';

/** All the memory that a case maps, with holes between its pieces. */
const partition = staticBackend({ memory: [{ first: asGfn(0), last: asGfn(0x1fff) }] });

const backends: readonly (readonly [name: string, hypervisor: BackendFactory, pinned: boolean])[] = [
  ['kvm', kvmBackend, false],
  ['xen', xenBackend, true],
  ['a static hypervisor', partition, true],
  ['an adapted hypervisor', oneByOne, false],
];

for (const [name, hypervisor, pinned] of backends) {
  const harness = gvtHarnessOn(name, { hypervisor, pinned });
  describeVendorDriver(harness);
  describeVendorDriver({ ...harness, name: `${harness.name}, beside passthrough`, mixed: true });
}
