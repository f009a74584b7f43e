import assert from 'node:assert/strict';
import { ApDevice, ap, aqicRegister1, PQAP_FUNCTION, pqapRegister0 } from '@pinion/ap';
import type { IovaFrame, Mdev } from '@pinion/core';
import type { DriverSeat, VendorDriverHarness, VendorDriverRig } from '@pinion/testkit';
import { onType1 } from './vendor-world.js';

const DOMAINS = [0, 1, 2, 3];
const ADAPTERS = [0, 1, 2, 3];
const ISC = 3;
/** Where in its page a notification byte stands. */
const NIB_OFFSET = 0x18;

const deviceOf = (mdev: Mdev): ApDevice => {
  const { ops } = mdev.device;
  assert.ok(ops instanceof ApDevice);
  return ops;
};

/** Turns the interrupts of the device's n-th queue on, with the notification byte in `frame`. */
function enable(seat: DriverSeat, queue: number, frame: IovaFrame): void {
  const nib = (BigInt(frame) << 12n) + BigInt(NIB_OFFSET);
  const gr0 = pqapRegister0(PQAP_FUNCTION.AQIC, (seat.index << 8) | queue);
  const { cc } = deviceOf(seat.mdev).pqap(gr0, aqicRegister1(ISC), nib);
  assert.equal(cc, 0, `AQIC for queue ${queue}`);
}

/** One card per device; each queue that signals pins one page. A reply is the I/O that writes. */
function startAp(quirks: readonly string[]): VendorDriverRig {
  return {
    plugin: ap({ adapters: ADAPTERS, domains: DOMAINS, quirks }),
    driver: 'ap',
    type: 'passthrough',
    parent: () => 'matrix',
    prepare(mdev, index) {
      const device = deviceOf(mdev);
      device.configure({ adapters: [index], domains: DOMAINS });
      device.setGuest({ interrupt: () => {} });
    },
    pinSomething(seat, frames) {
      for (const [queue, frame] of frames.entries()) enable(seat, queue, frame);
    },
    isIdle: (seat) => deviceOf(seat.mdev).interrupts.length === 0,
    beginWrite(seat, frame) {
      enable(seat, 0, frame);
      deviceOf(seat.mdev).nqap(seat.index << 8, 1n, new Uint8Array(1));
    },
    finishIo: (seat) => seat.clock.advance(0),
  };
}

export const apHarness = (quirks: readonly string[] = []): VendorDriverHarness => ({
  name: `ap${quirks.map((quirk) => ` with ${quirk}`).join('')}`,
  ...onType1,
  capabilities: new Set(['io', 'reset', 'passthrough']),
  start: () => startAp(quirks),
});
