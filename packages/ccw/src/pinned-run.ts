import { asPfn, type FrameRange, frameRange, iovaFrame, type PinApi, PROT_RW } from '@pinion/core';

/** Pages that one pin took. */
export interface PinnedRun {
  readonly range: FrameRange;
  /** The live bytes of all pages in order. @throws PinionError CORE_PINS_RELEASED after `unpin`. */
  views(): readonly Uint8Array[];
  /** Gives the pages back; a second call does nothing. */
  unpin(): void;
}

/** Pins `count` pages from the one that holds byte `iova`. @throws whatever `pins.pin` throws. */
export const pinPages = (pins: PinApi, iova: bigint, count: number): PinnedRun =>
  pins.pin(iovaFrame(iova), count, PROT_RW);

/** The same by the byte address itself, which some backends keep: see the quirk `unaligned-pins`. */
export function pinBytes(pins: PinApi, iova: bigint, count: number): PinnedRun {
  const frames = new Float64Array(count);
  pins.pinAt(iova, count, PROT_RW, frames);
  let held = true;
  return {
    range: frameRange(iovaFrame(iova), count),
    views: () => (held ? Array.from(frames, (pfn) => pins.bytes(asPfn(pfn), 1)) : []),
    unpin: () => {
      if (held) pins.unpinAt(iova, count);
      held = false;
    },
  };
}
