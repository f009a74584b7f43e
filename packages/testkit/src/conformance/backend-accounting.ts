import assert from 'node:assert/strict';
import { asIovaFrame } from '@pinion/core';
import { backendCase } from './backend-harness.js';
import type { ProbeDevice } from './probe.js';
import type { World } from './world.js';

/** Pages of guest memory in every scenario. */
const N = 1024;
const BASE = 0x1000;

const unpin = (probe: ProbeDevice, first: number, count: number): void => {
  probe.pins.unpin(asIovaFrame(BASE + first), count);
  for (let page = 0; page < count; page += 1)
    if (probe.pins.count(asIovaFrame(BASE + first + page)) === 0) probe.held.delete(asIovaFrame(BASE + first + page));
};
const pin = (probe: ProbeDevice, first: number, count: number): void => void probe.hold(BASE + first, count);

/** Asserts the pages charged to the process, and that the container agrees. */
function assertLocked(world: World, pages: number): void {
  assert.deepEqual([world.locked, world.container.stats.lockedPages], [pages, pages]);
}

/** Who pays for what: the five mixes of threads/2016-10, as the table of reference/kernel-vfio 6.4 has them. */
export const accountingCases = [
  backendCase(
    'mix 1, passthrough alone: all mapped pages are charged',
    ['passthrough', 'accounting'],
    async (world) => {
      const { unplug } = await world.plug();
      world.map(BASE, N);
      assertLocked(world, N);
      await world.unmap(BASE, N);
      assertLocked(world, 0);
      await unplug();
    },
  ),

  backendCase('mix 2, mediated alone: pinned pages are charged, once each', ['pins', 'accounting'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(BASE, N);
    assertLocked(world, 0);
    pin(probe, 0, 10);
    assertLocked(world, 10);
    pin(probe, 0, 10);
    assertLocked(world, 10);
    unpin(probe, 0, 10);
    assertLocked(world, 10);
    unpin(probe, 0, 10);
    assertLocked(world, 0);
    pin(probe, 5, 10);
    await world.unmap(BASE, N);
    assertLocked(world, 0);
  }),

  backendCase('mix 3, both: pins cost nothing more', ['pins', 'passthrough', 'accounting'], async (world) => {
    const { probe } = await world.openProbe();
    await world.plug();
    world.map(BASE, N);
    assertLocked(world, N);
    pin(probe, 0, 10);
    assertLocked(world, N);
    unpin(probe, 0, 10);
    assertLocked(world, N);
    pin(probe, 0, 10);
    await world.unmap(BASE, N);
    assertLocked(world, 0);
  }),

  backendCase(
    'mix 4, a mediated device comes to passthrough and goes',
    ['pins', 'passthrough', 'accounting'],
    async (world) => {
      await world.plug();
      world.map(BASE, N);
      const { probe, file, group } = await world.openProbe();
      assertLocked(world, N);
      pin(probe, 0, 10);
      assertLocked(world, N);
      await file.close();
      assertLocked(world, N);
      group.unsetContainer();
      assertLocked(world, N);
    },
  ),

  backendCase(
    'mix 5, passthrough comes to a mediated device and goes',
    ['pins', 'passthrough', 'accounting'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(BASE, N);
      pin(probe, 0, 10);
      assertLocked(world, 10);
      const { unplug } = await world.plug();
      assertLocked(world, N);
      pin(probe, 10, 5);
      assertLocked(world, N);
      await unplug();
      assertLocked(world, 15);
      unpin(probe, 0, 15);
      assertLocked(world, 0);
    },
  ),

  backendCase('a second passthrough function costs nothing more', ['passthrough', 'accounting'], async (world) => {
    const one = await world.plug();
    world.map(BASE, N);
    const two = await world.plug();
    assertLocked(world, N);
    await one.unplug();
    assertLocked(world, N);
    await two.unplug();
    assertLocked(world, 0);
  }),

  backendCase(
    'passthrough fits exactly into the limit',
    ['pins', 'passthrough', 'accounting'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(BASE, N);
      pin(probe, 0, 10);
      const { unplug } = await world.plug();
      assertLocked(world, N);
      await unplug();
      assertLocked(world, 10);
    },
    { lockPages: N },
  ),

  backendCase(
    'passthrough one page over the limit is ENOMEM and leaves pins, charge and groups as they were',
    ['pins', 'passthrough', 'accounting'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(BASE, N);
      pin(probe, 0, 10);
      await assert.rejects(world.plug(), { errno: 'ENOMEM' });
      assertLocked(world, 10);
      assert.deepEqual(
        [world.container.groups.length, world.container.stats.pinnedPages, world.os.host.pinnedPages],
        [1, 10, 10],
      );
      unpin(probe, 0, 10);
      assertLocked(world, 0);
    },
    { lockPages: N - 1 },
  ),

  backendCase(
    'a mapping over the limit is ENOMEM and leaves nothing',
    ['passthrough', 'accounting'],
    async (world) => {
      const { unplug } = await world.plug();
      assert.throws(() => world.map(BASE, 9), { errno: 'ENOMEM' });
      assertLocked(world, 0);
      assert.deepEqual([world.container.stats.mappings, world.os.host.pinnedPages], [0, 0]);
      world.map(BASE, 8);
      assertLocked(world, 8);
      await unplug();
    },
    { lockPages: 8 },
  ),

  backendCase(
    'a pin over the limit is ENOMEM and pins nothing',
    ['pins', 'accounting'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(BASE, N);
      pin(probe, 0, 4);
      assert.throws(() => pin(probe, 2, 7), { errno: 'ENOMEM' });
      assertLocked(world, 4);
      assert.equal(world.os.host.pinnedPages, 4);
      pin(probe, 4, 4);
      assertLocked(world, 8);
    },
    { lockPages: 8 },
  ),

  backendCase(
    'the charge stays with the memory that mapped when somebody else unpins',
    ['pins', 'accounting'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(BASE, N);
      pin(probe, 0, 10);
      const child = world.task.fork();
      assert.equal(
        (await world.container.unmapDma({ iova: 0x100_0000n, size: BigInt(N) << 12n }, child)).size,
        BigInt(N) << 12n,
      );
      assertLocked(world, 0);
      assert.equal(child.memory.lockedPages, 0);
      await child.exit();
    },
  ),
];
