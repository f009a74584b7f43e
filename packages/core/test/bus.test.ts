import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Log, PROT_READ } from '@pinion/core';
import { settled } from './fake-clock.js';
import { root } from './fake-memory.js';
import { at, mapFrames, openMdev, startWorld, unmapFrames } from './world.js';

/** A log that keeps what it was told. */
function keepingLog(): Log & { readonly warnings: { message: string; cause: unknown }[] } {
  const warnings: { message: string; cause: unknown }[] = [];
  return { warnings, info: () => {}, warn: (message, cause) => void warnings.push({ message, cause }) };
}

test('an observer that throws is logged; later observers and the operation go on', async () => {
  const log = keepingLog();
  const { mediator } = await startWorld({ log });
  const failure = new RangeError('observer');
  const heard: string[] = [];
  mediator.bus.on('container:opened', () => {
    throw failure;
  });
  mediator.bus.on('container:opened', ({ container }) => void heard.push(container));
  const container = mediator.openContainer(root);
  assert.deepEqual(heard, [container.name]);
  assert.deepEqual(log.warnings, [{ message: 'an observer of container:opened threw', cause: failure }]);
  await mediator.close();
});

test('an asynchronous observer that rejects is logged too', async () => {
  const log = keepingLog();
  const { mediator } = await startWorld({ log });
  const failure = new RangeError('later');
  mediator.bus.on('container:opened', () => Promise.reject(failure));
  mediator.openContainer(root);
  await settled();
  assert.deepEqual(log.warnings, [{ message: 'an observer of container:opened threw', cause: failure }]);
  await mediator.close();
});

test('an observer by `once` hears one event', async () => {
  const { mediator } = await startWorld();
  const heard: string[] = [];
  mediator.bus.once('container:opened', ({ container }) => void heard.push(container));
  const first = mediator.openContainer(root);
  mediator.openContainer(root);
  assert.deepEqual(heard, [first.name]);
  await mediator.close();
});

test('an observer that was taken off hears nothing', async () => {
  const { mediator } = await startWorld();
  let heard = 0;
  const observer = (): void => {
    heard += 1;
  };
  mediator.bus.on('container:opened', observer);
  mediator.bus.off('container:opened', observer);
  mediator.openContainer(root);
  assert.equal(heard, 0);
  await mediator.close();
});

test('the life of a mapping is told in order, after each fact', async () => {
  const world = await startWorld();
  const told: string[] = [];
  const { bus } = world.mediator;
  bus.on('dma:mapped', ({ range, prot }) => void told.push(`mapped ${range.first}..${range.last} ${prot}`));
  bus.on('pages:pinned', ({ device, range, prot }) => void told.push(`pinned ${device.at(-1)} ${range.first} ${prot}`));
  bus.on('pages:unpinned', ({ device, range }) => void told.push(`unpinned ${device.at(-1)} ${range.first}`));
  bus.on('dma:unmapped', ({ range }) => void told.push(`unmapped ${range.first}..${range.last}`));
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 16, 4);
  seat.device.context.pins.pin(at(18), 1, PROT_READ);
  await unmapFrames(seat.container, 16, 4);
  assert.deepEqual(told, ['mapped 16..19 3', 'pinned 1 18 1', 'unpinned 1 18', 'unmapped 16..19']);
  await world.mediator.close();
});

test('an observer that unpins finds the page still pinned by its driver and breaks nothing', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const { pins } = seat.device.context;
  world.mediator.bus.on('pages:pinned', ({ range }) => pins.unpin(range.first, 1));
  mapFrames(seat.container, 16, 4);
  const handle = pins.pin(at(16), 1, PROT_READ);
  assert.deepEqual([handle.held, pins.pages, seat.container.stats.pinnedPages], [false, 0, 0]);
  await world.mediator.close();
});
