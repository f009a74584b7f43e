import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type FrameRange, PinionError } from '@pinion/core';
import { MAX_ROUNDS } from '@pinion/type1';
import { frame, PAGE, pages, World } from './world.js';

/** A promise that a test settles. */
function gate(): { readonly opened: Promise<void>; open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** Lets everything that can go on go on. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('dmaUnmap: who is called, with what', () => {
  test('mappings in ascending order, each whole; devices newest first, also those without a pin', async () => {
    const world = await World.start({ mediated: ['A', 'B', 'C'] });
    const order: string[] = [];
    for (const name of ['A', 'B', 'C']) {
      const ops = world.ops(name);
      ops.unmapping = (range) => {
        order.push(`${name}@${range.first}`);
        ops.giveBack(range);
      };
    }
    for (const first of [48, 16, 32]) world.map(pages(first), 8);
    world.pin('A', 33);
    world.pin('B', 55);
    assert.equal(await world.unmap(0n, 64), pages(24));
    assert.deepEqual(order, ['C@32', 'B@32', 'A@32', 'C@48', 'B@48', 'A@48']);
    assert.deepEqual(world.ops('A').calls, [
      [32, 8],
      [48, 8],
    ]);
    await world.end();
  });

  test('open order counts, not attach order; a device opened twice is called once', async () => {
    const world = await World.start({ mediated: ['A', 'B'] });
    await world.close('A');
    await world.open('A');
    const again = await world.seat('A').group.openDevice(world.seat('A').device.name);
    const order: string[] = [];
    for (const name of ['A', 'B']) {
      const ops = world.ops(name);
      ops.unmapping = (range) => {
        order.push(name);
        ops.giveBack(range);
      };
    }
    world.map(0n, 1);
    world.pin('B', 0);
    await world.unmap(0n, 1);
    assert.deepEqual(order, ['A', 'B']);
    await again.close();
    await world.end();
  });

  test('no pin, no call, with ten devices; none for detach, close, or the end of the process', async () => {
    const names = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J'];
    const world = await World.start({ mediated: names, passthrough: ['P'] });
    world.map(0n, 8);
    await world.unmap(0n, 8);
    world.map(0n, 8);
    world.pin('A', 0);
    world.detachPassthrough('P');
    await world.close('A');
    await world.task.exit();
    await world.mediator.close();
    assert.deepEqual(
      names.flatMap((name) => world.ops(name).calls),
      [],
    );
    await world.end();
  });

  test('the mapping is still there during the call: pins can be looked at, copies work, translations stand', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.map(0n, 4);
    world.pin('A', 1);
    const seen: unknown[] = [];
    const ops = world.ops('A');
    ops.unmapping = (range) => {
      world.container.dmaRw(0n, new Uint8Array(8), true);
      world.pin('A', 2);
      seen.push(world.iommu.groups[0]?.domain?.lookup(frame(3)) !== undefined, world.container.stats.mappings);
      ops.giveBack(range);
    };
    await world.unmap(0n, 4);
    assert.deepEqual(seen, [true, 1]);
    await world.end();
  });
});

describe('dmaUnmap: rounds', () => {
  /** Gives one page back per call. */
  const onePerCall = (world: World): void => {
    world.ops('A').unmapping = (range) => {
      const [first] = world.seat('A').device.pins.within(range);
      if (first !== undefined) world.unpin('A', first);
    };
  };

  for (const count of [1, 10, MAX_ROUNDS]) {
    test(`${count} pages given back one by one pass in ${count} rounds`, async () => {
      const world = await World.start();
      onePerCall(world);
      world.map(0n, 16);
      world.pin('A', 0, count);
      assert.equal(await world.unmap(0n, 16), pages(16));
      assert.equal(world.ops('A').calls.length, count);
      await world.end();
    });
  }

  test('12 pages given back one by one are a leak of one; after it the driver may learn', async () => {
    const world = await World.start();
    onePerCall(world);
    world.map(0n, 16);
    world.pin('A', 0, 12);
    await assert.rejects(world.unmap(0n, 16), { name: 'TYPE1_PIN_LEAK', errno: 'EBUSY' });
    assert.deepEqual([world.ops('A').calls.length, world.locked, world.container.stats.mappings], [11, 1, 1]);
    assert.equal(await world.unmap(0n, 16), pages(16));
    assert.equal(world.ops('A').calls.length, 12);
    await world.end();
  });

  test('the count starts anew at each mapping', async () => {
    const world = await World.start();
    onePerCall(world);
    for (const first of [0, 16, 32]) {
      world.map(pages(first), 16);
      world.pin('A', first, MAX_ROUNDS);
    }
    assert.equal(await world.unmap(0n, 48), pages(48));
    assert.equal(world.ops('A').calls.length, 3 * MAX_ROUNDS);
    await world.end();
  });

  test('a device that pins the same mapping again in every call never comes to an end; another mapping is fine', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.map(0x10000n, 4);
    world.pin('A', 0);
    const ops = world.ops('A');
    let again = 1;
    ops.unmapping = (range) => {
      ops.giveBack(range);
      world.pin('A', again);
    };
    await assert.rejects(world.unmap(0n, 4), { name: 'TYPE1_PIN_LEAK', errno: 'EBUSY' });
    assert.equal(ops.calls.length, MAX_ROUNDS);
    again = 16;
    assert.equal(await world.unmap(0n, 4), pages(4));
    assert.equal(world.container.stats.pinnedPages, 1);
    await world.end();
  });
});

describe('PIN_LEAK', () => {
  test('names driver, device and frames, also the range; earlier mappings are gone, later ones untouched', async () => {
    const world = await World.start({ mediated: ['A', 'B'] });
    for (const first of [0, 16, 32]) world.map(pages(first), 16);
    for (const name of ['A', 'B']) world.ops(name).unmapping = () => {};
    world.pin('A', 17);
    world.pin('A', 20, 2);
    world.pin('B', 31);
    world.pin('B', 40);
    const failure = await world.unmap(0n, 48).catch((cause: unknown) => cause);
    assert.ok(failure instanceof PinionError);
    assert.equal(failure.name, 'TYPE1_PIN_LEAK');
    for (const part of [
      '[0x10000, 0x1ffff]',
      '4 page(s)',
      '11 round(s)',
      'driver test',
      '0x11000, 0x14000, 0x15000',
      '0x1f000',
    ])
      assert.ok(failure.message.includes(part), `${part} in ${failure.message}`);
    for (const name of ['A', 'B']) assert.ok(failure.message.includes(world.seat(name).device.name));
    assert.deepEqual([world.container.stats.mappings, world.locked], [2, 5]);
    await world.end();
  });

  test('the device closes after the leak: the next unmap works', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.pin('A', 1);
    world.ops('A').unmapping = () => {};
    await assert.rejects(world.unmap(0n, 4), { name: 'TYPE1_PIN_LEAK' });
    await world.close('A');
    assert.equal(await world.unmap(0n, 4), pages(4));
    await world.end();
  });

  test('handles and other mappings keep working after a leak', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.map(0x10000n, 4);
    const handle = world.seat('A').device.pins.pin(frame(1), 1, 3);
    world.ops('A').unmapping = () => {};
    await assert.rejects(world.unmap(0n, 4), { name: 'TYPE1_PIN_LEAK' });
    handle.write(0, Uint8Array.of(5));
    assert.equal(handle.read(0, 1)[0], 5);
    world.pin('A', 16);
    handle.unpin();
    assert.equal(await world.unmap(0n, 4), pages(4));
    await world.end();
  });
});

describe('while a round runs', () => {
  /** A world whose device A waits in `dmaUnmap` until the gate opens, with one page of 16 at 0x10000 pinned and unmap called. */
  async function waiting(options: Parameters<typeof World.start>[0] = {}) {
    const world = await World.start(options);
    const { opened, open } = gate();
    const ops = world.ops('A');
    ops.unmapping = async (range: FrameRange) => {
      await opened;
      ops.giveBack(range);
    };
    world.map(0x10000n, 16);
    world.pin('A', 0x11);
    const unmapped = world.unmap(0x10000n, 16);
    await settle();
    assert.equal(ops.calls.length, 1);
    return { world, open, unmapped };
  }

  test('map, pin, unpin and info work from outside', async () => {
    const { world, open, unmapped } = await waiting({ mediated: ['A', 'B'] });
    world.map(0x80000n, 4);
    world.pin('B', 0x80);
    world.unpin('B', 0x80);
    world.refuses('TYPE1_OVERLAP', 'EEXIST', () => world.map(0x11000n, 1));
    open();
    assert.equal(await unmapped, pages(16));
    assert.equal(world.container.stats.mappings, 1);
    await world.end();
  });

  test('a page pinned from outside meanwhile is asked back in a second round', async () => {
    const { world, open, unmapped } = await waiting({ mediated: ['B', 'A'] });
    await settle();
    world.ops('B').unmapping = () => world.unpin('B', 0x12);
    world.pin('B', 0x12);
    world.ops('B').calls.length = 0;
    open();
    assert.equal(await unmapped, pages(16));
    await world.end();
  });

  test('a second unmap of the same finds nothing left, and nobody is called for it', async () => {
    const { world, open, unmapped } = await waiting();
    const second = world.unmap(0x10000n, 16);
    await settle();
    open();
    assert.deepEqual([await unmapped, await second], [pages(16), 0n]);
    assert.deepEqual(world.ops('A').calls, [[0x10, 16]]);
    await world.end();
  });

  test('a second unmap of more takes what the first leaves', async () => {
    const { world, open, unmapped } = await waiting();
    world.map(0x20000n, 2);
    world.pin('A', 0x20);
    const second = world.unmap(0n, 0x100);
    await settle();
    open();
    assert.equal((await unmapped) + (await second), pages(18));
    assert.equal(world.container.stats.mappings, 0);
    await world.end();
  });

  test('a mapping made meanwhile that the request would cut: EINVAL, what was there before is gone', async () => {
    const { world, open } = await waiting({ mediated: ['A', 'B'] });
    const { opened, open: openSecond } = gate();
    world.map(0n, 4);
    world.pin('B', 1);
    const ops = world.ops('B');
    ops.unmapping = async (range) => {
      await opened;
      ops.giveBack(range);
    };
    open();
    await settle();
    const cut = world.container.unmapDma({ iova: 0n, size: pages(0x22) });
    await settle();
    world.map(0x21000n, 4);
    openSecond();
    await assert.rejects(cut, { name: 'TYPE1_BISECTS', errno: 'EINVAL' });
    assert.equal(world.container.stats.mappings, 2);
    await world.end();
  });

  test('a device that opens waits for the end of the round, and hears of the next', async () => {
    const { world, open, unmapped } = await waiting();
    await world.attachMediated('B');
    let done = false;
    const opening = world.open('B').then(() => {
      done = true;
    });
    await settle();
    assert.equal(done, false);
    open();
    await Promise.all([unmapped, opening]);
    assert.deepEqual(world.ops('B').calls, []);
    world.map(0n, 1);
    world.pin('A', 0);
    world.ops('A').unmapping = (range) => world.ops('A').giveBack(range);
    await world.unmap(0n, 1);
    assert.equal(world.ops('B').calls.length, 1);
    await world.end();
  });

  test('a device that closes waits for the end of the round', async () => {
    const { world, open, unmapped } = await waiting({ mediated: ['A', 'B'] });
    let done = false;
    const closing = world.close('B').then(() => {
      done = true;
    });
    await settle();
    assert.equal(done, false);
    open();
    await Promise.all([unmapped, closing]);
    world.map(0n, 1);
    world.pin('A', 0);
    await world.unmap(0n, 1);
    assert.equal(world.ops('B').calls.length, 1);
    await world.end();
  });

  test('the very device that is asked closes: it waits for the end of the round, the unmap goes on', async () => {
    const { world, open, unmapped } = await waiting();
    let done = false;
    const closing = world.close('A').then(() => {
      done = true;
    });
    await settle();
    assert.deepEqual([done, world.locked], [false, 0]);
    open();
    assert.equal(await unmapped, pages(16));
    await closing;
    await world.end();
  });

  test('a passthrough group that joins meanwhile: its pages are unmapped and given back too', async () => {
    const { world, open, unmapped } = await waiting();
    world.attachPassthrough('P');
    assert.equal(world.locked, 16);
    open();
    assert.equal(await unmapped, pages(16));
    assert.deepEqual([world.locked, world.iommu.groups[0]?.domain?.stats.frames], [0, 0]);
    await world.end();
  });

  test('the container’s file is closed meanwhile: the unmap still ends', async () => {
    const { world, open, unmapped } = await waiting();
    world.container.close();
    open();
    assert.equal(await unmapped, pages(16));
    await world.end();
  });
});

test('unmap of many mappings with and without pins: sizes add up, one call per pinned mapping', async () => {
  const world = await World.start();
  for (let i = 0; i < 200; i += 1) world.map(BigInt(i) * 2n * PAGE, 1);
  for (let i = 0; i < 200; i += 3) world.pin('A', i * 2);
  assert.equal(await world.unmap(0n, 400), pages(200));
  assert.equal(world.ops('A').calls.length, 67);
  await world.end();
});
