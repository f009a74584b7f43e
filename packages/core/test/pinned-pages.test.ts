import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asPfn, PAGE_SIZE, type PinnedPages, PROT_READ, PROT_RW } from '@pinion/core';
import { PIECE } from './fake-memory.js';
import { at, mapFrames, openMdev, startWorld, unmapFrames } from './world.js';

async function seated() {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 4 * PIECE);
  return { ...world, ...seat, pins: seat.device.context.pins };
}

const released = { name: 'CORE_PINS_RELEASED', errno: 'EINVAL' };

/** Every road to the bytes of a handle. */
const accesses: Readonly<Record<string, (handle: PinnedPages) => unknown>> = {
  frames: (handle) => handle.frames,
  views: (handle) => handle.views(),
  read: (handle) => handle.read(0, 1),
  write: (handle) => handle.write(0, Uint8Array.of(1)),
};
function assertRevoked(handle: PinnedPages): void {
  assert.equal(handle.held, false);
  for (const [road, access] of Object.entries(accesses)) assert.throws(() => access(handle), released, road);
}

test('views are live bytes, one per run of host-contiguous pages', async () => {
  const { pins, memory, mediator } = await seated();
  const handle = pins.pin(at(PIECE - 2), 4, PROT_RW);
  assert.deepEqual(
    handle.views().map((view) => view.length / PAGE_SIZE),
    [2, 2],
    'the border of two pieces of memory parts the views',
  );
  const [view] = handle.views();
  view?.fill(0xa5, 0, 1);
  assert.equal(memory.bytes(asPfn(PIECE - 2), 1)[0], 0xa5);
  handle.unpin();
  await mediator.close();
});

test('pages that are not contiguous get a view each', async () => {
  const { pins, container, mediator } = await seated();
  mapFrames(container, 512, 1, 9);
  mapFrames(container, 513, 1, 3);
  mapFrames(container, 514, 1, 4);
  const handle = pins.pin(at(512), 3, PROT_RW);
  assert.deepEqual(handle.frames, [9, 3, 4]);
  assert.deepEqual(
    handle.views().map((view) => view.length / PAGE_SIZE),
    [1, 2],
  );
  handle.unpin();
  await mediator.close();
});

test('read and write cross pages and pieces', async () => {
  const { pins, mediator } = await seated();
  using handle = pins.pin(at(PIECE - 1), 3, PROT_RW);
  const bytes = Uint8Array.from({ length: PAGE_SIZE + 20 }, (_, index) => index % 251);
  handle.write(PAGE_SIZE - 10, bytes);
  assert.deepEqual(handle.read(PAGE_SIZE - 10, bytes.length), bytes);
  assert.equal(handle.read(PAGE_SIZE - 11, 1)[0], 0);
  assert.deepEqual(handle.read(3 * PAGE_SIZE, 0), new Uint8Array(0));
  handle.unpin();
  await mediator.close();
});

test('what was read is a copy', async () => {
  const { pins, mediator } = await seated();
  const handle = pins.pin(at(0), 1, PROT_RW);
  handle.read(0, 4).fill(9);
  assert.deepEqual([...handle.read(0, 4)], [0, 0, 0, 0]);
  handle.unpin();
  await mediator.close();
});

const spans: readonly (readonly [what: string, offset: number, length: number])[] = [
  ['one byte too many', 2 * PAGE_SIZE - 3, 4],
  ['an offset behind the end', 2 * PAGE_SIZE + 1, 0],
  ['a negative offset', -1, 1],
  ['an offset that is no integer', 0.5, 1],
  ['an offset that is no number', Number.NaN, 1],
  ['a negative length', 0, -1],
  ['a length that is no number', 0, Number.NaN],
];
for (const [what, offset, length] of spans) {
  test(`read refuses ${what}`, async () => {
    const { pins, mediator } = await seated();
    const handle = pins.pin(at(0), 2, PROT_RW);
    assert.throws(() => handle.read(offset, length), { name: 'CORE_OUT_OF_RANGE', errno: 'EINVAL' });
    handle.unpin();
    await mediator.close();
  });
}

test('write refuses bytes that run over the end and writes none of them', async () => {
  const { pins, mediator } = await seated();
  const handle = pins.pin(at(0), 1, PROT_RW);
  assert.throws(() => handle.write(PAGE_SIZE - 1, Uint8Array.of(1, 2)), { name: 'CORE_OUT_OF_RANGE' });
  assert.equal(handle.read(PAGE_SIZE - 1, 1)[0], 0);
  handle.unpin();
  await mediator.close();
});

test('a pin for reading refuses write', async () => {
  const { pins, mediator } = await seated();
  const handle = pins.pin(at(0), 1, PROT_READ);
  assert.throws(() => handle.write(0, Uint8Array.of(1)), { name: 'CORE_READ_ONLY_PIN', errno: 'EPERM' });
  assert.equal(handle.read(0, 1)[0], 0);
  handle.unpin();
  await mediator.close();
});

test('after its own unpin a handle is revoked', async () => {
  const { pins, mediator } = await seated();
  const handle = pins.pin(at(0), 2, PROT_RW);
  handle.unpin();
  assertRevoked(handle);
  await mediator.close();
});

test('after the device unpinned one of its pages a handle is revoked', async () => {
  const { pins, mediator } = await seated();
  const handle = pins.pin(at(0), 2, PROT_RW);
  pins.unpin(at(1), 1);
  assertRevoked(handle);
  pins.unpin(at(0), 1);
  await mediator.close();
});

test('after its mapping went a handle is revoked', async () => {
  const { pins, container, mediator } = await seated();
  const handle = pins.pin(at(0), 2, PROT_RW);
  await unmapFrames(container, 0, 4 * PIECE);
  assertRevoked(handle);
  assert.equal(pins.pages, 0);
  await mediator.close();
});

test('a handle stays revoked when the device pins the same page anew', async () => {
  const { pins, container, memory, mediator } = await seated();
  memory.bytes(asPfn(2), 1).fill(2);
  memory.bytes(asPfn(40), 1).fill(40);
  const old = pins.pin(at(2), 1, PROT_RW);
  await unmapFrames(container, 0, 4 * PIECE);
  mapFrames(container, 0, 4 * PIECE, 38);
  const fresh = pins.pin(at(2), 1, PROT_RW);
  assertRevoked(old);
  old.unpin();
  assert.deepEqual(
    [fresh.held, fresh.read(0, 1)[0], pins.count(at(2))],
    [true, 40, 1],
    'the new pin is not the old handle’s',
  );
  fresh.unpin();
  await mediator.close();
});

test('a handle stays revoked when its page was unpinned behind its back and pinned again', async () => {
  const { pins, mediator } = await seated();
  const old = pins.pin(at(2), 2, PROT_RW);
  pins.unpin(at(2), 2);
  const fresh = pins.pin(at(2), 2, PROT_RW);
  assertRevoked(old);
  old.unpin();
  assert.equal(fresh.held, true);
  fresh.unpin();
  assert.equal(pins.pages, 0);
  await mediator.close();
});

test('after the device was closed a handle that it kept is revoked, also when the device opens again', async () => {
  const { pins, file, group, mdev, device, mediator } = await seated();
  const old = pins.pin(at(2), 1, PROT_RW);
  device.onClose = () => {};
  await assert.rejects(file.close(), { name: 'CORE_PINS_LEFT' });
  assertRevoked(old);
  const again = await group.openDevice(mdev.uuid);
  const fresh = pins.pin(at(2), 1, PROT_RW);
  assertRevoked(old);
  fresh.unpin();
  await again.close();
  await mediator.close();
});

test('a handle that lost one page gives back the others, once', async () => {
  const { pins, container, mediator } = await seated();
  const handle = pins.pin(at(10), 5, PROT_RW);
  const beside = pins.pin(at(14), 1, PROT_RW);
  pins.unpin(at(11), 1);
  pins.unpin(at(10), 1);
  assert.deepEqual([handle.held, beside.held, container.stats.pinnedPages], [false, true, 3]);
  handle.unpin();
  handle.unpin();
  assert.deepEqual([beside.held, pins.count(at(14)), container.stats.pinnedPages], [true, 1, 1]);
  beside.unpin();
  assert.equal(container.stats.pinnedPages, 0);
  await mediator.close();
});

test('a handle over two mappings loses the one that goes and gives back the other', async () => {
  const { pins, container, device, mediator } = await seated();
  mapFrames(container, 4 * PIECE, PIECE);
  const handle = pins.pin(at(4 * PIECE - 2), 4, PROT_RW);
  device.onDmaUnmap = (range) => device.unpinWithin(range);
  await unmapFrames(container, 0, 4 * PIECE);
  assertRevoked(handle);
  assert.equal(container.stats.pinnedPages, 2);
  handle.unpin();
  assert.equal(container.stats.pinnedPages, 0);
  await mediator.close();
});
