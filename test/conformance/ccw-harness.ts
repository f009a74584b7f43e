import assert from 'node:assert/strict';
import {
  CCW_FLAG,
  CcwDevice,
  type ChannelData,
  type ControlUnit,
  commandOrb,
  createCcwDriver,
  DEVICE_STATUS,
  encodeCcw,
  ORB,
} from '@pinion/ccw';
import { definePlugin, frameAddress, type IovaFrame, type Mdev } from '@pinion/core';
import type { DriverSeat, VendorDriverHarness, VendorDriverRig } from '@pinion/testkit';
import { onType1 } from './vendor-world.js';

const READ = 0x02;
const BYTES = 16;
const subchannel = (index: number): string => `0.0.000${index}`;

const deviceOf = (mdev: Mdev): CcwDevice => {
  const { ops } = mdev.device;
  assert.ok(ops instanceof CcwDevice);
  return ops;
};

/** A unit whose reads wait, with the guest's pages in hand, until the test opens the gate. */
class GatedUnit implements ControlUnit {
  readonly name = 'gated';
  readonly sense = new Uint8Array(32);
  #open: (() => void) | undefined;

  reset(): void {}

  begin(): void {}

  async execute(_command: number, data: ChannelData): Promise<number> {
    const pieces = data.take(BYTES, 'to-guest');
    await new Promise<void>((resolve) => {
      this.#open = resolve;
    });
    for (const piece of pieces) piece.fill(0x77);
    return DEVICE_STATUS.CHANNEL_END | DEVICE_STATUS.DEVICE_END;
  }

  open(): void {
    this.#open?.();
    this.#open = undefined;
  }
}

/** Reads of `count` bytes, one after the other, into these addresses. `suspended`: the program stops before its first. */
function start(seat: DriverSeat, what: { addresses: readonly bigint[]; count: number; suspended: boolean }): void {
  const at = frameAddress(seat.control.first);
  const last = what.addresses.length - 1;
  for (const [index, address] of what.addresses.entries()) {
    const suspend = index === 0 && what.suspended ? CCW_FLAG.SUSPEND : 0;
    const flags = CCW_FLAG.SLI | suspend | (index < last ? CCW_FLAG.CHAIN_COMMAND : 0);
    const ccw = encodeCcw({ command: READ, flags, count: what.count, address: Number(address) });
    seat.memory.write(at + BigInt(index * 8), ccw);
  }
  deviceOf(seat.mdev).start(commandOrb(Number(at), ORB.SUSPEND));
}

const addresses = (frames: readonly IovaFrame[]): readonly bigint[] => frames.map((frame) => frameAddress(frame) + 8n);

/** One subchannel per device; a program pins its data pages while it is in flight, and here it stays in flight. */
function startCcw(quirks: readonly string[]): VendorDriverRig {
  const units = Object.fromEntries([0, 1, 2, 3].map((index) => [subchannel(index), new GatedUnit()]));
  const driver = createCcwDriver({ units, quirks });
  return {
    plugin: definePlugin({ name: 'ccw', core: '^0.1', register: (scope) => scope.vendorDriver(driver) }),
    driver: 'ccw',
    type: 'io',
    parent: subchannel,
    pinSomething: (seat, frames) => start(seat, { addresses: addresses(frames), count: BYTES, suspended: true }),
    isIdle: (seat) => deviceOf(seat.mdev).state === 'idle' && deviceOf(seat.mdev).pinnedPages === 0,
    wide: {
      pages: 2,
      pin: (seat, first) => start(seat, { addresses: [frameAddress(first)], count: 2 * 4096, suspended: true }),
    },
    async beginWrite(seat, frame) {
      start(seat, { addresses: addresses([frame]), count: BYTES, suspended: false });
      await new Promise((resolve) => setImmediate(resolve));
    },
    finishIo: (seat) => units[subchannel(seat.index)]?.open(),
  };
}

export const ccwHarness = (quirks: readonly string[] = []): VendorDriverHarness => ({
  name: `ccw${quirks.map((quirk) => ` with ${quirk}`).join('')}`,
  ...onType1,
  capabilities: new Set(['io', 'reset', 'passthrough', 'wide']),
  start: () => startCcw(quirks),
});
