/** Observers hear facts; what they do then must not break what is going on. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatRange } from '@pinion/core';
import { pages, World } from './world.js';

describe('observers of mappings', () => {
  test('hear of every mapping that comes and goes, in order, and of none that was refused', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const heard: string[] = [];
    world.mediator.bus.on('dma:mapped', ({ range }) => heard.push(`+${formatRange(range)}`));
    world.mediator.bus.on('dma:unmapped', ({ range }) => heard.push(`-${formatRange(range)}`));
    world.map(0n, 1);
    world.refuses('TYPE1_OVERLAP', 'EEXIST', () => world.map(0n, 1));
    world.refuses('SIM_FAULT', 'EFAULT', () => world.map(0x10000n, 1, { vaddr: 0x1000n }));
    world.map(0x8000n, 2);
    await world.refusesLater('TYPE1_BISECTS', 'EINVAL', () => world.unmap(0n, 9));
    await world.unmap(0n, 1);
    world.detachPassthrough('P');
    await world.unplug('A');
    assert.deepEqual(heard, ['+[0x0, 0xfff]', '+[0x8000, 0x9fff]', '-[0x0, 0xfff]', '-[0x8000, 0x9fff]']);
    await world.end();
  });

  test('may unmap the rest while an unmap is going on: each goes once', async () => {
    for (const passthrough of [[], ['P']]) {
      const world = await World.start({ passthrough });
      for (let i = 0; i < 6; i += 1) world.map(pages(i * 4), 2);
      const inner: Promise<bigint>[] = [];
      let gone = 0;
      world.mediator.bus.on('dma:unmapped', () => {
        gone += 1;
        if (gone === 2) inner.push(world.unmap(0n, 20));
      });
      const outer = await world.unmap(0n, 24);
      assert.equal(outer + ((await inner[0]) ?? 0n), pages(12));
      assert.deepEqual([gone, world.container.stats.mappings, world.locked, world.os.leaks().grabs], [6, 0, 0, 0]);
      await world.end();
    }
  });

  test('may unmap while the last group leaves', async () => {
    const world = await World.start();
    for (let i = 0; i < 4; i += 1) world.map(pages(i * 4), 2);
    let gone = 0;
    const inner: Promise<unknown>[] = [];
    world.mediator.bus.on('dma:unmapped', () => {
      gone += 1;
      if (gone === 1) inner.push(world.container.unmapAll());
    });
    await world.unplug('A');
    await Promise.all(inner);
    assert.deepEqual([gone, world.os.leaks().grabs], [4, 0]);
    await world.end();
  });

  test('may unmap what has just been mapped, while dirty pages are tracked', async () => {
    const world = await World.start();
    world.container.dirty({ flags: 1 });
    const inner: Promise<unknown>[] = [];
    world.mediator.bus.on('dma:mapped', () => inner.push(world.container.unmapAll()));
    world.map(0n, 4);
    await Promise.all(inner);
    assert.deepEqual([world.container.stats.mappings, world.os.leaks().grabs], [0, 0]);
    world.container.dirty({ flags: 2 });
    await world.end();
  });

  test('that throw are somebody else’s problem', async () => {
    const world = await World.start({ passthrough: ['P'] });
    const fail = (): never => {
      throw new RangeError('observer');
    };
    for (const event of ['dma:mapped', 'dma:unmapped', 'pages:pinned', 'pages:unpinned'] as const)
      world.mediator.bus.on(event, fail);
    world.map(0n, 4);
    world.pin('A', 1);
    assert.equal(await world.unmap(0n, 4), pages(4));
    await world.end();
  });
});
