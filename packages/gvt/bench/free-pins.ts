import { PAGE_SIZE, type PinApi, PinionError } from '@pinion/core';

/** What no benchmark calls. */
export const unused = (): never => {
  throw new PinionError('BENCH_UNUSED', 'ENOTTY', 'not part of what is measured');
};

/** Pins cost nothing here, so that only what is above them is measured. Pages lie one after the other in `memory`. */
export const freePins = (memory: Uint8Array): PinApi => ({
  pages: 0,
  pin: unused,
  pinAt: unused,
  unpinAt: unused,
  count: () => 0,
  unpin: () => {},
  pinInto: (first, count, _prot, out) => {
    for (let page = 0; page < count; page++) out[page] = first + page;
  },
  bytes: (pfn, count) => memory.subarray(pfn * PAGE_SIZE, (pfn + count) * PAGE_SIZE),
});
