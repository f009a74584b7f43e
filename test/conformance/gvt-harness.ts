import assert from 'node:assert/strict';
import { asGfn, frameAddress, type IovaFrame, type Mdev } from '@pinion/core';
import {
  BCS,
  GTT_OFFSET,
  GvtDevice,
  type GvtOptions,
  type GvtQuirk,
  gvt,
  miStoreDword,
  REGION,
  SIZE_2M,
} from '@pinion/gvt';
import type { DriverSeat, VendorDriverHarness, VendorDriverRig } from '@pinion/testkit';
import { onType1 } from './vendor-world.js';

const PAGE = 4096;
const VALUE = 0x77777777;
/** Graphics page of the ring; pages of the guest come behind it. */
const RING = 0;
const FIRST = 1;

const deviceOf = (mdev: Mdev): GvtDevice => {
  const { ops } = mdev.device;
  assert.ok(ops instanceof GvtDevice);
  return ops;
};
const base = (seat: DriverSeat): number => deviceOf(seat.mdev).resources.low.base;
const bytesOf = (words: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(words).buffer);

/** Lets the n-th page of the vGPU's graphics memory be this guest page. */
function mapPage(seat: DriverSeat, page: number, frame: IovaFrame): void {
  const entry = frameAddress(frame) | 3n;
  const words = [Number(entry & 0xffff_ffffn), Number(entry >> 32n)];
  seat.file.writeRegion(REGION.BAR0, GTT_OFFSET + (base(seat) / PAGE + page) * 8, bytesOf(words));
}

/** What a backend holds for good says nothing about I/O. */
function isIdle({ backend, engine, stats }: GvtDevice): boolean {
  const { cacheEntries, tableEntries } = stats;
  return (backend.capabilities.pinned || cacheEntries === 0) && tableEntries === 0 && engine !== 'running';
}

/** One GPU; a page is pinned by a table entry. A store by the blitter's ring is the I/O that writes. */
function startGvt(options: GvtOptions): VendorDriverRig {
  return {
    plugin: gvt(options),
    driver: 'gvt',
    type: 'V5_4',
    parent: () => '0000:00:02.0',
    pinSomething(seat, frames) {
      for (const [index, frame] of frames.entries()) mapPage(seat, FIRST + index, frame);
    },
    isIdle: (seat) => isIdle(deviceOf(seat.mdev)),
    wide: {
      pages: SIZE_2M / PAGE,
      pin: (seat, first) => void deviceOf(seat.mdev).backend.dmaMapGuestPage(asGfn(first), SIZE_2M),
    },
    beginWrite(seat, frame) {
      mapPage(seat, RING, seat.control.first);
      mapPage(seat, FIRST, frame);
      const job = bytesOf([...miStoreDword(base(seat) + FIRST * PAGE, VALUE), 0, 0, 0, 0]);
      seat.memory.write(frameAddress(seat.control.first), job);
      for (const [register, value] of [
        [BCS.START, base(seat)],
        [BCS.CTL, 1],
        [BCS.TAIL, 32],
      ] as const)
        seat.file.writeRegion(REGION.BAR0, register, bytesOf([value]));
    },
    finishIo: (seat) => seat.clock.advance(0),
  };
}

export const gvtHarness = (quirks: readonly GvtQuirk[] = []): VendorDriverHarness => ({
  name: `gvt${quirks.map((quirk) => ` with ${quirk}`).join('')}`,
  ...onType1,
  capabilities: new Set(['io', 'reset', 'passthrough', 'wide']),
  start: () => startGvt({ quirks }),
});

/** The same on another hypervisor. */
export const gvtHarnessOn = (name: string, about: GvtOptions & { pinned?: boolean }): VendorDriverHarness => ({
  ...gvtHarness(),
  name: `gvt on ${name}`,
  capabilities: new Set(['io', 'reset', 'passthrough', 'wide', ...(about.pinned === true ? ['pinned' as const] : [])]),
  start: () => startGvt(about),
});
