import { describe, test } from 'node:test';
import { contextGuest } from './explored-guests.js';
import { assertPasses, BACKENDS, makeScenario } from './explored-scenarios.js';
import { STAYING } from './explored-world.js';

describe('a guest that draws by contexts in its own address space', () => {
  for (const [name, hypervisor] of BACKENDS) {
    for (const traps of [true, false]) {
      const life = traps ? 'a reset' : 'close and open';
      test(`on ${name}, ${traps ? 'with' : 'without'} write traps, and ${life}`, () =>
        assertPasses(makeScenario({ guest: contextGuest, life, hypervisor, traps, horizon: 5 }), { bound: 12 }));
    }
  }

  test('its tables, context and ring go away', () =>
    assertPasses(makeScenario({ guest: contextGuest, life: 'a reset', traps: true, unmaps: STAYING, horizon: 5 }), {
      bound: 30,
    }));
});
