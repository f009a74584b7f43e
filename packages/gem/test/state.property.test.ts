import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PinionError } from '@pinion/core';
import { GemAddressSpace, type GemObject, type StrategyName } from '@pinion/gem';
import fc from 'fast-check';
import { gpu, leftovers, NOTHING, names } from './harness.js';

/** One step of a driver; what makes no sense at that moment is refused with an error of ours. */
type Step =
  | { readonly do: 'pin' | 'unpin' | 'put' | 'dontneed' | 'willneed' | 'shrink'; readonly object: number }
  | { readonly do: 'bind' | 'unbind'; readonly object: number; readonly space: number }
  | { readonly do: 'fail'; readonly nth: number };

const object = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constantFrom('pin', 'unpin', 'put', 'dontneed', 'willneed', 'shrink'), object }),
  fc.record({ do: fc.constantFrom('bind', 'unbind'), object, space: fc.nat(2) }),
  fc.record({ do: fc.constant('fail' as const), nth: fc.integer({ min: 1, max: 3 }) }),
);

function perform(
  world: ReturnType<typeof gpu>,
  objects: readonly GemObject[],
  spaces: readonly GemAddressSpace[],
  what: Step,
): void {
  if (what.do === 'fail') {
    world.iommu.failures.fail('map', what.nth, 'ENOMEM');
    return;
  }
  const target = objects[what.object];
  assert.ok(target);
  if (what.do === 'bind' || what.do === 'unbind') {
    const space = spaces[what.space];
    assert.ok(space);
    target[what.do](space);
  } else if (what.do === 'pin') target.pinPages();
  else if (what.do === 'unpin') target.unpinPages();
  else if (what.do === 'put') target.putPages();
  else if (what.do === 'shrink') target.shrink(false);
  else target.madvise(what.do);
}

/** The invariants of reference D.2. */
function check(strategy: StrategyName, { state, mappedPages }: GemObject): void {
  const mapped = mappedPages > 0;
  assert.ok(state.mapBalance === 0 || state.mapBalance === 1);
  assert.equal(mapped, state.mapBalance === 1);
  if (state.bindCount > 0) assert.ok(mapped);
  assert.ok(state.pagesPins >= state.bindCount);
  if (strategy === 'get-pages') assert.equal(mapped, state.pages === 'present');
  else assert.equal(mapped, state.bindCount > 0);
  if (state.madvise === 'purged') assert.equal(state.pages, 'none');
}

for (const strategy of ['first-bind', 'get-pages'] as const) {
  test(`${strategy}: mapped exactly while it should be, whatever a driver does`, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const world = gpu({ strategy });
        const objects = [3, 1, 7].map((pages) => world.gem.createShmem(pages));
        const spaces = [8, 16, 64].map((pages, index) => new GemAddressSpace(`space-${index}`, pages));
        for (const what of steps) {
          try {
            perform(world, objects, spaces, what);
          } catch (error) {
            assert.ok(error instanceof PinionError && error.name.startsWith('GEM_'), String(error));
          }
          for (const each of objects) check(strategy, each);
          const mapped = objects.reduce((sum, each) => sum + each.mappedPages, 0);
          assert.equal(world.ops.frames, mapped);
        }
        for (const each of objects) {
          while (each.state.pagesPins > each.state.bindCount) each.unpinPages();
          each.free();
        }
        assert.deepEqual(names(world), []);
        assert.deepEqual(leftovers(world), NOTHING);
        assert.deepEqual(
          spaces.map(({ used }) => used),
          [0, 0, 0],
        );
      }),
      { numRuns: 150 },
    );
  });
}
