import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asIovaFrame, asPfn, type IovaFrame, type PinApi, PinionError, type PinnedPages } from '@pinion/core';
import { MappedPins, PerPageMapper } from '@pinion/dma';
import { BASE, behindIommu } from './harness.js';

/** Pins that give guest frame n the host frame BASE + n, and note what is asked of them. */
function fakePins(memory: ReturnType<typeof behindIommu>['memory']) {
  const calls: string[] = [];
  const held = new Map<number, number>();
  const change = (first: number, count: number, by: number): void => {
    for (let gfn = first; gfn < first + count; gfn += 1) held.set(gfn, (held.get(gfn) ?? 0) + by);
  };
  const pins: PinApi = {
    get pages() {
      return [...held.values()].filter((references) => references > 0).length;
    },
    pinInto: (first, count, _prot, out) => {
      calls.push(`pinInto ${first} ${count}`);
      if (first + count > 200) throw new PinionError('TEST_HOLE', 'EINVAL', 'no page there');
      change(first, count, 1);
      for (let page = 0; page < count; page += 1) out[page] = BASE + first + page;
    },
    unpin: (first, count) => {
      calls.push(`unpin ${first} ${count}`);
      change(first, count, -1);
    },
    bytes: (pfn, count) => memory.bytes(pfn, count),
    count: (frame: IovaFrame) => held.get(frame) ?? 0,
    pin: (first, count): PinnedPages => {
      calls.push(`pin ${first} ${count}`);
      throw new PinionError('TEST_UNUSED', 'ENOTTY', 'no handles here');
    },
    pinAt: (iova, count) => void calls.push(`pinAt ${iova} ${count}`),
    unpinAt: (iova, count) => void calls.push(`unpinAt ${iova} ${count}`),
  };
  return { pins, calls };
}

function start() {
  const world = behindIommu();
  const mapper = new PerPageMapper(world.dma);
  mapper.addRegion(0, 256);
  const { pins, calls } = fakePins(world.memory);
  return { ...world, mapper, pins, calls, mapped: new MappedPins(pins, mapper, world.ops) };
}

test('a pin answers DMA frames, and bytes are reached through them', () => {
  const { mapped, pins, memory, nic, ops } = start();
  memory.bytes(asPfn(BASE + 7), 1).fill(7);
  const out = new Float64Array(2);
  mapped.pinInto(asIovaFrame(7), 2, 3, out);
  assert.deepEqual([...out], [0xfffff, 0xffffe]);
  assert.equal(mapped.bytes(asPfn(0xfffff), 1)[0], 7);
  const word = new Uint8Array(4);
  nic.read(0xffff_f000n, word);
  assert.deepEqual([...word], [7, 7, 7, 7]);
  assert.deepEqual([mapped.pages, mapped.count(asIovaFrame(8)), ops.frames], [2, 1, 2]);
  mapped.unpin(asIovaFrame(7), 2);
  assert.deepEqual([mapped.pages, ops.frames], [0, 0]);
  assert.throws(() => mapped.bytes(asPfn(0xfffff), 1), { name: 'DMA_NOT_MAPPED' });
  assert.equal(pins.pages, 0);
});

test('pinned twice is mapped once, and unmapped with the last', () => {
  const { mapped, ops, debug } = start();
  const [one, two] = [new Float64Array(1), new Float64Array(1)];
  mapped.pinInto(asIovaFrame(3), 1, 3, one);
  mapped.pinInto(asIovaFrame(3), 1, 3, two);
  assert.deepEqual([...one], [...two]);
  mapped.unpin(asIovaFrame(3), 1);
  assert.equal(ops.frames, 1);
  mapped.unpin(asIovaFrame(3), 1);
  assert.equal(ops.frames, 0);
  debug.assertClean();
});

test('what cannot be pinned is not mapped; what nobody mapped is only unpinned', () => {
  const { mapped, calls, ops } = start();
  assert.throws(() => mapped.pinInto(asIovaFrame(190), 20, 3, new Float64Array(20)), { name: 'TEST_HOLE' });
  mapped.unpin(asIovaFrame(9), 1);
  assert.equal(ops.frames, 0);
  assert.deepEqual(calls, ['pinInto 190 20', 'unpin 9 1']);
});

test('a page outside every region is unpinned again', () => {
  const { mapped, mapper, pins, ops } = start();
  mapper.removeRegion(0);
  mapper.addRegion(0, 4);
  assert.throws(() => mapped.pinInto(asIovaFrame(2), 4, 3, new Float64Array(4)), { name: 'DMA_NO_REGION' });
  assert.deepEqual([pins.pages, ops.frames, mapper.stats.mapped], [0, 0, 0]);
});

test('pins for the CPU go past the mapper', () => {
  const { mapped, calls, ops } = start();
  assert.throws(() => mapped.pin(asIovaFrame(1), 2, 3), { name: 'TEST_UNUSED' });
  mapped.pinAt(0x1000n, 1, 3, new Float64Array(1));
  mapped.unpinAt(0x1000n, 1);
  assert.deepEqual([calls, ops.frames], [['pin 1 2', 'pinAt 4096 1', 'unpinAt 4096 1'], 0]);
});
