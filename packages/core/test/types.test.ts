import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  asGfn,
  asIovaFrame,
  asPfn,
  defineDriver,
  type FrameRange,
  type Gfn,
  gpaFrame,
  type IovaFrame,
  iovaFrame,
  type Pfn,
  type PinApi,
  type PinningDriver,
  type PlainDriver,
  type VaddrFrame,
  vaddrFrame,
} from '@pinion/core';

/**
 * What must not compile. The compiler is the test here: an expectation of an error that does not come is itself an error.
 * The functions are never called.
 */
const about = { name: 'x', deviceApi: 'vfio-x', types: [{ id: 'a' }] } as const;

export const plainHasNoPins: PlainDriver = defineDriver({
  ...about,
  pins: false,
  create(context) {
    // @ts-expect-error a plain driver's context has no pin API
    const pins: PinApi = context.pins;
    return { open: () => void pins };
  },
});

export const pinningNeedsDmaUnmap: PinningDriver = {
  ...about,
  pins: true,
  // @ts-expect-error no pin right without an unpin duty: dmaUnmap is missing
  create: () => ({ close: () => {} }),
};

export const dmaUnmapTakesARange: PinningDriver = {
  ...about,
  pins: true,
  // @ts-expect-error dmaUnmap gets a range, never a single address
  create: () => ({ dmaUnmap: (_iova: bigint) => {} }),
};

export function brandsDoNotMix(iova: IovaFrame, vaddr: VaddrFrame, pfn: Pfn, gfn: Gfn, pins: PinApi): void {
  // @ts-expect-error an iova frame is no host frame
  const a: Pfn = iova;
  // @ts-expect-error a host frame is no iova frame
  const b: IovaFrame = pfn;
  // @ts-expect-error a guest frame is not the iova frame: the guest may have an IOMMU of its own
  const c: IovaFrame = gfn;
  // @ts-expect-error a vaddr frame is no iova frame
  const d: IovaFrame = vaddr;
  // @ts-expect-error a plain number is no frame
  const e: IovaFrame = 5;
  // @ts-expect-error a byte address is no frame
  const f: IovaFrame = 4096n;
  // @ts-expect-error the pin API takes iova frames
  pins.unpin(pfn, 1);
  // @ts-expect-error a byte address is a bigint, never a number
  pins.unpinAt(4096, 1);
  // @ts-expect-error a range of host frames is no range of iova frames
  const g: FrameRange = { first: pfn, last: pfn };
  void [a, b, c, d, e, f, g];
}

test('the constructors of frames make plain numbers', () => {
  const frames = [asIovaFrame(3), asPfn(3), asGfn(3), iovaFrame(0x3fffn), vaddrFrame(0x3000n), gpaFrame(0x3001n)];
  assert.deepEqual(frames, [3, 3, 3, 3, 3, 3]);
});
