import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PinionError } from '@pinion/core';
import fc from 'fast-check';
import {
  inWorld,
  map,
  type Opened,
  PAGE,
  reaches,
  TABLE_PAGES,
  unmap,
  V1,
  V2,
  WINDOW_PAGES,
  type World,
} from './world.js';

const PAGES = 24;

type Step =
  | { readonly op: 'map'; readonly at: number; readonly count: number; readonly page: number }
  | { readonly op: 'unmap'; readonly at: number; readonly count: number }
  | { readonly op: 'register' | 'unregister'; readonly half: 0 | 1 };

const place = fc.record({ at: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 8 }) });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({ op: fc.constant('map' as const), page: fc.nat(PAGES - 1), place })
      .map(({ op, page, place: at }) => ({ op, page, ...at })),
  },
  { weight: 2, arbitrary: place.map((at) => ({ op: 'unmap' as const, ...at })) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constantFrom('register' as const, 'unregister' as const),
      half: fc.constantFrom(0 as const, 1 as const),
    }),
  },
);

/** What must be true, kept without any of the backend's structures: where each page of iova leads, and what is registered. */
class Model {
  readonly entries = new Map<number, number>();
  readonly halves = new Set<number>();
  readonly v2: boolean;
  tables = 0;
  enabled: boolean;

  constructor(v2: boolean) {
    this.v2 = v2;
    this.enabled = !v2;
  }

  holds(page: number): boolean {
    if (!this.v2) return page < PAGES;
    return page < PAGES && this.halves.has(Math.floor(page / (PAGES / 2)));
  }

  get pinned(): number {
    return this.v2 ? this.halves.size * (PAGES / 2) : this.entries.size;
  }

  get locked(): number {
    return this.tables + (this.v2 ? this.pinned : WINDOW_PAGES);
  }

  usesHalf(half: number): boolean {
    return [...this.entries.values()].some((page) => Math.floor(page / (PAGES / 2)) === half);
  }
}

/** Whether the call was carried out. */
async function tried(call: () => unknown): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (refusal) {
    assert.ok(refusal instanceof PinionError, String(refusal));
    return false;
  }
}

async function take(step: Step, { container, tce }: Opened, model: Model, vaddr: bigint): Promise<void> {
  const half = (index: number) => ({
    vaddr: vaddr + BigInt((index * PAGES) / 2) * PAGE,
    size: BigInt(PAGES / 2) * PAGE,
  });
  if (step.op === 'map') {
    const { at, count, page } = step;
    const sound = model.enabled && Array.from({ length: count }, (_, i) => model.holds(page + i)).every(Boolean);
    assert.equal(await tried(() => map(container, BigInt(at) * PAGE, count, vaddr + BigInt(page) * PAGE)), sound);
    if (model.enabled) model.tables = TABLE_PAGES;
    if (sound) for (let i = 0; i < count; i += 1) model.entries.set(at + i, page + i);
  } else if (step.op === 'unmap') {
    const { at, count } = step;
    let gone = 0;
    if (model.enabled) for (let i = 0; i < count; i += 1) gone += model.entries.delete(at + i) ? 1 : 0;
    const done = await tried(async () =>
      assert.deepEqual(await unmap(container, BigInt(at) * PAGE, count), { size: BigInt(gone) * PAGE }),
    );
    assert.equal(done, model.enabled);
    if (model.enabled) model.tables = TABLE_PAGES;
  } else if (step.op === 'register') {
    const sound = model.v2 && !model.halves.has(step.half);
    assert.equal(await tried(() => tce.registerMemory(half(step.half))), sound);
    if (sound) model.halves.add(step.half);
    model.enabled ||= sound;
  } else {
    const sound = model.halves.has(step.half) && !model.usesHalf(step.half);
    assert.equal(await tried(() => tce.unregisterMemory(half(step.half))), sound);
    if (sound) model.halves.delete(step.half);
  }
}

function check(world: World, { container, hardware }: Opened, model: Model, vaddr: bigint): void {
  assert.deepEqual(
    [world.pinned, world.locked, container.stats.lockedPages, container.stats.mappings],
    [model.pinned, model.locked, model.locked, model.entries.size],
  );
  for (let at = 0; at < PAGES + 8; at += 1) {
    const page = model.entries.get(at);
    if (page === undefined) assert.equal(hardware.dmaWrite(BigInt(at) * PAGE, Uint8Array.of(1)), false);
    else assert.ok(reaches(world, hardware, BigInt(at) * PAGE, vaddr + BigInt(page) * PAGE));
  }
}

for (const type of [V1, V2]) {
  test(`any sequence of calls: tables, pins and charges are what a plain model says (${type === V1 ? 'v1' : 'v2'})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        await inWorld({}, async (world) => {
          const opened = world.open(type);
          if (type === V1) opened.tce.enable();
          const model = new Model(type === V2);
          // Behind a whole number of pages there is nothing, so that a map of too many fails.
          const vaddr = world.memory(PAGES);
          for (const one of steps) await take(one, opened, model, vaddr);
          check(world, opened, model, vaddr);
        });
      }),
      { numRuns: 60 },
    );
  });
}
