import assert from 'node:assert/strict';
import { asIovaFrame, type FrameRange, PROT_RW } from '@pinion/core';
import { backendCase, type IommuBackendHarness } from './backend-harness.js';
import type { ProbeDevice } from './probe.js';
import type { World } from './world.js';

/** How often each probe was called. */
const callsOf = (world: World, probe: ProbeDevice): number =>
  world.probes.calls.filter((call) => call.probe === probe.number).length;

/** Asserts the leak's error: its name and errno, and that it names driver, device and frame. */
async function assertLeak(
  action: Promise<unknown>,
  harness: IommuBackendHarness,
  culprit: { readonly device: string; readonly frame: string; readonly innocent?: string },
): Promise<void> {
  await assert.rejects(action, (thrown) => {
    const text = String(thrown);
    assert.ok(text.startsWith(`${harness.leak.name} (EBUSY)`), text);
    for (const name of ['probe', culprit.device, culprit.frame]) assert.ok(text.includes(name), `${name} in: ${text}`);
    if (culprit.innocent !== undefined)
      assert.ok(!text.includes(culprit.innocent), `${culprit.innocent} not in: ${text}`);
    return true;
  });
}

/** The `dmaUnmap` protocol: who is called when with what, and what happens to pins that stay. */
export const callbackCases = [
  backendCase('one round: the whole mapping, to every device, newest first, pinned or not', ['pins'], async (world) => {
    const [, one, two] = [await world.openProbe(), await world.openProbe(), await world.openProbe()];
    world.map(0x100, 16);
    one.probe.hold(0x103);
    two.probe.hold(0x103);
    two.probe.hold(0x10f);
    assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
    assert.deepEqual(
      world.probes.calls,
      [2, 1, 0].map((probe) => ({ probe, first: 0x100, last: 0x10f })),
    );
  }),

  backendCase('mappings are announced in ascending order, those without pins not at all', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x2, 2);
    world.map(0x1, 1);
    world.map(0x0, 1);
    probe.hold(0x3);
    probe.hold(0x0);
    assert.deepEqual(await world.unmap(0x0, 0x200), { size: 4n * 4096n });
    assert.deepEqual(world.probes.calls, [
      { probe: 0, first: 0, last: 0 },
      { probe: 0, first: 2, last: 3 },
    ]);
  }),

  backendCase('without pins nobody is called', ['pins'], async (world) => {
    for (let n = 0; n < 4; n += 1) await world.openProbe();
    world.map(0x100, 16);
    await world.unmap(0x0, 0x200);
    assert.deepEqual(world.probes.calls, []);
  }),

  backendCase('the request may be wider than the mapping: the range is the mapping’s', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    probe.hold(0x105);
    await world.unmap(0x80, 0x200);
    assert.deepEqual(world.probes.calls, [{ probe: 0, first: 0x100, last: 0x10f }]);
  }),

  backendCase('a device that was closed is not called', ['pins'], async (world) => {
    const [one, two] = [await world.openProbe(), await world.openProbe()];
    world.map(0x100, 16);
    one.probe.hold(0x105);
    await two.file.close();
    await world.unmap(0x100, 16);
    assert.deepEqual([callsOf(world, one.probe), callsOf(world, two.probe)], [1, 0]);
  }),

  backendCase('pins in other mappings stay', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    world.map(0x110, 16);
    probe.hold(0x10f, 2);
    await world.unmap(0x100, 16);
    assert.deepEqual([[...probe.held], world.container.stats.pinnedPages], [[0x110], 1]);
  }),

  backendCase('when `dmaUnmap` is called the pages are still pinned and mapped', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const vaddr = world.map(0x100, 16);
    const [pfn] = probe.hold(0x105);
    const seen: unknown[] = [];
    probe.duty = (range) => {
      assert.ok(pfn !== undefined);
      world.task.memory.poke(vaddr + 0x5000n, Uint8Array.of(7));
      seen.push(world.container.stats.mappings, world.container.stats.pinnedPages, world.os.host.bytes(pfn, 1)[0]);
      probe.releaseWithin(range);
    };
    await world.unmap(0x100, 16);
    assert.deepEqual(seen, [1, 1, 7]);
  }),

  backendCase(
    'a device that releases one page per round gets as many rounds as it has pages',
    ['pins'],
    async (world, harness) => {
      const [slow, other] = [await world.openProbe(), await world.openProbe()];
      world.map(0x100, 16);
      const pages = Math.min(harness.leak.rounds, 16);
      slow.probe.hold(0x100, pages);
      slow.probe.duty = (range) => slow.probe.releaseOne(range);
      assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
      assert.deepEqual([callsOf(world, slow.probe), callsOf(world, other.probe)], [pages, pages]);
    },
  ),

  backendCase(
    'a device that never releases is named with driver and frame; the mapping stays; a later unmap succeeds',
    ['pins'],
    async (world, harness) => {
      const [leaker, good] = [await world.openProbe(), await world.openProbe()];
      world.map(0x100, 16);
      leaker.probe.hold(0x105);
      good.probe.hold(0x106);
      leaker.probe.duty = () => {};
      const culprit = { device: leaker.mdev.uuid, frame: '0x105000', innocent: good.mdev.uuid };
      await assertLeak(world.unmap(0x100, 16), harness, culprit);
      assert.deepEqual(
        [callsOf(world, leaker.probe), callsOf(world, good.probe)],
        [harness.leak.rounds, harness.leak.rounds],
      );
      assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 1]);
      good.probe.hold(0x107);
      leaker.probe.duty = (range: FrameRange) => leaker.probe.releaseWithin(range);
      assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
    },
  ),

  backendCase('mappings before a leak are gone, those behind it are not', ['pins'], async (world, harness) => {
    const { probe, mdev } = await world.openProbe();
    for (const first of [0x100, 0x200, 0x300]) world.map(first, 16);
    probe.hold(0x205);
    probe.duty = () => {};
    await assertLeak(world.container.unmapAll(), harness, { device: mdev.uuid, frame: '0x205000' });
    assert.equal(world.container.stats.mappings, 2);
    probe.releaseWithin({ first: asIovaFrame(0x200), last: asIovaFrame(0x2ff) });
    assert.deepEqual(await world.container.unmapAll(), { size: 0x20000n });
  }),

  backendCase('a device that pins the same page anew in every round leaks', ['pins'], async (world, harness) => {
    const { probe, mdev } = await world.openProbe();
    world.map(0x100, 16);
    probe.hold(0x105);
    probe.duty = (range) => {
      probe.releaseWithin(range);
      probe.hold(0x105);
    };
    await assertLeak(world.unmap(0x100, 16), harness, { device: mdev.uuid, frame: '0x105000' });
    probe.duty = (range) => probe.releaseWithin(range);
    await world.unmap(0x100, 16);
  }),

  backendCase('a device may pin in another mapping from inside `dmaUnmap`', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    world.map(0x200, 16);
    probe.hold(0x105);
    probe.duty = (range) => {
      probe.releaseWithin(range);
      if (range.first === 0x100) probe.hold(0x205);
    };
    await world.unmap(0x100, 16);
    assert.deepEqual([[...probe.held], world.container.stats.pinnedPages], [[0x205], 1]);
  }),

  backendCase('a device whose pins another one shares releases its own only', ['pins'], async (world) => {
    const [one, two] = [await world.openProbe(), await world.openProbe()];
    world.map(0x100, 16);
    one.probe.hold(0x105, 1, PROT_RW);
    two.probe.hold(0x105, 1, PROT_RW);
    two.probe.duty = async (range) => {
      await Promise.resolve();
      two.probe.releaseWithin(range);
      assert.equal(world.container.stats.pinnedPages, 1, 'the other device still holds it');
    };
    await world.unmap(0x100, 16);
    assert.equal(world.container.stats.pinnedPages, 0);
  }),
];
