import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { FrameRange, Gfn, Pfn } from '@pinion/core';
import { type BackendFactory, KvmBackend, kvmBackend } from '@pinion/gvt';
import { explore, replay } from '@pinion/testkit';
import { COLOR, contextGuest, ringGuest, viewer } from './explored-guests.js';
import { assertPasses, BACKENDS, makeScenario } from './explored-scenarios.js';
import { GOING, GvtWorld } from './explored-world.js';

/** What stands in the first and the last page that the guest draws on, in a row of its own. */
const drawn = (world: GvtWorld) => [world.peek(GOING.first, 0), world.peek(GOING.last, 4)];

for (const [name, guest] of [
  ['ring', ringGuest],
  ['context', contextGuest],
] as const) {
  test(`the guest with a ${name} draws if nobody disturbs it`, async () => {
    const world = await GvtWorld.start({ traps: true });
    for (const [step, run] of Object.entries(guest(world.seat()).steps)) {
      await run();
      world.clock.advance(5);
      if (step.startsWith('draws')) assert.deepEqual(drawn(world), [COLOR, COLOR], step);
      if (step.startsWith('draws')) for (const at of [GOING.first, GOING.last]) world.poke(at, 0, [0, 0]);
    }
    assert.deepEqual([world.seat().device.engineError, world.seat().device.faults], [undefined, []]);
    await world.end();
  });
}

describe('a guest that draws by the ring', () => {
  for (const [name, hypervisor] of BACKENDS) {
    test(`on ${name}, closed and opened beside passthrough`, () =>
      assertPasses(makeScenario({ guest: ringGuest, life: 'close and open', hypervisor, mixed: true }), { bound: 12 }));
  }

  test('reset: every order with one deviation', () =>
    assertPasses(makeScenario({ guest: ringGuest, life: 'a reset' }), { bound: 60, depth: 1 }));

  test('removed', () => assertPasses(makeScenario({ guest: ringGuest, life: 'removal', mixed: true }), { bound: 12 }));
});

describe('a screen that is shown outside', () => {
  for (const life of ['close and open', 'a reset', 'removal'] as const) {
    test(`meanwhile: ${life}`, () =>
      assertPasses(makeScenario({ guest: ringGuest, other: (world) => viewer(world.seat()), life, mixed: true }), {
        bound: 20,
      }));
  }

  test('is one that the viewer can see if nobody disturbs it', async () => {
    const world = await GvtWorld.start();
    for (const run of Object.values(ringGuest(world.seat()).steps)) await run();
    world.clock.advance(0);
    await viewer(world.seat()).steps['takes the screen']?.();
    assert.deepEqual(world.seat().device.exported, { buffers: 1, pages: 16 });
    await world.seat().close();
    assert.deepEqual(world.seat().device.exported.pages, 0);
    await world.end();
  });
});

describe('two vGPUs of one GPU, in one guest', () => {
  for (const life of ['close and open', 'a reset', 'removal'] as const) {
    test(`one draws by contexts, and the other meets ${life}`, () => {
      const other = (world: GvtWorld) => ({ ...contextGuest(world.seat(1)), name: 'second guest' });
      return assertPasses(makeScenario({ guest: ringGuest, other, life, vgpus: 2, traps: true, horizon: 5 }), {
        bound: 15,
      });
    });
  }
});

/** Remembers every address it ever handed out, and takes that of a page whose mapping is gone for one that is held. */
class Trusting extends KvmBackend {
  readonly #known = new Map<Gfn, Pfn>();

  override dmaMapGuestPage(gfn: Gfn, size: number): Pfn {
    const known = this.#known.get(gfn);
    if (known === undefined) {
      const dma = super.dmaMapGuestPage(gfn, size);
      this.#known.set(gfn, dma);
      return dma;
    }
    if ((this.cache?.refs(gfn) ?? 0) > 0) this.dmaPinGuestPage(known);
    return known;
  }
}

/** Gives a range back when its promises have had their turn: too late. */
class Late extends KvmBackend {
  override releaseRange(range: FrameRange): number {
    queueMicrotask(() => queueMicrotask(() => super.releaseRange(range)));
    return 0;
  }
}

const broken: readonly (readonly [what: string, hypervisor: BackendFactory, says: RegExp])[] = [
  ['hands out what it no longer holds', (parts) => new Trusting(parts), /is no page \(any more\)|not held/],
  ['gives a range back too late', (parts) => new Late(parts), /leftovers/],
];
for (const [what, hypervisor, says] of broken) {
  test(`a backend that ${what} is found, and fails again by the schedule that was printed`, async () => {
    const scenario = makeScenario({ guest: ringGuest, life: 'a reset', hypervisor });
    const { failed, schedules } = await explore(scenario, { bound: 200 });
    assert.ok(schedules > 1, 'the default order does not show it');
    assert.ok(failed);
    assert.match(String(failed.error), says);
    assert.equal((await replay(scenario, failed.schedule))?.trace.length, failed.trace.length);
    const sound = makeScenario({ guest: ringGuest, life: 'a reset', hypervisor: kvmBackend });
    assert.equal(await replay(sound, failed.schedule), undefined);
  });
}
