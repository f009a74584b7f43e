import assert from 'node:assert/strict';
import { type Errno, MAP_FLAG, type MapRequest, type UnmapRequest } from '@pinion/core';
import { type BackendCapability, backendCase } from './backend-harness.js';
import type { World } from './world.js';

const RW = MAP_FLAG.READ | MAP_FLAG.WRITE;
const FIRST = 0x100;
const IOVA = 0x10_0000n;
const SIZE = 0x1_0000n;
const PAGES = 16;

const mapped = (world: World): bigint => world.container.stats.mappedBytes;

type BadMap = readonly [what: string, change: Partial<MapRequest>, errno: Errno];
const badMaps: readonly BadMap[] = [
  ['half a page', { size: 0x800n }, 'EINVAL'],
  ['an unaligned iova', { iova: IOVA + 0x800n }, 'EINVAL'],
  ['an unaligned vaddr', { vaddr: 0x7f00_0000_0800n }, 'EINVAL'],
  ['neither read nor write', { flags: 0 }, 'EINVAL'],
  ['an unknown flag', { flags: RW | 0x80 }, 'EINVAL'],
  ['an argsz that is too small', { argsz: 31 }, 'EINVAL'],
];

type BadUnmap = readonly [what: string, change: Partial<UnmapRequest>];
const badUnmaps: readonly BadUnmap[] = [
  ['half a page', { size: 0x800n }],
  ['an unaligned iova', { iova: IOVA + 0x800n }],
  ['an unknown flag', { flags: 0x80 }],
  ['an argsz that is too small', { argsz: 23 }],
];

const NEEDS: readonly BackendCapability[] = ['passthrough'];

/** What passthrough alone can ask of a backend, also of one that cannot pin. */
export const passthroughCases = [
  ...badMaps.map(([what, change, errno]) =>
    backendCase(`behind an IOMMU map with ${what} is ${errno} and changes nothing`, NEEDS, async (world) => {
      const { unplug } = await world.plug();
      const vaddr = world.map(FIRST, PAGES);
      const pinned = world.os.host.pinnedPages;
      const request = { flags: RW, iova: 0x30_0000n, vaddr, size: SIZE, ...change };
      assert.throws(() => world.container.map(request), { errno });
      assert.deepEqual([mapped(world), world.os.host.pinnedPages], [SIZE, pinned]);
      await unplug();
    }),
  ),

  ...badUnmaps.map(([what, change]) =>
    backendCase(`behind an IOMMU unmap with ${what} is EINVAL and changes nothing`, NEEDS, async (world) => {
      const { unplug } = await world.plug();
      world.map(FIRST, PAGES);
      await assert.rejects(world.container.unmap({ flags: 0, iova: IOVA, size: SIZE, ...change }), { errno: 'EINVAL' });
      assert.equal(mapped(world), SIZE);
      await unplug();
    }),
  ),

  backendCase(
    'behind an IOMMU an unmap says how much is gone, and a second one that nothing is',
    NEEDS,
    async (world) => {
      const { unplug } = await world.plug();
      world.map(FIRST, PAGES);
      world.map(FIRST + 2 * PAGES, PAGES);
      assert.deepEqual(await world.unmap(0, FIRST + PAGES), { size: SIZE });
      assert.deepEqual(await world.unmap(0, FIRST + PAGES), { size: 0n });
      assert.equal(mapped(world), SIZE);
      await unplug();
      assert.equal(mapped(world), 0n);
    },
  ),

  backendCase('behind an IOMMU mapped memory lives on when the process unmaps it', NEEDS, async (world) => {
    const { unplug } = await world.plug();
    const vaddr = world.map(FIRST, PAGES);
    world.task.memory.munmap(vaddr, SIZE);
    assert.equal(world.os.host.pinnedPages, PAGES);
    await world.unmap(FIRST, PAGES);
    await unplug();
    assert.equal(world.os.host.pinnedPages, 0);
  }),

  backendCase(
    'behind an IOMMU the last group takes everything with it, and the container works again',
    NEEDS,
    async (world) => {
      for (let round = 0; round < 2; round += 1) {
        const { unplug } = await world.plug();
        world.map(FIRST, PAGES);
        assert.ok(world.locked >= PAGES);
        await unplug();
        assert.deepEqual([mapped(world), world.os.host.pinnedPages, world.locked], [0n, 0, 0]);
      }
    },
  ),

  backendCase('behind an IOMMU the process dies first: everything is given back', NEEDS, async (world) => {
    await world.plug();
    world.map(FIRST, PAGES);
    const { memory } = world.task;
    await world.task.exit();
    await world.mediator.close();
    assert.deepEqual([world.os.host.pinnedPages, memory.grabs, mapped(world)], [0, 0, 0n]);
  }),

  backendCase('a mapping over another takes its place', ['passthrough', 'replaces'], async (world) => {
    const { unplug } = await world.plug();
    world.map(FIRST, PAGES);
    world.map(FIRST + PAGES / 2, PAGES);
    assert.equal(mapped(world), (SIZE * 3n) / 2n);
    assert.deepEqual(await world.unmap(FIRST, 2 * PAGES), { size: (SIZE * 3n) / 2n });
    await unplug();
  }),

  backendCase('any part of a mapping can be unmapped', ['passthrough', 'unmaps-parts'], async (world) => {
    const { unplug } = await world.plug();
    world.map(FIRST, PAGES);
    assert.deepEqual(await world.unmap(FIRST + 3, 2), { size: 0x2000n });
    assert.deepEqual(await world.unmap(FIRST + 2, 4), { size: 0x2000n });
    assert.equal(mapped(world), SIZE - 0x4000n);
    await unplug();
  }),

  backendCase(
    'a mediated device is refused, and passthrough stays as it is',
    ['passthrough', 'refuses-mediated'],
    async (world) => {
      const { unplug } = await world.plug();
      world.map(FIRST, PAGES);
      await assert.rejects(world.openProbe(), { errno: 'EINVAL' });
      assert.deepEqual([world.container.groups.length, mapped(world)], [1, SIZE]);
      await unplug();
    },
  ),
];
