import assert from 'node:assert/strict';
import { DIRTY_FLAG, type DirtyBitmap, PROT_READ } from '@pinion/core';
import { backendCase } from './backend-harness.js';
import type { World } from './world.js';

const bytesOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => (index * 7 + 1) % 251);

/** The dirty pages among the first 64 of frame 0x100. */
function dirtyPages(world: World): number[] {
  const bitmap: DirtyBitmap = { pgsize: 4096n, size: 8n, data: new Uint8Array(8) };
  world.container.dirty({ flags: DIRTY_FLAG.GET_BITMAP, iova: 0x100000n, size: 64n * 4096n, bitmap });
  return Array.from({ length: 64 }, (_, page) => page).filter(
    (page) => ((bitmap.data[page >> 3] ?? 0) >> (page & 7)) & 1,
  );
}

/** Copies through the mappings, dirty tracking, info. */
export const copyingCases = [
  backendCase('a copy crosses adjacent mappings and pins nothing', ['pins', 'dma-rw'], async (world) => {
    await world.openProbe();
    const [low, high] = [world.map(0x100, 1), world.map(0x101, 1)];
    const bytes = bytesOf(100);
    world.container.dmaRw(0x100fe0n, bytes, true);
    const memory = Uint8Array.of(...world.task.memory.peek(low + 0xfe0n, 32), ...world.task.memory.peek(high, 68));
    assert.deepEqual(memory, bytes);
    const back = new Uint8Array(100);
    world.container.dmaRw(0x100fe0n, back, false);
    assert.deepEqual([back, world.os.host.pinnedPages], [bytes, 0]);
  }),

  backendCase(
    'a copy that meets a hole is EINVAL; what came before stays written',
    ['pins', 'dma-rw'],
    async (world) => {
      await world.openProbe();
      const vaddr = world.map(0x100, 1);
      assert.throws(() => world.container.dmaRw(0x100ff0n, bytesOf(32), true), { errno: 'EINVAL' });
      assert.deepEqual(world.task.memory.peek(vaddr + 0xff0n, 16), bytesOf(16));
    },
  ),

  backendCase('a copy into a read-only mapping is EPERM', ['pins', 'dma-rw'], async (world) => {
    await world.openProbe();
    const vaddr = world.map(0x100, 1, undefined, PROT_READ);
    assert.throws(() => world.container.dmaRw(0x100000n, bytesOf(4), true), { errno: 'EPERM' });
    assert.deepEqual([...world.task.memory.peek(vaddr, 4)], [0, 0, 0, 0]);
    world.container.dmaRw(0x100000n, new Uint8Array(4), false);
  }),

  backendCase('dirty tracking reports what is pinned and what was pinned since', ['pins', 'dirty'], async (world) => {
    const { probe } = await world.openProbe();
    world.map(0x100, 64);
    assert.throws(() => dirtyPages(world), { errno: 'EINVAL' }, 'tracking is off');
    world.container.dirty({ flags: DIRTY_FLAG.START });
    probe.hold(0x103);
    probe.hold(0x105);
    probe.releaseOne({ first: first(probe.held), last: first(probe.held) });
    assert.deepEqual(dirtyPages(world), [3, 5]);
    assert.deepEqual(dirtyPages(world), [5]);
    world.container.dirty({ flags: DIRTY_FLAG.STOP });
  }),

  backendCase('info names the page size; an argsz that is too small is EINVAL', ['pins'], async (world) => {
    await world.openProbe();
    assert.equal(world.container.info().pgsizes & 4096n, 4096n);
    assert.throws(() => world.container.info(15), { errno: 'EINVAL' });
  }),
];

function first<T>(values: Iterable<T>): T {
  const [value] = values;
  assert.ok(value !== undefined);
  return value;
}
