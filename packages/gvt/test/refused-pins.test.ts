import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PinionError } from '@pinion/core';
import type { BackendFactory } from '@pinion/gvt';
import type { Actor } from '@pinion/testkit';
import { contextGuest, ringGuest } from './explored-guests.js';
import { BACKENDS } from './explored-scenarios.js';
import { GOING, type GvtSeat, GvtWorld } from './explored-world.js';

/** Everything a guest does with the n-th pin refused. @returns whether it came to that pin. */
async function live(guest: (seat: GvtSeat) => Actor, hypervisor: BackendFactory, refusedPin: number): Promise<boolean> {
  const world = await GvtWorld.start({ hypervisor, traps: true, refusedPin }).catch((refusal: unknown) => {
    // why: a static partition is pinned when the vGPU opens, and then it does not open
    assert.ok(refusal instanceof PinionError && refusal.errno === 'ENOMEM', String(refusal));
    return undefined;
  });
  if (world === undefined) return true;
  for (const run of Object.values(guest(world.seat()).steps)) {
    await run();
    world.clock.advance(5);
    world.check();
  }
  await world.unmap(GOING);
  world.map(GOING);
  for (const run of Object.values(guest(world.seat()).steps)) await run();
  world.clock.advance(5);
  world.check();
  const { happened } = world.pins;
  await world.end();
  return happened;
}

for (const [name, hypervisor] of BACKENDS) {
  describe(`each pin refused in its turn, on ${name}`, () => {
    for (const [what, guest] of [
      ['the ring', ringGuest],
      ['contexts', contextGuest],
    ] as const) {
      test(`a guest that draws by ${what} loses that page, and nothing is held afterwards`, async () => {
        let refused = 0;
        while (await live(guest, hypervisor, refused)) refused += 1;
        assert.ok(refused > 0, 'there was a pin to refuse');
      });
    }
  });
}
