import assert from 'node:assert/strict';
import { asIovaFrame } from '@pinion/core';
import { backendCase } from './backend-harness.js';

/** Groups that come and go while mappings and pins exist. */
export const hotPlugCases = [
  backendCase(
    'a function that comes late reaches everything that is mapped already',
    ['pins', 'passthrough'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      const [pinned] = probe.hold(0x105);
      const { group, unplug } = await world.plug();
      const domain = world.container.backend?.groupDomain?.(group.group);
      assert.equal(domain?.lookup(asIovaFrame(0x105)), pinned);
      assert.notEqual(domain?.lookup(asIovaFrame(0x10f)), undefined);
      await unplug();
      assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [1, 1]);
    },
  ),

  backendCase('a function that leaves takes no pin and no mapping with it', ['pins', 'passthrough'], async (world) => {
    const { probe } = await world.openProbe();
    const { unplug } = await world.plug();
    world.map(0x100, 16);
    const before = probe.hold(0x105);
    await unplug();
    assert.deepEqual(probe.hold(0x105), before);
    assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 1]);
    assert.deepEqual(world.probes.calls, [], 'nobody unmapped');
  }),

  backendCase('a mediated device that leaves keeps passthrough as it is', ['pins', 'passthrough'], async (world) => {
    const { group } = await world.plug();
    world.map(0x100, 16);
    const { probe, file, group: mdevGroup } = await world.openProbe();
    probe.hold(0x105);
    await file.close();
    mdevGroup.close();
    const domain = world.container.backend?.groupDomain?.(group.group);
    assert.notEqual(domain?.lookup(asIovaFrame(0x105)), undefined);
    assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 0]);
  }),

  backendCase(
    'plugged and unplugged again and again, the books end where they began',
    ['pins', 'passthrough'],
    async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      probe.hold(0x105, 3);
      for (let round = 0; round < 5; round += 1) {
        const { unplug } = await world.plug();
        probe.hold(0x100 + round);
        await unplug();
        assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [4 + round, 4 + round]);
      }
      assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
    },
  ),

  backendCase(
    'an unmap in a mixed container calls mediated devices before the domain loses the pages',
    ['pins', 'passthrough'],
    async (world) => {
      const { group } = await world.plug();
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      const [pinned] = probe.hold(0x105);
      const domain = world.container.backend?.groupDomain?.(group.group);
      const seen: unknown[] = [];
      probe.duty = (range) => {
        seen.push(domain?.lookup(asIovaFrame(0x105)));
        probe.releaseWithin(range);
      };
      await world.unmap(0x100, 16);
      assert.deepEqual([seen, domain?.lookup(asIovaFrame(0x105))], [[pinned], undefined]);
    },
  ),

  backendCase('the process dies in a mixed container: nothing is left', ['pins', 'passthrough'], async (world) => {
    const { probe } = await world.openProbe();
    await world.plug();
    world.map(0x100, 16);
    probe.hold(0x105, 3);
    await world.task.exit();
    await world.mediator.close();
    assert.equal(world.os.host.pinnedPages, 0);
  }),
];
