import assert from 'node:assert/strict';
import { asIovaFrame, PROT_READ, PROT_RW, PROT_WRITE } from '@pinion/core';
import { backendCase } from './backend-harness.js';

/** pinPages and unpinPages. */
export const pinCases = [
  backendCase('a pinned page is the live memory of the process', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const vaddr = world.map(0x100, 4);
    const [pfn] = probe.hold(0x102);
    assert.ok(pfn !== undefined);
    world.task.memory.poke(vaddr + 0x2004n, Uint8Array.of(0x5a));
    assert.equal(world.os.host.bytes(pfn, 1)[4], 0x5a);
    world.os.host.bytes(pfn, 1)[5] = 0xa5;
    assert.deepEqual([...world.task.memory.peek(vaddr + 0x2004n, 2)], [0x5a, 0xa5]);
  }),

  backendCase('pins are counted per page: two pins need two unpins', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 4);
    probe.hold(0x101, 2);
    probe.hold(0x102, 2);
    assert.equal(world.container.stats.pinnedPages, 3);
    probe.pins.unpin(asIovaFrame(0x101), 2);
    assert.equal(world.container.stats.pinnedPages, 2);
    assert.equal(world.os.host.pinnedPages, 2);
    probe.pins.unpin(asIovaFrame(0x102), 2);
    assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [0, 0]);
  }),

  backendCase('pins of two devices on one page are counted too', ['pins'], async (world) => {
    const [one, two] = [await world.openProbe(), await world.openProbe()];
    world.map(0x100, 4);
    assert.deepEqual(one.probe.hold(0x101), two.probe.hold(0x101));
    assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [1, 1]);
    await one.file.close();
    assert.equal(world.container.stats.pinnedPages, 1);
    await two.file.close();
    assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [0, 0]);
  }),

  backendCase('a pin may span adjacent mappings', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 2);
    world.map(0x102, 2);
    assert.equal(probe.hold(0x101, 2).length, 2);
    assert.equal(world.container.stats.pinnedPages, 2);
  }),

  ...(
    [
      ['before a mapping', 0x0ff, 2],
      ['behind a mapping', 0x10f, 2],
      ['across a gap', 0x10f, 18],
      ['nowhere', 0x500, 1],
    ] as const
  ).map(([where, first, count]) =>
    backendCase(`a pin that reaches ${where} is EINVAL and pins nothing`, ['pins'], async (world) => {
      const { probe } = await world.openProbe();
      world.map(0x100, 16);
      world.map(0x120, 16);
      probe.hold(0x10f);
      assert.throws(() => probe.hold(first, count), { errno: 'EINVAL' });
      assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [1, 1]);
      assert.equal(probe.pins.count(asIovaFrame(0x10f)), 1);
    }),
  ),

  backendCase('a pin needs the rights of every mapping it touches', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 2, undefined, PROT_RW);
    world.map(0x102, 2, undefined, PROT_READ);
    for (const prot of [PROT_WRITE, PROT_RW]) assert.throws(() => probe.hold(0x101, 2, prot), { errno: 'EPERM' });
    assert.deepEqual([world.container.stats.pinnedPages, world.os.host.pinnedPages], [0, 0]);
    probe.hold(0x101, 2, PROT_READ);
    assert.equal(world.container.stats.pinnedPages, 2);
  }),

  backendCase('pinning again gives the same page, even if the process remapped its memory', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const vaddr = world.map(0x100, 4);
    const before = probe.hold(0x101);
    world.task.memory.munmap(vaddr + 4096n, 4096n);
    assert.deepEqual(probe.hold(0x101), before);
  }),

  backendCase('512 pages in one pin', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x400, 512);
    const frames = probe.hold(0x400, 512);
    assert.equal(new Set(frames).size, 512);
    assert.equal(world.container.stats.pinnedPages, 512);
  }),

  backendCase('after an unmap nothing can be pinned there, and the memory is free', ['pins'], async (world) => {
    const { probe } = await world.openProbe();
    const vaddr = world.map(0x100, 4);
    probe.hold(0x101);
    await world.unmap(0x100, 4);
    assert.throws(() => probe.hold(0x101), { errno: 'EINVAL' });
    world.task.memory.munmap(vaddr, 4n * 4096n);
    assert.deepEqual([world.os.host.pinnedPages, world.os.host.livePages], [0, 0]);
  }),
];
