import assert from 'node:assert/strict';
import type { FrameRange } from '@pinion/core';
import { backendCase } from './backend-harness.js';
import type { ProbeDevice } from './probe.js';
import { eventually, rejectionOf, settled, underWay, type World } from './world.js';

const wedged = new RangeError('ring is wedged');

type Duty = (world: World, probe: ProbeDevice) => void | Promise<void>;
const bad: readonly (readonly [what: string, duty: Duty, error: RegExp])[] = [
  [
    'throws',
    () => {
      throw wedged;
    },
    /^CORE_CALLBACK_FAILED \(EIO\): dmaUnmap of device \S+ \(driver probe\) failed: ring is wedged/,
  ],
  ['rejects', () => Promise.reject(wedged), /^CORE_CALLBACK_FAILED \(EIO\): dmaUnmap of device \S+ \(driver probe\)/],
  [
    'never settles',
    () => new Promise(() => {}),
    /^CORE_CALLBACK_TIMEOUT \(ETIMEDOUT\): dmaUnmap of device \S+ \(driver probe\)/,
  ],
  ['maps', (world) => void world.map(0x800, 1), /^CORE_CALLBACK_FAILED .*driver probe.* CORE_REENTRY \(EBUSY\): map/],
  [
    'unmaps',
    async (world) => void (await world.unmap(0x800, 1)),
    /^CORE_CALLBACK_FAILED .*driver probe.* CORE_REENTRY \(EBUSY\): unmap/,
  ],
];

/** A `dmaUnmap` that waits until the case lets it go on. */
function gated(probe: ProbeDevice): { entered(): Promise<void>; release(): void } {
  let release = (): void => {};
  let inside = false;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  probe.duty = async (range: FrameRange) => {
    inside = true;
    await gate;
    probe.releaseWithin(range);
  };
  return { entered: () => eventually('dmaUnmap is called', () => inside), release: () => release() };
}

/** Drivers that break their duty, and what else happens while a duty runs: named, and the backend stays usable. */
export const misbehaviourCases = [
  ...bad.map(([what, duty, error]) =>
    backendCase(
      `a dmaUnmap that ${what} is named; others are called all the same; the backend stays usable`,
      ['pins'],
      async (world) => {
        const [good, broken] = [await world.openProbe(), await world.openProbe()];
        world.map(0x100, 16);
        good.probe.hold(0x104);
        broken.probe.hold(0x105);
        broken.probe.duty = () => duty(world, broken.probe);
        const thrown = await rejectionOf(world, world.unmap(0x100, 16));
        assert.match(String(thrown), error);
        assert.deepEqual([good.probe.held.size, broken.probe.held.size], [0, 1]);
        assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 1]);

        world.map(0x200, 16);
        good.probe.hold(0x204);
        assert.match(String(await rejectionOf(world, world.unmap(0x200, 16))), error, 'it is still asked');
        broken.probe.duty = (range) => broken.probe.releaseWithin(range);
        assert.deepEqual(await world.container.unmapAll(), { size: 0x20000n });
      },
    ),
  ),

  backendCase('two unmaps of the same range at once: together they report it once', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    probe.hold(0x104);
    const gate = gated(probe);
    const both = underWay(Promise.all([world.unmap(0x100, 16), world.unmap(0x100, 16)]));
    await gate.entered();
    gate.release();
    const sizes = (await both).map(({ size }) => size);
    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0n),
      0x10000n,
    );
    assert.equal(world.container.stats.mappings, 0);
  }),

  backendCase('map, pin, unmap and copies elsewhere go on while a dmaUnmap runs', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    world.map(0x200, 16);
    probe.hold(0x104);
    const gate = gated(probe);
    const unmapping = underWay(world.unmap(0x100, 16));
    await gate.entered();
    world.map(0x300, 16);
    assert.deepEqual(await world.unmap(0x200, 16), { size: 0x10000n });
    probe.hold(0x305);
    gate.release();
    assert.deepEqual(await unmapping, { size: 0x10000n });
    assert.deepEqual([world.container.stats.mappings, [...probe.held]], [1, [0x305]]);
  }),

  backendCase('a device that opens while a dmaUnmap runs waits for the end of the round', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    probe.hold(0x104);
    const gate = gated(probe);
    const unmapping = underWay(world.unmap(0x100, 16));
    await gate.entered();
    let opened = false;
    const opening = underWay(world.openProbe()).then(() => {
      opened = true;
    });
    underWay(opening);
    await settled();
    assert.equal(opened, false);
    gate.release();
    await Promise.all([unmapping, opening]);
    assert.deepEqual(
      world.probes.calls.map((call) => call.probe),
      [0],
    );
  }),

  backendCase('a device that closes while a dmaUnmap runs leaves nothing', ['pins'], async (world) => {
    const [one, two] = [await world.openProbe(), await world.openProbe()];
    world.map(0x100, 16);
    one.probe.hold(0x104);
    two.probe.hold(0x105);
    const gate = gated(two.probe);
    const unmapping = underWay(world.unmap(0x100, 16));
    await gate.entered();
    const closing = underWay(one.file.close());
    await settled();
    gate.release();
    await Promise.all([unmapping, closing]);
    assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [0, 0]);
  }),

  backendCase('a duty that settles after its time is over changes nothing', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 16);
    probe.hold(0x104);
    const gate = gated(probe);
    assert.match(String(await rejectionOf(world, world.unmap(0x100, 16))), /CORE_CALLBACK_TIMEOUT/);
    gate.release();
    await settled();
    assert.deepEqual([world.container.stats.mappings, world.container.stats.pinnedPages], [1, 0]);
    assert.deepEqual(await world.unmap(0x100, 16), { size: 0x10000n });
  }),
];
