/** Everything that can fail is made to fail once, at every place, until the operation passes; each time nothing is left of it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type AddressSpace, type IommuBackend, PinionError, PROT_READ } from '@pinion/core';
import { createSoftwareIommu, type FailurePoint } from '@pinion/iommu';
import { pages, World } from './world.js';

/** Fails the nth `pinPage` of the process from now on, once. @returns the undo. */
function failPin(world: World, nth: number): () => void {
  const mm: AddressSpace = world.task.memory;
  const pin = mm.pinPage.bind(mm);
  let left = nth;
  mm.pinPage = (page, write) => {
    left -= 1;
    if (left === 0) throw new PinionError('TEST_FAULT', 'EFAULT', 'planted');
    return pin(page, write);
  };
  return () => {
    mm.pinPage = pin;
  };
}

/** Plants the nth failure. @returns the undo. */
type Plant = (world: World, nth: number) => () => void;
const at =
  (point: FailurePoint): Plant =>
  (world, nth) => {
    world.iommu.failures.fail(point, nth, 'ENOMEM');
    return () => world.iommu.failures.clear();
  };
const PLANTS: Readonly<Record<string, Plant>> = {
  pinPage: failPin,
  map: at('map'),
  'page table': at('table'),
  domain: at('alloc'),
  attach: at('attach'),
};

interface Operation {
  readonly prepare: (world: World) => void | Promise<void>;
  readonly run: (world: World) => unknown;
  /** How often each thing is done, so the number of failures that must be seen. */
  readonly fails: Readonly<Record<string, number>>;
  readonly passthrough: readonly string[];
}

/** Memory in three pieces that do not follow each other in the host. */
function scattered(world: World): void {
  for (const [first, count] of [
    [0, 3],
    [3, 1],
    [4, 4],
  ] as const) {
    world.task.memory.mmap({ size: pages(count), at: 0x6000_0000n + pages(first) });
  }
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  'map of 8 pages in 3 runs into 1 domain': {
    passthrough: ['P'],
    prepare: scattered,
    run: (world) => world.map(0n, 8, { vaddr: 0x6000_0000n }),
    fails: { pinPage: 8, map: 3, 'page table': 3, domain: 0, attach: 0 },
  },
  'pin of 5 pages, 2 of them pinned already, in a container with others': {
    passthrough: [],
    prepare: (world) => {
      world.map(0n, 8);
      world.pin('A', 1);
      world.pin('A', 3);
    },
    run: (world) => world.pin('A', 0, 5),
    fails: { pinPage: 3, map: 0, 'page table': 0, domain: 0, attach: 0 },
  },
  'attach to a container with 3 mappings and pins': {
    passthrough: [],
    prepare: (world) => {
      world.map(0n, 4);
      world.map(0x40000000n, 3, { prot: PROT_READ });
      world.map(0x80000000n, 2, { vaddr: world.task.memory.mmap({ size: pages(2), kind: 'reserved' }) });
      world.pin('A', 1, 2);
      world.pin('A', 0x80000, 2);
    },
    run: (world) => world.attachPassthrough('P'),
    fails: { pinPage: 9, map: 3, 'page table': 7, domain: 1, attach: 1 },
  },
  'attach of a second domain': {
    passthrough: ['P'],
    prepare: (world) => {
      world.map(0n, 4);
      world.map(0x40000000n, 3);
      world.pin('A', 1, 2);
      const apart = createSoftwareIommu({ memory: world.os.host, addressWidth: 48, hardware: 'apart' });
      Object.assign(world, { iommu: apart }); // why: this operation is about the failures of the second IOMMU
    },
    run: (world) => world.attachPassthrough('Q'),
    fails: { pinPage: 0, map: 2, 'page table': 5, domain: 1, attach: 1 },
  },
};

for (const [name, operation] of Object.entries(OPERATIONS)) {
  describe(name, () => {
    for (const [what, plant] of Object.entries(PLANTS)) {
      test(`${what} fails`, async () => {
        const world = await World.start({ passthrough: operation.passthrough });
        await operation.prepare(world);
        const backend: IommuBackend | undefined = world.container.backend;
        const before = world.snapshot();
        let failed = 0;
        for (let done = false; !done; ) {
          const undo = plant(world, failed + 1);
          try {
            operation.run(world);
            done = true;
          } catch (failure) {
            assert.ok(
              failure instanceof PinionError && /^(TEST_FAULT|IOMMU_INJECTED)$/.test(failure.name),
              String(failure),
            );
            failed += 1;
            assert.deepEqual(world.snapshot(), before, `${what} number ${failed}`);
          } finally {
            undo();
          }
        }
        assert.equal(failed, operation.fails[what]);
        assert.equal(world.container.backend, backend);
        await world.container.unmapAll();
        assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
        await world.end();
      });
    }
  });
}

test('the host runs out at every page of an attach', async () => {
  for (let capacity = 0; capacity <= 8; capacity += 1) {
    const world = await World.start({ os: { capacity } });
    world.map(0n, 4);
    world.map(0x10000n, 4);
    if (capacity < 8) world.refuses('SIM_OUT_OF_MEMORY', 'ENOMEM', () => world.attachPassthrough('P'));
    else world.attachPassthrough('P');
    assert.equal(world.locked, capacity < 8 ? 0 : 8);
    await world.end();
  }
});

test('every limit below what an attach needs: nothing is left; pins that were there stay', async () => {
  for (let limit = 3; limit < 8; limit += 1) {
    const world = await World.start({ task: { lockBytes: limit * 4096 } });
    world.map(0n, 4);
    world.map(0x10000n, 4);
    world.pin('A', 2, 2);
    world.pin('A', 16);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.attachPassthrough('P'));
    assert.equal(world.locked, 3);
    world.task.lockBytes = 8 * 4096;
    world.attachPassthrough('P');
    assert.equal(world.locked, 8);
    await world.end();
  }
});
