/**
 * Random operations on a container beside a model of plain maps. After each: the same answer, and the invariants of the
 * reference's section 15: locked pages are all mapped pages with passthrough and the pinned ones without, every host page has one
 * reference per IOMMU mapping and one per pin, entries left and mappings add up, callbacks are exactly the pinned mappings.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, type Pfn, PinionError, PROT_READ, PROT_RW } from '@pinion/core';
import { PIN_TABLE_KINDS } from '@pinion/type1';
import fc from 'fast-check';
import { frame, pages, World } from './world.js';

const SPACE = 48;
const ENTRIES = 6;
const DEVICES = ['A', 'B'] as const;
type Name = (typeof DEVICES)[number];

interface Area {
  readonly first: number;
  readonly count: number;
  readonly prot: number;
  readonly vaddr: bigint;
  dirty: Set<number>;
}

/** What should be there. Pins: frame -> references, per device. */
class Model {
  readonly areas: Area[] = [];
  readonly pins: Record<Name, Map<number, number>> = { A: new Map(), B: new Map() };
  readonly open = new Set<Name>(DEVICES);
  passthrough = false;
  tracking = false;

  find(page: number): Area | undefined {
    return this.areas.find(({ first, count }) => first <= page && page < first + count);
  }
  overlapping(first: number, count: number): Area[] {
    return this.areas
      .filter((area) => area.first < first + count && first < area.first + area.count)
      .sort((a, b) => a.first - b.first);
  }
  /** Distinct pinned frames. */
  get pinned(): Set<number> {
    return new Set(DEVICES.flatMap((name) => [...this.pins[name].keys()]));
  }
  get mapped(): number {
    return this.areas.reduce((sum, { count }) => sum + count, 0);
  }
  get locked(): number {
    return this.passthrough ? this.mapped : this.pinned.size;
  }
}

type Step = (world: World, model: Model) => void | Promise<void>;

/** Runs an operation. @returns the errno it was refused with, or ''. */
async function answer(action: () => unknown): Promise<string> {
  try {
    await action();
    return '';
  } catch (failure) {
    if (failure instanceof PinionError) return failure.errno;
    throw failure;
  }
}

const map =
  (first: number, count: number, prot: number): Step =>
  async (world, model) => {
    const vaddr = world.buffer(count);
    const want = model.overlapping(first, count).length > 0 ? 'EEXIST' : model.areas.length === ENTRIES ? 'ENOSPC' : '';
    assert.equal(await answer(() => world.map(pages(first), count, { vaddr, prot })), want);
    if (want === '') model.areas.push({ first, count, prot, vaddr, dirty: new Set() });
  };

const unmap =
  (first: number, count: number): Step =>
  async (world, model) => {
    const touched = model.overlapping(first, count);
    const cut = touched.some((area) => area.first < first || area.first + area.count > first + count);
    if (cut) {
      assert.equal(await answer(() => world.unmap(pages(first), count)), 'EINVAL');
      return;
    }
    for (const name of DEVICES) world.ops(name).calls.length = 0;
    const { pinned } = model;
    const announced = touched.filter((area) => [...pinned].some((page) => model.find(page) === area));
    assert.equal(await world.unmap(pages(first), count), pages(touched.reduce((sum, area) => sum + area.count, 0)));
    for (const name of DEVICES) {
      const want = model.open.has(name) ? announced.map((area) => [area.first, area.count]) : [];
      assert.deepEqual(world.ops(name).calls, want);
      for (const page of [...model.pins[name].keys()])
        if (touched.some((area) => area === model.find(page))) model.pins[name].delete(page);
    }
    for (const area of touched) model.areas.splice(model.areas.indexOf(area), 1);
  };

/** Unmapping everything is unmapping each, and never cuts. */
const unmapAll: Step = async (world, model) => {
  assert.deepEqual(await world.container.unmapAll(), { size: pages(model.mapped) });
  model.areas.length = 0;
  for (const name of DEVICES) model.pins[name].clear();
};

const pin =
  (name: Name, first: number, count: number, prot: number): Step =>
  async (world, model) => {
    const bad = (): string => {
      if (!model.open.has(name)) return 'EINVAL';
      for (let page = first; page < first + count; page += 1) {
        const area = model.find(page);
        if (area === undefined) return 'EINVAL';
        if ((area.prot & prot) !== prot) return 'EPERM';
      }
      return '';
    };
    const want = bad();
    assert.equal(await answer(() => world.pin(name, first, count, prot)), want);
    if (want !== '') return;
    for (let page = first; page < first + count; page += 1) {
      model.pins[name].set(page, (model.pins[name].get(page) ?? 0) + 1);
      if (model.tracking) model.find(page)?.dirty.add(page);
    }
  };

const unpin =
  (name: Name, first: number, count: number): Step =>
  (world, model) => {
    world.unpin(name, first, count);
    for (let page = first; page < first + count; page += 1) {
      const left = (model.pins[name].get(page) ?? 0) - 1;
      if (left > 0) model.pins[name].set(page, left);
      else model.pins[name].delete(page);
    }
  };

const toggle =
  (name: Name): Step =>
  async (world, model) => {
    if (model.open.delete(name)) {
      model.pins[name].clear();
      await world.close(name);
    } else {
      model.open.add(name);
      await world.open(name);
    }
  };

const plug: Step = (world, model) => {
  if (model.passthrough) {
    world.detachPassthrough('P');
    if (model.tracking)
      for (const area of model.areas) for (let i = 0; i < area.count; i += 1) area.dirty.add(area.first + i);
  } else world.attachPassthrough('P');
  model.passthrough = !model.passthrough;
};

const track: Step = (world, model) => {
  world.container.dirty({ flags: model.tracking ? 2 : 1 });
  model.tracking = !model.tracking;
  for (const area of model.areas) area.dirty = new Set();
  if (model.tracking) for (const page of model.pinned) model.find(page)?.dirty.add(page);
};

const copy =
  (first: number, count: number, write: boolean): Step =>
  async (world, model) => {
    const bad = (): string => {
      for (let page = first; page < first + count; page += 1) {
        const area = model.find(page);
        if (area === undefined) return 'EINVAL';
        if (write && (area.prot & 2) === 0) return 'EPERM';
        if (write && model.tracking) area.dirty.add(page);
      }
      return '';
    };
    const want = bad();
    const bytes = new Uint8Array(count * 4096);
    assert.equal(await answer(() => world.container.dmaRw(pages(first), bytes, write)), want);
  };

const bits: Step = (world, model) => {
  const data = new Uint8Array(8);
  const bitmap = { pgsize: 4096n, size: 8n, data };
  const read = (): void => world.container.dirty({ flags: 4, iova: 0n, size: pages(SPACE), bitmap });
  if (!model.tracking) {
    world.refuses('TYPE1_TRACKING_OFF', 'EINVAL', read);
    return;
  }
  read();
  const seen = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => ((data[bit >> 3] ?? 0) >> (bit & 7)) & 1);
  const { pinned } = model;
  const want = model.areas.flatMap((area) =>
    Array.from({ length: area.count }, (_, i) => area.first + i).filter(
      (page) => model.passthrough || area.dirty.has(page),
    ),
  );
  assert.deepEqual(
    seen,
    want.sort((a, b) => a - b),
  );
  for (const area of model.areas) area.dirty = new Set([...pinned].filter((page) => model.find(page) === area));
};

const PROTS = [PROT_RW, PROT_RW, PROT_READ];
const page = fc.nat(SPACE - 1);
const span = fc.tuple(page, fc.integer({ min: 1, max: 8 })).filter(([first, count]) => first + count <= SPACE);
const device = fc.constantFrom(...DEVICES);
const step: fc.Arbitrary<readonly [string, Step]> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(span, fc.constantFrom(...PROTS))
      .map(([[f, n], p]) => [`map ${f} ${n} ${p}`, map(f, n, p)] as const),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(page, fc.integer({ min: 1, max: 24 }))
      .map(([f, n]) => [`unmap ${f} ${n}`, unmap(f, Math.min(n, SPACE - f))] as const),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(device, span, fc.constantFrom(0, 1, 3))
      .map(([d, [f, n], p]) => [`pin ${d} ${f} ${n} ${p}`, pin(d, f, n, p)] as const),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(device, span).map(([d, [f, n]]) => [`unpin ${d} ${f} ${n}`, unpin(d, f, n)] as const),
  },
  { weight: 1, arbitrary: device.map((d) => [`toggle ${d}`, toggle(d)] as const) },
  { weight: 1, arbitrary: fc.constant(['unmap all', unmapAll] as const) },
  { weight: 2, arbitrary: fc.constant(['plug', plug] as const) },
  { weight: 1, arbitrary: fc.constant(['track', track] as const) },
  { weight: 2, arbitrary: fc.constant(['bits', bits] as const) },
  {
    weight: 1,
    arbitrary: fc.tuple(span, fc.boolean()).map(([[f, n], w]) => [`copy ${f} ${n} ${w}`, copy(f, n, w)] as const),
  },
);

function check(world: World, model: Model): void {
  const { stats } = world.container;
  assert.deepEqual(
    [stats.mappings, stats.mappedBytes, stats.pinnedPages, stats.lockedPages, world.locked],
    [model.areas.length, pages(model.mapped), model.pinned.size, model.locked, model.locked],
  );
  const available = world.container.info().capabilities.find((capability) => capability.id === 'dma-avail')?.available;
  assert.equal((available ?? 0) + model.areas.length, ENTRIES);
  const references = model.pinned.size + (model.passthrough ? model.mapped : 0);
  assert.equal(world.os.host.pinnedPages, references);
  for (const name of DEVICES)
    for (const [at, count] of model.pins[name]) assert.equal(world.seat(name).device.pins.count(frame(at)), count);
  const domain = world.iommu.groups[0]?.domain;
  if (domain === undefined) return;
  assert.equal(domain.stats.frames, model.mapped);
  for (const at of model.pinned) {
    const pfn: Pfn = domain.lookup(frame(at)) ?? asPfn(0);
    assert.equal(world.os.host.pinsOf(pfn), 2, 'one of the IOMMU, one of the pins');
  }
}

for (const pinTable of PIN_TABLE_KINDS) {
  test(`random operations, pin table ${pinTable}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
        const world = await World.start({
          mediated: DEVICES,
          pinTable,
          parameters: () => ({ dmaEntryLimit: ENTRIES }),
        });
        const model = new Model();
        for (const [, run] of steps) {
          await run(world, model);
          check(world, model);
        }
        await unmap(0, SPACE)(world, model);
        check(world, model);
        assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
        await world.end();
      }),
      { numRuns: 60 },
    );
  });
}
