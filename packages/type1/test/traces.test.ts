/** Worked traces with exact numbers. Source: reference kernel-vfio, section 13. T11 is in info.test.ts, T13 and T14 in dirty.test.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EXTENSION, PROT_READ, PROT_WRITE, UNMAP_FLAG } from '@pinion/core';
import { MAX_ROUNDS } from '@pinion/type1';
import { frame, PAGE, pages, World } from './world.js';

const D = 0x100000n;

describe('worked traces', () => {
  test('T1 two devices, one page shared: the newer is called first, both once', async () => {
    const world = await World.start({ mediated: ['A', 'B'] });
    const order: string[] = [];
    for (const name of ['A', 'B']) {
      const ops = world.ops(name);
      ops.unmapping = (range) => {
        order.push(`${name} ${range.first}-${range.last}`);
        ops.giveBack(range);
      };
    }
    world.map(D, 16);
    world.pin('A', 0x103);
    world.pin('B', 0x103);
    world.pin('B', 0x10f);
    assert.deepEqual([world.locked, world.container.stats.pinnedPages], [2, 2]);
    assert.equal(await world.unmap(D, 16), 0x10000n);
    assert.deepEqual(order, ['B 256-271', 'A 256-271']);
    assert.equal(world.locked, 0);
    await world.end();
  });

  test('T1 if A ignores it: 11 rounds for both, then the leak is named', async () => {
    const world = await World.start({ mediated: ['A', 'B'] });
    world.ops('A').unmapping = () => {};
    world.map(D, 16);
    world.pin('A', 0x103);
    world.pin('B', 0x103);
    world.pin('B', 0x10f);
    await assert.rejects(world.unmap(D, 16), { name: 'TYPE1_PIN_LEAK', errno: 'EBUSY' });
    for (const name of ['A', 'B']) {
      assert.deepEqual(
        world.ops(name).calls,
        Array.from({ length: MAX_ROUNDS }, () => [0x100, 16]),
      );
    }
    assert.deepEqual([world.container.stats.mappings, world.locked], [1, 1]);
    await world.end();
  });

  test('T2 several mappings: only those with pins are announced, each whole, ascending', async () => {
    const world = await World.start();
    world.map(0n, 1);
    world.map(PAGE, 1);
    world.map(2n * PAGE, 2);
    world.pin('A', 0);
    world.pin('A', 3);
    assert.equal(await world.unmap(0n, 0x200), 0x4000n);
    assert.deepEqual(world.ops('A').calls, [
      [0, 1],
      [2, 2],
    ]);
    await world.end();
  });

  test('T3 a part of a mapping: refused without a call in v2, nothing or all in v1', async () => {
    const world = await World.start();
    world.map(D, 16);
    world.pin('A', 0x101);
    await world.refusesLater('TYPE1_BISECTS', 'EINVAL', () => world.unmap(D + PAGE, 1));
    await world.refusesLater('TYPE1_BISECTS', 'EINVAL', () => world.unmap(D, 1));
    assert.deepEqual(world.ops('A').calls, []);
    await world.end();
    const v1 = await World.start({ type: EXTENSION.TYPE1_IOMMU });
    v1.map(D, 16);
    assert.equal(await v1.unmap(D + PAGE, 1), 0n);
    assert.equal(await v1.unmap(D, 1), 0x10000n);
    await v1.end();
  });

  test('T4 a pin into the hole behind gives the first pages back', async () => {
    const world = await World.start();
    world.map(D, 16);
    const out = new Float64Array(3).fill(9);
    world.refuses('TYPE1_NOT_MAPPED', 'EINVAL', () =>
      world.seat('A').device.pins.pinInto(frame(0x10e), 3, PROT_READ, out),
    );
    assert.deepEqual([...out], [0, 0, 9]);
    await world.end();
  });

  test('T5 a read-only mapping: no write, and the memory is not even touched', async () => {
    const world = await World.start();
    world.map(D, 16, { prot: PROT_READ });
    world.refuses('TYPE1_PROT', 'EPERM', () => world.pin('A', 0x100, 1, PROT_WRITE));
    assert.equal(world.os.host.livePages, 0);
    world.pin('A', 0x100, 1, PROT_READ);
    await world.end();
  });

  test('T6 how many pages a call takes', async () => {
    const world = await World.start();
    world.map(0n, 600);
    world.refuses('CORE_BAD_COUNT', 'EINVAL', () => world.pin('A', 0, 0));
    for (const count of [513, -1]) {
      const pins = world.seat('A').device.pins;
      world.refuses('CORE_TOO_MANY', 'E2BIG', () => pins.pinInto(frame(0), count, PROT_READ, new Float64Array(600)));
    }
    assert.equal(world.pin('A', 0, 512).length, 512);
    await world.end();
  });

  test('T7 a pin left at close with passthrough: nobody to call, the unmap names nobody and the mapping stays', async () => {
    const world = await World.start({ passthrough: ['P'], quirks: ['close-keeps-pins'] });
    world.ops('A').closing = () => {};
    world.map(0n, 16);
    world.pin('A', 1);
    await world.unplug('A');
    assert.equal(world.locked, 16);
    await assert.rejects(world.unmap(0n, 16), {
      name: 'TYPE1_PIN_LEAK',
      message: /after 0 round.*nobody that is open/,
    });
    assert.deepEqual([world.container.stats.mappings, world.locked, world.ops('A').calls.length], [1, 16, 0]);
    await world.end({ pinnedPages: 1, livePages: 1 });
    assert.deepEqual(world.reports.slice(-1), ['pins-left']);
  });

  test('T7 by default the pin is given back at close, and reported', async () => {
    const world = await World.start({ passthrough: ['P'] });
    world.ops('A').closing = () => {};
    world.map(0n, 16);
    world.pin('A', 1);
    await assert.rejects(world.close('A'), { name: 'CORE_PINS_LEFT', errno: 'EBUSY' });
    world.seat('A').group.unsetContainer();
    assert.equal(world.locked, 16);
    assert.equal(await world.unmap(0n, 16), pages(16));
    assert.deepEqual(world.reports, ['leaked test 1']);
    await world.end();
  });

  test('T8 a pin left at close, mediated only: page and charge stay after the last group', async () => {
    const world = await World.start({ quirks: ['close-keeps-pins'] });
    world.ops('A').closing = () => {};
    world.map(0n, 16);
    world.pin('A', 1);
    await world.unplug('A');
    assert.deepEqual(world.reports, ['leaked test 1', 'pins-left']);
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [1, 1]);
    await world.end({ pinnedPages: 1, livePages: 1 });
  });

  test('T9 memory that is not there yet', async () => {
    const world = await World.start();
    const vaddr = 0x5000_0000n;
    world.map(0n, 4, { vaddr });
    world.refuses('SIM_FAULT', 'EFAULT', () => world.pin('A', 0));
    world.refuses('SIM_FAULT', 'EFAULT', () => world.attachPassthrough('P'));
    world.task.memory.mmap({ size: pages(4), at: vaddr });
    world.pin('A', 0);
    world.attachPassthrough('P');
    assert.equal(world.locked, 4);
    await world.end();
  });

  test('T10 the interrupt window of x86', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], iommu: { addressWidth: 39 } });
    assert.deepEqual(world.container.info().capabilities[2], {
      id: 'iova-range',
      ranges: [
        [0n, 0xfedfffffn],
        [0xfef00000n, (1n << 39n) - 1n],
      ],
    });
    world.refuses('TYPE1_OUTSIDE_RANGES', 'EINVAL', () => world.map(0xfedff000n, 2));
    world.map(0xfedff000n, 1);
    world.map(0xfef00000n, 1);
    await world.end();
  });

  test('T10 the same mapping made before: the attach is refused', async () => {
    const world = await World.start();
    world.map(0xfedff000n, 2);
    world.refuses('TYPE1_RESERVED', 'EINVAL', () => world.attachPassthrough('P'));
    await world.end();
  });

  test('T12 the limit is reached in the second run of a mapping: all comes back', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], task: { lockBytes: 5 * 4096 } });
    const { memory } = world.task;
    const vaddr = 0x6000_0000n;
    for (const [first, count] of [
      [0, 3],
      [3, 3],
      [6, 2],
    ] as const) {
      memory.mmap({ size: pages(count), at: vaddr + pages(first) });
    }
    const calls = world.iommu.failures.calls('map');
    world.refuses('TYPE1_MEMLOCK', 'ENOMEM', () => world.map(0n, 8, { vaddr }));
    assert.deepEqual([world.iommu.failures.calls('map') - calls, world.locked], [1, 0]);
    assert.deepEqual(world.container.info().capabilities[1], { id: 'dma-avail', available: 65_535 });
    world.map(0n, 5, { vaddr });
    await world.end();
  });

  test('T15 vaddrs are taken from all or from none', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 1);
    world.map(PAGE, 1);
    const take = (iova: bigint, count: number) =>
      world.container.unmap({ flags: UNMAP_FLAG.VADDR, iova, size: pages(count) });
    await take(PAGE, 1);
    await world.refusesLater('TYPE1_VADDR_MISMATCH', 'EINVAL', () => take(0n, 2));
    assert.deepEqual(await take(0n, 1), { size: PAGE });
    await world.end();
  });

  test('T16 exec: pages come back, the new memory’s counter is not touched', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    world.map(0n, 16);
    world.task.exec();
    assert.deepEqual([world.locked, world.os.host.pinnedPages], [0, 16]);
    assert.equal(await world.unmap(0n, 16), pages(16));
    assert.deepEqual([world.locked, world.os.host.pinnedPages, world.container.stats.lockedPages], [0, 0, 0]);
    await world.end();
  });

  test('T17 two containers, the same pages: counted twice', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'] });
    const vaddr = world.map(0n, 16);
    const second = world.mediator.openContainer(world.task);
    const group = world.mediator.addGroup({ name: 'Q', iommu: world.iommu.createGroup() });
    world.mediator.addDevice(group, 'Q.0', {});
    group.open(world.task).setContainer(second);
    second.setIommu(EXTENSION.TYPE1v2_IOMMU);
    second.mapDma({ iova: 0n, size: pages(16), vaddr, prot: 3 });
    assert.deepEqual([world.locked, second.stats.lockedPages, world.container.stats.lockedPages], [32, 16, 16]);
    await world.end();
  });

  test('T18 container, group, device are closed in that order: all goes with the device', async () => {
    const world = await World.start();
    world.map(0n, 4);
    world.pin('A', 0, 2);
    const seat = world.seat('A');
    world.container.close();
    assert.equal(world.locked, 2);
    seat.group.close();
    assert.deepEqual([world.locked, world.container.stats.mappings], [2, 1]);
    await seat.file?.close();
    assert.deepEqual([world.locked, world.container.backend, world.os.leaks().grabs], [0, undefined, 0]);
    await world.end();
  });

  test('T19 the type is chosen after the group, no pins in v1; the container is as new when its last group left', async () => {
    const world = await World.start({ mediated: [], type: 0 });
    assert.throws(() => world.container.setIommu(EXTENSION.TYPE1_IOMMU), { name: 'CORE_NO_GROUP', errno: 'EINVAL' });
    const { group } = await world.attachMediated('A');
    world.container.setIommu(EXTENSION.TYPE1_IOMMU);
    await world.open('A');
    world.map(0n, 1);
    world.refuses('TYPE1_NOT_V2', 'EACCES', () => world.pin('A', 0));
    await world.close('A');
    group.unsetContainer();
    group.setContainer(world.container);
    world.container.setIommu(EXTENSION.TYPE1v2_IOMMU);
    assert.equal(world.container.stats.mappings, 0);
    await world.open('A');
    world.map(0n, 1);
    world.pin('A', 0);
    await world.end();
  });
});
