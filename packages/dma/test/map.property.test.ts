import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame } from '@pinion/core';
import { SgList } from '@pinion/dma';
import fc from 'fast-check';
import { BASE, behindIommu } from './harness.js';

const entry = fc
  .tuple(
    fc.nat(200),
    fc.oneof(fc.constant(0), fc.nat(4095)),
    fc.oneof(fc.constantFrom(4096, 8192), fc.integer({ min: 1, max: 9000 })),
  )
  .map(([page, offset, length]) => ({ pfn: BASE + page, offset, length }));

test('whatever the list: every byte is reached in order, segments keep the limits, and unmap leaves nothing', () => {
  fc.assert(
    fc.property(
      fc.array(entry, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(4096, 8192, 65536, 1048576),
      fc.constantFrom(0xfffn, 0x1fffn, 0xffffn, 0xffff_ffffn),
      (entries, maxSegment, segmentBoundary) => {
        const world = behindIommu();
        const { raw, device, debug, ops, domain } = world;
        Object.assign(device, { maxSegment, segmentBoundary });
        // why: the numbers are frames of the test memory
        const list = new SgList(entries as never);
        assert.ok(raw.mapSg(list, 0) > 0);
        let before = 0;
        for (const { pfn, offset, length } of entries) {
          for (const at of [0, length >> 1, length - 1]) {
            assert.equal(reach(world, list, before + at), pfn * 4096 + offset + at);
          }
          before += length;
        }
        const longest = Math.max(...entries.map(({ length }) => length));
        for (const { length } of list.segments) assert.ok(length <= Math.max(maxSegment, longest));
        raw.unmapSg(list, 0);
        assert.deepEqual([ops.frames, domain.stats.frames, debug.counters.entries], [0, 0, 0]);
      },
    ),
    { numRuns: 100 },
  );
});

/** The physical byte that a device reaches at byte `at` of a list. */
function reach({ domain }: ReturnType<typeof behindIommu>, list: SgList, at: number): number | undefined {
  let left = at;
  for (const { dma, length } of list.segments) {
    if (left < length) {
      const byte = Number(dma) + left;
      const pfn = domain.lookup(asIovaFrame(Math.floor(byte / 4096)));
      return pfn === undefined ? undefined : pfn * 4096 + (byte % 4096);
    }
    left -= length;
  }
  return undefined;
}
