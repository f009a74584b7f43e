import assert from 'node:assert/strict';
import { asGfn, asIovaFrame, asPfn, type FrameRange, PROT_RW } from '@pinion/core';
import {
  adaptHypervisor,
  type BackendFactory,
  kvmBackend,
  type StaticMemory,
  staticBackend,
  xenBackend,
} from '@pinion/gvt';
import { type Actor, describeFailed, explore, type Scenario } from '@pinion/testkit';
import { type ExploredOptions, GOING, type GvtSeat, GvtWorld, STAYING } from './explored-world.js';

const adapted = adaptHypervisor(({ pins }) => {
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

type Named = readonly [name: string, hypervisor: BackendFactory];

/** One backend of each kind, for guests with this memory. */
export const backendsOver = (memory: Required<StaticMemory>['memory']): readonly Named[] => [
  ['kvm', kvmBackend],
  ['xen', xenBackend],
  ['static', staticBackend({ memory })],
  ['adapted', adapted],
];

/** What every scenario runs on. */
export const BACKENDS = backendsOver(
  [STAYING, GOING].map(({ first, last }) => ({ first: asGfn(first), last: asGfn(last) })),
);

/** What may happen to the vGPU meanwhile. */
const LIVES = {
  'a reset': (seat) => ({ resets: () => seat.reset() }),
  'close and open': (seat) => ({ closes: () => seat.close(), opens: () => seat.open() }),
  removal: (seat) => ({ removes: () => Promise.all([seat.mdev.remove(), seat.close()]).then(() => {}) }),
} satisfies Record<string, (seat: GvtSeat) => Actor['steps']>;

export interface ScenarioOptions extends ExploredOptions {
  readonly guest: (seat: GvtSeat) => Actor;
  /** Somebody else besides; default nobody. */
  readonly other?: (world: GvtWorld) => Actor;
  readonly life: keyof typeof LIVES;
  /** What the VMM takes away and maps again; default the pages that are drawn on. */
  readonly unmaps?: FrameRange;
  /** Time that passes by itself, ms. Default 0. */
  readonly horizon?: number;
}

/** A guest draws while its VMM takes memory away and maps other memory there, and something happens to the vGPU. */
export function makeScenario(request: ScenarioOptions): Scenario {
  const { guest, other, life, unmaps = GOING, horizon = 0, ...options } = request;
  return {
    name: `unmap against map, dispatch and ${life}`,
    async start() {
      const world = await GvtWorld.start(options);
      const vmm = { unmaps: () => world.unmap(unmaps), 'maps other memory': () => world.map(unmaps) };
      const actors = [
        guest(world.seat()),
        { name: 'vmm', steps: vmm },
        { name: 'life', steps: LIVES[life](world.seat()) },
      ];
      return {
        actors: other === undefined ? actors : [...actors, other(world)],
        clock: world.clock,
        horizon,
        check: () => world.check(),
        end: () => world.end(),
        abandon: () => world.abandon(),
      };
    },
  };
}

/** With PINION_EXPLORE=5000 in the environment each scenario is played in that many orders. */
const MORE = process.env['PINION_EXPLORE'];

/** Plays a scenario in `bound` orders, none of which may fail. `depth`: all with so many deviations are among them. */
export async function assertPasses(
  scenario: Scenario,
  { bound, depth = 0 }: { bound: number; depth?: number },
): Promise<void> {
  const seen = await explore(scenario, { bound: MORE === undefined ? bound : Number(MORE) });
  assert.equal(seen.failed, undefined, seen.failed && describeFailed(scenario, seen.failed));
  assert.ok(
    seen.exhausted || (seen.schedules >= bound && seen.depth >= depth),
    `${seen.schedules}, depth ${seen.depth}`,
  );
}
