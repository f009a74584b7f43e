import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MediatorEvents, PROT_RW } from '@pinion/core';
import { at, backendOf, mapFrames, openMdev, startWorld, type World } from './world.js';

type Foreign = MediatorEvents['pages:foreign-unpinned'][0];

function foreignUnpins(world: World): Foreign[] {
  const seen: Foreign[] = [];
  world.mediator.bus.on('pages:foreign-unpinned', (event) => void seen.push(event));
  return seen;
}

/** Two devices in one container; frames 0..15 mapped. */
async function neighbours(policy?: NonNullable<Parameters<typeof startWorld>[0]>['backend']) {
  const world = await startWorld(policy === undefined ? {} : { backend: policy });
  const one = await openMdev(world, 1);
  const two = await openMdev(world, 2, one.container);
  mapFrames(one.container, 0, 16);
  return { world, one, two, pinsOne: one.device.context.pins, pinsTwo: two.device.context.pins };
}

const asLinux = { policy: { foreignUnpin: 'performed', leftAtClose: 'kept' } } as const;

test('an unpin of another device’s page is refused and reported with both names', async () => {
  const { world, one, two, pinsOne, pinsTwo } = await neighbours();
  const seen = foreignUnpins(world);
  const unpinned: unknown[] = [];
  const handle = pinsOne.pin(at(4), 1, PROT_RW);
  world.mediator.bus.on('pages:unpinned', (event) => void unpinned.push(event));
  pinsTwo.unpin(at(4), 1);
  assert.deepEqual(seen, [
    { container: 'c0', device: two.mdev.uuid, driver: 'fakedrv', frame: 4, owner: one.mdev.uuid, performed: false },
  ]);
  assert.deepEqual([handle.held, backendOf(world).stats.pinnedPages], [true, 1]);
  assert.deepEqual(unpinned, [], 'nothing was unpinned, so nothing is told');
  handle.unpin();
  await world.mediator.close();
});

test('an unpin of a page that nobody holds is reported without an owner', async () => {
  const { world, pinsTwo } = await neighbours();
  const seen = foreignUnpins(world);
  pinsTwo.unpin(at(4), 1);
  assert.deepEqual(
    seen.map(({ frame, owner }) => [frame, owner]),
    [[4, undefined]],
  );
  await world.mediator.close();
});

test('of a run with foreign pages in it only the device’s own go, and only they are told', async () => {
  const { world, pinsOne, pinsTwo } = await neighbours();
  const seen = foreignUnpins(world);
  const told: unknown[] = [];
  pinsTwo.pin(at(0), 8, PROT_RW);
  const kept = pinsOne.pin(at(2), 1, PROT_RW);
  pinsTwo.unpin(at(2), 1);
  world.mediator.bus.on('pages:unpinned', ({ range }) => void told.push([range.first, range.last]));
  pinsTwo.unpin(at(0), 8);
  assert.deepEqual(
    seen.map(({ frame, performed }) => [frame, performed]),
    [[2, false]],
  );
  assert.deepEqual(told, [
    [0, 1],
    [3, 7],
  ]);
  assert.deepEqual([kept.held, backendOf(world).stats.pinnedPages], [true, 1]);
  kept.unpin();
  await world.mediator.close();
});

test('foreign pages at both ends of a run are refused', async () => {
  const { world, pinsOne, pinsTwo } = await neighbours();
  pinsOne.pin(at(0), 1, PROT_RW);
  pinsOne.pin(at(3), 1, PROT_RW);
  pinsTwo.pin(at(1), 2, PROT_RW);
  pinsTwo.unpin(at(0), 4);
  assert.deepEqual([pinsOne.pages, pinsTwo.pages, backendOf(world).stats.pinnedPages], [2, 0, 2]);
  pinsOne.unpin(at(0), 1);
  pinsOne.unpin(at(3), 1);
  await world.mediator.close();
});

test('a backend that says so performs foreign unpins as Linux does, and they are reported', async () => {
  const { world, one, pinsOne, pinsTwo } = await neighbours(asLinux);
  const seen = foreignUnpins(world);
  pinsOne.pin(at(4), 2, PROT_RW);
  pinsTwo.unpin(at(4), 1);
  assert.deepEqual(
    seen.map(({ owner, performed }) => [owner, performed]),
    [[one.mdev.uuid, true]],
  );
  assert.deepEqual([...backendOf(world).pinned.keys()], [5]);
  pinsOne.unpin(at(4), 2);
  await world.mediator.close();
});

test('pins left at close are released, reported, and the close says whose they were', async () => {
  const { world, one } = await neighbours();
  const leaked: unknown[] = [];
  world.mediator.bus.on('pages:leaked', (event) => void leaked.push(event));
  one.device.context.pins.pin(at(3), 2, PROT_RW);
  one.device.context.pins.pin(at(3), 1, PROT_RW);
  one.device.onClose = () => {};
  await assert.rejects(one.file.close(), {
    name: 'CORE_PINS_LEFT',
    errno: 'EBUSY',
    message: /driver fakedrv closed device .*1 and left pins on 0x3000, 0x4000; they were released/,
  });
  assert.deepEqual(leaked, [{ container: 'c0', device: one.mdev.uuid, driver: 'fakedrv', frames: [3, 4] }]);
  assert.deepEqual([backendOf(world).stats.pinnedPages, one.mdev.device.openCount], [0, 0]);
  await world.mediator.close();
});

test('pins left at close stay under Linux’s policy: reported, no error, nobody’s', async () => {
  const { world, one, two } = await neighbours(asLinux);
  const leaked: unknown[] = [];
  world.mediator.bus.on('pages:leaked', ({ frames }) => void leaked.push(frames));
  one.device.context.pins.pin(at(3), 1, PROT_RW);
  one.device.onClose = () => {};
  await one.file.close();
  assert.deepEqual([leaked, backendOf(world).stats.pinnedPages, one.device.context.pins.pages], [[[3]], 1, 0]);
  two.device.context.pins.unpin(at(3), 1);
  assert.equal(backendOf(world).stats.pinnedPages, 0);
  await world.mediator.close();
});

test('a driver that keeps a page at unmap is named by the backend, and the mapping stays', async () => {
  const { world, one, two } = await neighbours();
  one.device.onDmaUnmap = () => {};
  const handle = one.device.context.pins.pin(at(3), 1, PROT_RW);
  two.device.context.pins.pin(at(3), 1, PROT_RW);
  await assert.rejects(one.container.unmapAll(), { name: 'FAKE_PIN_LEAK', message: new RegExp(one.mdev.uuid) });
  assert.deepEqual([handle.held, one.container.stats.mappings, two.device.context.pins.pages], [true, 1, 0]);
  handle.unpin();
  assert.equal((await one.container.unmapAll()).size, 16n * 4096n);
  await world.mediator.close();
});
