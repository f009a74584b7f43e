import { asGfn, asIovaFrame, asPfn, PROT_RW } from '@pinion/core';
import { adaptHypervisor, type BackendFactory, kvmBackend, staticBackend, xenBackend } from '@pinion/gvt';
import { describeVendorDriver } from '@pinion/testkit';
import { gvtHarnessOn } from './gvt-harness.js';

/** Somebody else's hypervisor: it can hold a page and let it go, nothing more. */
const adapted = adaptHypervisor(({ pins }) => {
  const frame = new Float64Array(1);
  return {
    kind: 'one-by-one',
    pin(gfn) {
      pins.pinInto(asIovaFrame(gfn), 1, PROT_RW, frame);
      return asPfn(frame[0] ?? 0);
    },
    unpin: (gfn) => pins.unpin(asIovaFrame(gfn), 1),
  };
});

/** All the memory that a case maps, with holes between its pieces. */
const partition = staticBackend({ memory: [{ first: asGfn(0), last: asGfn(0x1fff) }] });

const backends: readonly (readonly [name: string, hypervisor: BackendFactory, pinned: boolean])[] = [
  ['kvm', kvmBackend, false],
  ['xen', xenBackend, true],
  ['a static hypervisor', partition, true],
  ['an adapted hypervisor', adapted, false],
];

for (const [name, hypervisor, pinned] of backends) {
  const harness = gvtHarnessOn(name, { hypervisor, pinned });
  describeVendorDriver(harness);
  describeVendorDriver({ ...harness, name: `${harness.name}, beside passthrough`, mixed: true });
}
