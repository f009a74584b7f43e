/** The device combinations that the accounting discussion of October 2016 weighs. Source: reference kernel-vfio 6.4, threads/2016-10. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pages, World } from './world.js';

const N = 1024;
const limit = (count: number) => ({ lockBytes: count * 4096 });

describe('five mixes: locked pages after each step', () => {
  test('1 passthrough only', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, N);
    assert.equal(world.locked, N);
    assert.equal(await world.unmap(0n, N), pages(N));
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('2 vGPU only: what is pinned, once, and given back when the mapping goes', async () => {
    const world = await World.start();
    const seen: number[] = [];
    const note = (): void => void seen.push(world.locked);
    world.map(0n, N);
    note();
    world.pin('A', 0, 10);
    note();
    world.pin('A', 0, 10);
    note();
    world.unpin('A', 0, 10);
    note();
    world.unpin('A', 0, 10);
    note();
    world.pin('A', 5, 10);
    note();
    assert.equal(await world.unmap(0n, N), pages(N));
    note();
    assert.deepEqual(seen, [0, 10, 10, 10, 0, 10, 0]);
    await world.end();
  });

  test('2 vGPU only, limit of 8: a call for 10 leaves nothing', async () => {
    const world = await World.start({ task: limit(8) });
    world.map(0n, N);
    for (let page = 0; page < 8; page += 1) world.pin('A', page);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 8));
    world.unpin('A', 0, 8);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.pin('A', 0, 10));
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('3 both from the start: pins are free, also during the callbacks', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const seen: number[] = [];
    world.map(0n, N);
    world.pin('A', 0, 10);
    seen.push(world.locked);
    world.unpin('A', 0, 10);
    seen.push(world.locked);
    world.pin('A', 0, 10);
    const ops = world.ops('A');
    ops.unmapping = (range) => {
      ops.giveBack(range);
      seen.push(world.locked);
    };
    assert.equal(await world.unmap(0n, N), pages(N));
    assert.deepEqual([...seen, world.locked], [N, N, N, 0]);
    await world.end();
  });

  test('4 a vGPU is plugged into passthrough and out again: nothing changes', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], task: limit(N) });
    world.map(0n, N);
    const seen = [world.locked];
    await world.attachMediated('A');
    seen.push(world.locked);
    await world.open('A');
    world.pin('A', 0, 10);
    seen.push(world.locked);
    await world.close('A');
    seen.push(world.locked);
    world.seat('A').group.unsetContainer();
    assert.deepEqual([...seen, world.locked], [N, N, N, N, N]);
    await world.end();
  });

  test('5 passthrough is plugged into a vGPU and out again', async () => {
    const world = await World.start({ task: limit(N) });
    world.map(0n, N);
    world.pin('A', 0, 10);
    const seen = [world.locked];
    world.attachPassthrough('P');
    seen.push(world.locked);
    world.pin('A', 10, 5);
    seen.push(world.locked);
    world.detachPassthrough('P');
    seen.push(world.locked);
    world.unpin('A', 0, 15);
    assert.deepEqual([...seen, world.locked], [10, N, N, 15, 0]);
    await world.end();
  });

  test('5 with one page too few: the group stays out, the vGPU keeps its pins', async () => {
    const world = await World.start({ task: limit(N - 1) });
    world.map(0n, N);
    world.pin('A', 0, 10);
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.attachPassthrough('P'));
    assert.deepEqual([world.locked, world.container.stats.pinnedPages, world.os.host.pinnedPages], [10, 10, 10]);
    world.pin('A', 10);
    assert.equal(world.locked, 11);
    world.task.lockBytes = N * 4096;
    world.attachPassthrough('P');
    assert.equal(world.locked, N);
    await world.end();
  });

  test('the order of plugging in does not matter', async () => {
    const steps: Record<string, (world: World) => unknown> = {
      vgpu: (world) => world.plug('B'),
      passthrough: (world) => world.attachPassthrough('P'),
      map: (world) => world.map(0x1000000n, 32),
      pin: (world) => world.pin('A', 2, 3),
    };
    for (const order of permutations(Object.keys(steps))) {
      const world = await World.start();
      world.map(0n, 16);
      for (const step of order) await steps[step]?.(world);
      world.pin('B', 0x1000, 2);
      assert.deepEqual([world.locked, world.container.stats.pinnedPages], [48, 5], order.join());
      world.detachPassthrough('P');
      assert.equal(world.locked, 5, order.join());
      await world.end();
    }
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((first, at) => permutations(items.toSpliced(at, 1)).map((rest) => [first, ...rest]));
}
