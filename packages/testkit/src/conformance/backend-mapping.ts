import assert from 'node:assert/strict';
import {
  asIovaFrame,
  type Errno,
  MAP_FLAG,
  type MapRequest,
  PROT_READ,
  UNMAP_FLAG,
  type UnmapRequest,
} from '@pinion/core';
import { type BackendCapability, backendCase } from './backend-harness.js';
import type { World } from './world.js';

const RW = MAP_FLAG.READ | MAP_FLAG.WRITE;
const TOP = (1n << 64n) - 4096n;

/** A probe keeps the container in use; one mapping of 16 pages at frame 0x100. */
async function withMapping(world: World): Promise<bigint> {
  await world.openProbe();
  return world.map(0x100, 16);
}

type BadMap = readonly [what: string, change: Partial<MapRequest>, errno: Errno, needs?: readonly BackendCapability[]];
const badMaps: readonly BadMap[] = [
  ['no bytes', { size: 0n }, 'EINVAL'],
  ['half a page', { size: 2048n }, 'EINVAL'],
  ['an unaligned iova', { iova: 0x300800n }, 'EINVAL'],
  ['a wrap past 2^64', { iova: TOP, size: 8192n }, 'EINVAL'],
  ['neither read nor write', { flags: 0 }, 'EINVAL'],
  ['an unknown flag', { flags: RW | 0x80 }, 'EINVAL'],
  ['an argsz that is too small', { argsz: 31 }, 'EINVAL'],
  ['an overlap', { iova: 0x100000n }, 'EEXIST', ['refuses-overlap']],
  ['an overlap of the last page', { iova: 0x10f000n, size: 8192n }, 'EEXIST', ['refuses-overlap']],
  ['an unknown flag and an overlap', { flags: RW | 0x80, iova: 0x100000n }, 'EINVAL'],
  ['no bytes inside a mapping', { size: 0n, iova: 0x100000n }, 'EINVAL'],
];

type BadUnmap = readonly [what: string, request: UnmapRequest, needs: readonly BackendCapability[]];
const badUnmaps: readonly BadUnmap[] = [
  ['no bytes', { flags: 0, iova: 0x100000n, size: 0n }, []],
  ['half a page', { flags: 0, iova: 0x100000n, size: 2048n }, []],
  ['an unaligned iova', { flags: 0, iova: 0x100800n, size: 4096n }, []],
  ['a wrap past 2^64', { flags: 0, iova: TOP, size: 8192n }, []],
  ['an unknown flag', { flags: 0x80, iova: 0x100000n, size: 0x10000n }, []],
  ['an argsz that is too small', { flags: 0, iova: 0x100000n, size: 0x10000n, argsz: 23 }, []],
  ['ALL with a range', { flags: UNMAP_FLAG.ALL, iova: 0x100000n, size: 0x10000n }, []],
  ['a start inside a mapping', { flags: 0, iova: 0x101000n, size: 0xf000n }, ['refuses-bisect']],
  ['an end inside a mapping', { flags: 0, iova: 0x100000n, size: 0x1000n }, ['refuses-bisect']],
  ['both ends inside a mapping', { flags: 0, iova: 0x101000n, size: 0x1000n }, ['refuses-bisect']],
];

/** MAP and UNMAP: what is refused with nothing changed, and what is gone afterwards. */
export const mappingCases = [
  ...badMaps.map(([what, change, errno, needs]) =>
    backendCase(`map with ${what} is ${errno} and changes nothing`, ['pins', ...(needs ?? [])], async (world) => {
      await withMapping(world);
      const request = { flags: RW, iova: 0x300000n, vaddr: world.memory(16), size: 0x10000n, ...change };
      assert.throws(() => world.container.map(request), { errno });
      assert.deepEqual([world.container.stats.mappings, world.container.stats.mappedBytes], [1, 0x10000n]);
    }),
  ),

  ...badUnmaps.map(([what, request, needs]) =>
    backendCase(`unmap with ${what} is EINVAL, calls nobody and changes nothing`, ['pins', ...needs], async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      probe.hold(0x108);
      await assert.rejects(world.container.unmap(request), { errno: 'EINVAL' });
      assert.deepEqual([world.container.stats.mappings, probe.held.size, world.probes.calls], [1, 1, []]);
    }),
  ),

  backendCase('unmap of a hole is 0 bytes', ['pins'], async (world) => {
    await withMapping(world);
    assert.deepEqual(await world.unmap(0x110, 16), { size: 0n });
    assert.deepEqual(await world.unmap(0x0, 0x100), { size: 0n });
    assert.equal(world.container.stats.mappings, 1);
  }),

  backendCase('unmap of exactly a mapping removes it, a second time there is nothing', ['pins'], async (world) => {
    await withMapping(world);
    assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
    assert.deepEqual(await world.unmap(0x100, 16), { size: 0n });
    assert.equal(world.container.stats.mappings, 0);
  }),

  backendCase('unmap of a wider range removes all mappings in it and counts their bytes', ['pins'], async (world) => {
    await world.openProbe();
    for (const [first, pages] of [
      [0x100, 1],
      [0x101, 2],
      [0x180, 4],
      [0x400, 8],
    ] as const)
      world.map(first, pages);
    assert.deepEqual(await world.unmap(0x0, 0x200), { size: 7n * 4096n });
    assert.deepEqual([world.container.stats.mappings, world.container.stats.mappedBytes], [1, 8n * 4096n]);
  }),

  backendCase('unmap ALL removes everything, also when there is nothing', ['pins'], async (world) => {
    await withMapping(world);
    world.map(0x400, 1);
    assert.deepEqual(await world.container.unmapAll(), { size: 17n * 4096n });
    assert.deepEqual(await world.container.unmapAll(), { size: 0n });
  }),

  backendCase('the page at the end of the address space is an ordinary page', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const last = 2 ** 52 - 1;
    world.map(last, 1);
    probe.hold(last);
    assert.deepEqual(world.container.stats.pinnedPages, 1);
    assert.deepEqual(await world.unmap(last, 1), { size: 4096n });
    assert.deepEqual(world.probes.calls, [{ probe: 0, first: last, last }]);
  }),

  backendCase('the same memory may be mapped at two addresses', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const vaddr = world.map(0x100, 4);
    world.map(0x200, 4, vaddr);
    const [one, two] = [probe.hold(0x101), probe.hold(0x201)];
    assert.deepEqual(one, two);
    assert.equal(world.container.stats.pinnedPages, 2);
  }),

  backendCase(
    'without an IOMMU a mapping touches no page, and pinning a hole in the memory is EFAULT',
    ['pins', 'lazy-map'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 4, 0x7000_0000n);
      assert.deepEqual([world.container.stats.mappings, world.locked], [1, 0]);
      assert.throws(() => probe.hold(0x101, 2), { errno: 'EFAULT' });
      assert.deepEqual([world.container.stats.pinnedPages, world.locked], [0, 0]);
    },
  ),

  backendCase(
    'behind an IOMMU a mapping whose memory has a hole is EFAULT and leaves nothing',
    ['passthrough'],
    async (world) => {
      const { unplug } = await world.plug();
      const before = world.locked;
      const vaddr = world.memory(8);
      world.task.memory.munmap(vaddr + 5n * 4096n, 4096n);
      assert.throws(() => world.map(0x100, 8, vaddr), { errno: 'EFAULT' });
      assert.deepEqual([world.container.stats.mappings, world.os.host.pinnedPages, world.locked], [0, 0, before]);
      await unplug();
    },
  ),

  backendCase(
    'behind an IOMMU the domain leads to the pages that were mapped, until they are unmapped',
    ['passthrough', 'domains'],
    async (world) => {
      const { group, unplug } = await world.plug();
      const vaddr = world.map(0x100, 4, undefined, PROT_READ);
      const domain = world.container.backend?.groupDomain?.(group.group);
      assert.ok(domain !== undefined);
      const frames = [0x0ff, 0x100, 0x103, 0x104].map((frame) => domain.lookup(asIovaFrame(frame)));
      assert.deepEqual([frames[0], frames[3]], [undefined, undefined]);
      world.task.memory.poke(vaddr + 3n * 4096n, Uint8Array.of(0xab));
      const [, , pfn] = frames;
      assert.ok(pfn !== undefined);
      assert.equal(world.os.host.bytes(pfn, 1)[0], 0xab);
      await world.container.unmapAll();
      assert.equal(domain.lookup(asIovaFrame(0x100)), undefined);
      await unplug();
    },
  ),
];
