import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type FrameRange, PinionError } from '@pinion/core';
import { pages, World } from './world.js';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Two devices with a pin each in one mapping of 16 pages; the newer one, B, misbehaves once. */
async function start(misbehave: (world: World) => void | Promise<void>): Promise<World> {
  const world = await World.start({ mediated: ['A', 'B'] });
  world.map(0n, 16);
  world.pin('A', 1);
  world.pin('B', 2);
  const ops = world.ops('B');
  ops.unmapping = (range: FrameRange) => {
    ops.unmapping = (again) => ops.giveBack(again);
    return misbehave(world) ?? ops.giveBack(range);
  };
  return world;
}

/** The unmap fails with this error, which names device and driver; afterwards everything is usable and the same unmap works. */
async function failsOnce(
  world: World,
  name: string,
  errno: string,
  failing = world.unmap(0n, 16),
): Promise<PinionError> {
  const failure = await failing.catch((cause: unknown) => cause);
  assert.ok(failure instanceof PinionError);
  assert.deepEqual([failure.name, failure.errno], [name, errno]);
  assert.ok(failure.message.includes(`device ${world.seat('B').device.name} (driver test)`), failure.message);
  assert.equal(world.ops('A').calls.length, 1, 'the other device had its call');
  assert.equal(world.container.stats.mappings, 1);
  world.map(0x100000n, 1);
  world.pin('A', 0x100);
  assert.equal(await world.container.unmapAll().then(({ size }) => size), pages(17));
  assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 0]);
  await world.end();
  return failure;
}

describe('a dmaUnmap that fails', () => {
  test('throws', async () => {
    const world = await start(() => {
      throw new RangeError('no such engine');
    });
    const failure = await failsOnce(world, 'CORE_CALLBACK_FAILED', 'EIO');
    assert.match(failure.message, /no such engine/);
    assert.ok(failure.cause instanceof RangeError);
  });

  test('rejects', async () => {
    const world = await start(async () => {
      await settle();
      throw new RangeError('too late');
    });
    await failsOnce(world, 'CORE_CALLBACK_FAILED', 'EIO');
  });

  test('throws what is no error', async () => {
    const world = await start(() => {
      throw 'a string';
    });
    assert.match((await failsOnce(world, 'CORE_CALLBACK_FAILED', 'EIO')).message, /a string/);
  });

  test('never settles: the watchdog ends it, and what it does later is ignored', async () => {
    let finish = (): void => {};
    const world = await start(
      () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
    );
    const failing = world.unmap(0n, 16);
    failing.catch(() => {}); // why: it is awaited below, after the clock has moved
    await settle();
    world.clock.advance(29_999);
    await settle();
    assert.equal(world.ops('A').calls.length, 0);
    world.clock.advance(1);
    await settle();
    assert.equal(world.clock.pending, 0);
    await failsOnce(world, 'CORE_CALLBACK_TIMEOUT', 'ETIMEDOUT', failing);
    finish();
    await settle();
  });
});

describe('a dmaUnmap that comes back in', () => {
  const inside: Readonly<Record<string, (world: World) => unknown>> = {
    map: (world) => world.map(0x200000n, 1),
    unmap: (world) => world.unmap(0n, 16),
    'unmap of everything': (world) => world.container.unmapAll(),
    'open of its device': (world) => world.seat('B').device.open(),
    'close of another device': (world) => world.seat('A').device.close(),
    'close of its own device': (world) => world.seat('B').device.close(),
    reset: (world) => world.seat('A').device.reset(),
  };
  for (const [what, act] of Object.entries(inside)) {
    test(`${what}: refused, and named when it does not catch it`, async () => {
      const world = await start(async () => {
        await act(world);
      });
      assert.match((await failsOnce(world, 'CORE_CALLBACK_FAILED', 'EIO')).message, /CORE_REENTRY \(EBUSY\)/);
    });

    test(`${what}, after an await`, async () => {
      const world = await start(async () => {
        await settle();
        await act(world);
      });
      assert.match((await failsOnce(world, 'CORE_CALLBACK_FAILED', 'EIO')).message, /CORE_REENTRY \(EBUSY\)/);
    });

    test(`${what}: a driver that catches the refusal and does its duty passes`, async () => {
      const refusals: unknown[] = [];
      const world = await start(async () => {
        try {
          await act(world);
        } catch (refusal) {
          refusals.push(refusal);
        }
        world.unpin('B', 2);
      });
      assert.equal(await world.unmap(0n, 16), pages(16));
      assert.deepEqual(
        refusals.map((refusal) => refusal instanceof PinionError && [refusal.name, refusal.errno]),
        [['CORE_REENTRY', 'EBUSY']],
      );
      assert.deepEqual([world.locked, world.container.stats.mappings], [0, 0]);
      await world.end();
    });
  }
});

test('two devices fail in one round: the first one called is told, both are called again later', async () => {
  const world = await World.start({ mediated: ['A', 'B'] });
  world.map(0n, 1);
  world.pin('A', 0);
  for (const name of ['A', 'B'])
    world.ops(name).unmapping = () => {
      throw new RangeError(`from ${name}`);
    };
  await assert.rejects(world.unmap(0n, 1), { name: 'CORE_CALLBACK_FAILED', message: /from B/ });
  for (const name of ['A', 'B']) world.ops(name).unmapping = (range) => world.ops(name).giveBack(range);
  assert.equal(await world.unmap(0n, 1), pages(1));
  assert.deepEqual([world.ops('A').calls.length, world.ops('B').calls.length], [2, 2]);
  await world.end();
});
