import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame as at, asPfn as pfn } from '@pinion/core';
import { createSoftwareIommu, type SoftwareDomain } from '@pinion/iommu';
import fc from 'fast-check';
import { HostPages } from './host-pages.js';

/** Four 2 MiB pieces around a 1 GiB line: large enough for large leaves, small enough for a map of pages. */
const WINDOW = 512 * 6;
const BASE = 512 ** 2 * 2 - 512 * 3;

interface Step {
  readonly map: boolean;
  readonly first: number;
  readonly count: number;
  readonly to: number;
  readonly prot: number;
}

/** Ends and starts that fall on, just before and just after the lines between leaves. */
const edge = fc.oneof(
  fc.nat(WINDOW - 1),
  fc.integer({ min: 0, max: WINDOW / 512 - 1 }).map((piece) => piece * 512),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(511, 512, 513, 1024, 1536),
  fc.integer({ min: 1, max: WINDOW }),
);
const step: fc.Arbitrary<Step> = fc.record({
  map: fc.boolean(),
  first: edge,
  count: length,
  to: fc.oneof(edge, fc.constantFrom(512 * 7, 512 ** 2)),
  prot: fc.integer({ min: 1, max: 3 }),
});

/** Applies a step to both; the model is one entry per page. */
function apply(domain: SoftwareDomain, model: Map<number, string>, { map, first, count, to, prot }: Step): void {
  const frames = Array.from({ length: Math.min(count, WINDOW - first) }, (_, index) => BASE + first + index);
  const mapped = frames.filter((frame) => model.has(frame));
  if (!map) {
    assert.equal(domain.unmap(at(BASE + first), frames.length), mapped.length);
    for (const frame of frames) model.delete(frame);
  } else if (mapped.length > 0) {
    assert.throws(() => domain.map(at(BASE + first), pfn(to), frames.length, prot), { errno: 'EEXIST' });
  } else {
    domain.map(at(BASE + first), pfn(to), frames.length, prot);
    for (const [index, frame] of frames.entries()) model.set(frame, `${to + index} ${prot}`);
  }
}

/** What both say about every page of the window. */
function compare(domain: SoftwareDomain, model: Map<number, string>): void {
  for (let frame = BASE - 1; frame <= BASE + WINDOW; frame += 1) {
    const found = domain.translate(at(frame));
    assert.equal(found === undefined ? undefined : `${found.pfn} ${found.prot}`, model.get(frame));
  }
  const { frames, leaves4K, leaves2M, leaves1G } = domain.stats;
  assert.equal(frames, model.size);
  assert.equal(leaves4K + leaves2M * 512 + leaves1G * 512 ** 2, model.size);
  const leaves = [...domain.leaves()];
  assert.equal(leaves.length, leaves4K + leaves2M + leaves1G);
  for (const [index, leaf] of leaves.entries()) {
    assert.equal(leaf.first % leaf.frames, 0);
    assert.equal(leaf.pfn % leaf.frames, 0);
    const next = leaves[index + 1];
    assert.ok(next === undefined || leaf.first + leaf.frames <= next.first);
  }
}

for (const [addressWidth, pageSizes] of [
  [39, 0x40201000n],
  [48, 0x201000n],
  [57, 0x1000n],
] as const) {
  test(`any maps and unmaps leave what a map of pages says (${addressWidth} bit, leaves ${pageSizes.toString(16)})`, () => {
    const memory = new HostPages(0, 1);
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const domain = createSoftwareIommu({ memory, addressWidth, pageSizes }).allocDomain();
        const model = new Map<number, string>();
        for (const one of steps) apply(domain, model, one);
        compare(domain, model);
        assert.equal(domain.unmap(at(0), 2 ** 27), model.size);
        assert.equal(domain.stats.tables, 1);
      }),
      { numRuns: 60 },
    );
  });
}

test('a map that fails at any table leaves the domain as it was', () => {
  const memory = new HostPages(0, 1);
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 6 }), (steps, nth) => {
      const iommu = createSoftwareIommu({ memory, pageSizes: 0x201000n });
      const domain = iommu.allocDomain();
      for (const { map, first, count, to, prot } of steps) {
        const before = { leaves: [...domain.leaves()], tables: domain.stats.tables };
        iommu.failures.fail('table', nth, 'ENOMEM');
        try {
          if (map) domain.map(at(BASE + first), pfn(to), count, prot);
        } catch {
          assert.deepEqual({ leaves: [...domain.leaves()], tables: domain.stats.tables }, before);
        }
        iommu.failures.clear();
      }
      domain.unmap(at(0), 2 ** 27);
      assert.deepEqual([domain.stats.tables, domain.stats.frames], [1, 0]);
    }),
    { numRuns: 100 },
  );
});
