import { asIovaFrame, asPfn, PROT_RW } from '@pinion/core';
import { adaptHypervisor } from '@pinion/gvt';

/** Somebody else's hypervisor: it can hold a page and let it go, nothing more. */
export const oneByOne = adaptHypervisor(({ pins }) => {
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
