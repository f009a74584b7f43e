/** The end of everything, in every order. Source: reference kernel-vfio 2.2, 2.7, 6.5 and invariants 36-38. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EXTENSION } from '@pinion/core';
import { PAGE, pages, World } from './world.js';

type Close = (world: World) => unknown;
const CLOSES: Readonly<Record<string, Close>> = {
  container: (world) => world.container.close(),
  group: (world) => world.seat('A').group.close(),
  device: (world) => world.close('A'),
};
const orders = (names: readonly string[]): string[][] =>
  names.length < 2
    ? [[...names]]
    : names.flatMap((name) => orders(names.filter((other) => other !== name)).map((rest) => [name, ...rest]));

describe('container, group and device are closed', () => {
  for (const order of orders(Object.keys(CLOSES))) {
    test(`${order.join(', ')}: all pages come back, once`, async () => {
      const world = await World.start();
      world.map(0n, 8);
      world.pin('A', 1, 3);
      const closed = new Set<string>();
      for (const name of order) {
        await CLOSES[name]?.(world);
        closed.add(name);
        // The group's file waits for the device; the container's own file holds nothing.
        const gone = closed.has('group') && closed.has('device');
        assert.equal(world.os.leaks().grabs, gone ? 0 : 1, `after ${name}`);
      }
      assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
      assert.deepEqual(world.ops('A').calls, []);
      assert.deepEqual(world.reports, []);
      await world.end();
    });
  }
});

test('the process exits first, its files are closed after: pages come back, nobody is charged or credited', async () => {
  const world = await World.start({ passthrough: ['P'] });
  const { container, task } = world;
  world.map(0n, 8);
  world.pin('A', 1, 3);
  task.open('container', () => container.close());
  task.open('group', () => world.seat('A').group.close());
  task.open('passthrough', () => world.groups.get('P')?.close());
  task.open('device', () => world.close('A'));
  await task.exit();
  assert.deepEqual(world.os.leaks(), {
    tasks: 0,
    openFiles: 0,
    grabs: 0,
    lockedPages: 0,
    pinnedPages: 0,
    livePages: 0,
  });
  await world.end();
});

test('a mapping from a process that is gone: its pinned page can be pinned again, no other, and all comes back', async () => {
  const world = await World.start();
  const other = world.os.spawn({ name: 'other' });
  const vaddr = other.memory.mmap({ size: pages(2) });
  world.container.mapDma({ iova: 0n, size: pages(2), vaddr, prot: 3 }, other);
  world.pin('A', 0);
  await other.exit();
  world.pin('A', 0);
  world.refuses('TYPE1_OWNER_GONE', 'ENODEV', () => world.pin('A', 1));
  world.unpin('A', 0, 1);
  assert.equal(await world.unmap(0n, 2), pages(2));
  assert.deepEqual([world.os.host.pinnedPages, world.container.stats.lockedPages], [0, 0]);
  await world.end();
});

test('the last group of all drops every mapping; the last passthrough group of a mixed container drops none', async () => {
  const world = await World.start({ passthrough: ['P', 'Q'] });
  world.map(0n, 4);
  world.map(0x10000n, 4);
  world.detachPassthrough('P');
  assert.deepEqual([world.container.stats.mappings, world.locked], [2, 8]);
  await world.unplug('A');
  assert.deepEqual([world.container.stats.mappings, world.locked], [2, 8]);
  world.detachPassthrough('Q');
  assert.deepEqual([world.container.backend, world.locked, world.os.host.pinnedPages], [undefined, 0, 0]);
  world.attachPassthrough('P');
  world.container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  assert.deepEqual(world.container.info().capabilities[1], { id: 'dma-avail', available: 65_535 });
  world.map(0n, 1);
  await world.end();
});

test('hot unplug: whoever has the device open is asked every ten seconds, then all its pages come back', async () => {
  const world = await World.start();
  world.map(0n, 4);
  world.pin('A', 0, 4);
  const mdev = world.mediator.findMdev(world.seat('A').device.name);
  const removed = mdev?.remove();
  await new Promise((resolve) => setImmediate(resolve));
  world.clock.advance(10_000);
  assert.equal(world.locked, 4);
  await world.close('A');
  await removed;
  assert.deepEqual([world.locked, world.container.backend], [0, undefined]);
  await world.end();
});

test('a group may not leave while its device is open', async () => {
  const world = await World.start();
  world.map(0n, 1);
  world.pin('A', 0);
  world.refuses('CORE_GROUP_BUSY', 'EBUSY', () => world.seat('A').group.unsetContainer());
  assert.equal(await world.unmap(0n, 1), PAGE);
  await world.end();
});
