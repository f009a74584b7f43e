import assert from 'node:assert/strict';
import { backendCase } from './backend-harness.js';
import type { World } from './world.js';

const EMPTY = { mappings: 0, mappedBytes: 0n, pinnedPages: 0, lockedPages: 0 };

function counters(world: World): typeof EMPTY {
  const { mappings, mappedBytes, pinnedPages, lockedPages } = world.container.stats;
  return { mappings, mappedBytes, pinnedPages, lockedPages };
}

const ORDERS = [
  ['container', 'group', 'device'],
  ['container', 'device', 'group'],
  ['group', 'container', 'device'],
  ['group', 'device', 'container'],
  ['device', 'container', 'group'],
  ['device', 'group', 'container'],
] as const;

/** Open, extensions, attach and the end of everything. */
export const lifecycleCases = [
  backendCase('knows its own type, and answers 0 to extensions that nobody knows', [], async (world, harness) => {
    assert.ok(world.container.checkExtension(harness.iommuType) > 0);
    assert.deepEqual(
      [77, 0, -1].map((extension) => world.container.checkExtension(extension)),
      [0, 0, 0],
    );
  }),

  backendCase('counts nothing when it was just opened', ['pins'], async (world) => {
    await world.openProbe();
    assert.deepEqual(counters(world), EMPTY);
  }),

  backendCase('declares what it can: pins, copies and dirty tracking', ['pins'], async (world, harness) => {
    await world.openProbe();
    const { backend } = world.container;
    assert.equal(backend?.pinPages !== undefined, true);
    assert.equal(backend?.unpinPages !== undefined, true);
    assert.equal(backend?.dmaRw !== undefined, harness.capabilities.has('dma-rw'));
    assert.equal(backend?.dirty !== undefined, harness.capabilities.has('dirty'));
    assert.equal(harness.passthrough !== undefined, harness.capabilities.has('passthrough'));
  }),

  backendCase('the last group that leaves takes all mappings with it, without callbacks', ['pins'], async (world) => {
    const { file, group } = await world.openProbe();
    world.map(0x100, 16);
    world.map(0x200, 16);
    await file.close();
    group.unsetContainer();
    assert.deepEqual([counters(world), world.probes.calls], [EMPTY, []]);
  }),

  backendCase('a container that was left by all can be used again', ['pins'], async (world, harness) => {
    const { file, group, mdev, probe } = await world.openProbe();
    world.map(0x100, 16);
    await file.close();
    group.unsetContainer();
    group.setContainer(world.container);
    world.container.setIommu(harness.iommuType);
    const again = await group.openDevice(mdev.uuid);
    assert.throws(() => probe.hold(0x100), { errno: 'EINVAL' });
    world.map(0x100, 16);
    probe.hold(0x100);
    await again.close();
  }),

  backendCase('mappings stay while one group of several leaves', ['pins'], async (world) => {
    const [one, two] = [await world.openProbe(), await world.openProbe()];
    world.map(0x100, 16);
    two.probe.hold(0x108);
    await one.file.close();
    one.group.unsetContainer();
    assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 1]);
  }),

  ...ORDERS.map((order) =>
    backendCase(`closing ${order.join(', ')} gives everything back`, ['pins'], async (world) => {
      const { file, group, probe } = await world.openProbe();
      world.map(0x100, 16);
      probe.hold(0x104, 4);
      const close = {
        container: () => world.container.close(),
        group: () => group.close(),
        device: () => file.close(),
      };
      for (const step of order) await close[step]();
      assert.deepEqual([counters(world), world.os.host.pinnedPages, world.locked], [EMPTY, 0, 0]);
    }),
  ),

  backendCase(
    'the process dies first: everything is given back, nothing is charged to a dead address space',
    ['pins'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      probe.hold(0x104, 4);
      await world.task.exit();
      assert.throws(() => probe.hold(0x10f), { errno: 'ENODEV' });
      await world.mediator.close();
      assert.deepEqual([counters(world), world.os.host.pinnedPages], [EMPTY, 0]);
    },
  ),
];
