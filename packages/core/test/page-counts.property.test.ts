import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type IovaFrame, LAST_FRAME, PROT_RW } from '@pinion/core';
import fc from 'fast-check';
import { at, backendOf, openMdev, startWorld } from './world.js';

/** Places far apart, so that frames of 32, 40 and 52 bits share one table. */
const BASES = [0, 2 ** 20 - 8, 2 ** 32 - 8, 2 ** 40, LAST_FRAME - 63];

const frame = fc.tuple(fc.constantFrom(...BASES), fc.nat(50)).map(([base, more]) => base + more);
const operation = fc.record({ pin: fc.boolean(), frame, count: fc.integer({ min: 1, max: 12 }) });

async function seated() {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  for (const base of BASES) {
    seat.container.mapDma({ iova: BigInt(base) << 12n, size: 64n << 12n, vaddr: 0n, prot: PROT_RW });
  }
  return { world, pins: seat.device.context.pins, container: seat.container };
}

test('any order of pins and unpins keeps the books: counts, distinct pages, what the backend holds', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (operations) => {
      const { world, pins, container } = await seated();
      const model = new Map<number, number>();
      for (const { pin, frame: first, count } of operations) {
        if (pin) pins.pin(at(first), count, PROT_RW);
        else pins.unpin(at(first), count);
        for (let page = first; page < first + count; page += 1) step(model, page, pin);
      }
      assert.equal(pins.pages, model.size);
      for (const [page, references] of model) assert.equal(pins.count(at(page)), references);
      assert.deepEqual(sorted(backendOf(world).pinned), sorted(model));
      await container.unmapAll();
      assert.deepEqual([pins.pages, backendOf(world).pinned.size], [0, 0]);
      await world.mediator.close();
    }),
    { numRuns: 60 },
  );
});

/** An unpin of a page that is not held changes nothing. */
function step(model: Map<number, number>, page: number, pin: boolean): void {
  const references = (model.get(page) ?? 0) + (pin ? 1 : -1);
  if (references > 0) model.set(page, references);
  else model.delete(page);
}

const sorted = (counts: ReadonlyMap<number, number>): [number, number][] => [...counts].sort(([a], [b]) => a - b);

test('many pages grow the table and it empties again', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  seat.container.mapDma({ iova: 0n, size: 1n << 32n, vaddr: 0n, prot: PROT_RW });
  const { pins } = seat.device.context;
  const places: IovaFrame[] = Array.from({ length: 3000 }, (_, index) => at((index * 337) % (1 << 20)));
  const out = new Float64Array(1);
  for (const place of places) pins.pinInto(place, 1, PROT_RW, out);
  assert.equal(pins.pages, new Set(places).size);
  for (const place of places) pins.unpin(place, 1);
  assert.deepEqual([pins.pages, backendOf(world).pinned.size], [0, 0]);
  await world.mediator.close();
});
