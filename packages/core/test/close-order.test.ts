import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROT_RW } from '@pinion/core';
import { at, backendOf, mapFrames, openMdev, type Seat, startWorld } from './world.js';

type Step = 'container' | 'group' | 'device';

const orders: readonly (readonly [Step, Step, Step])[] = [
  ['container', 'group', 'device'],
  ['container', 'device', 'group'],
  ['group', 'container', 'device'],
  ['group', 'device', 'container'],
  ['device', 'container', 'group'],
  ['device', 'group', 'container'],
];

const close: Record<Step, (seat: Seat) => void | Promise<void>> = {
  container: (seat) => seat.container.close(),
  group: (seat) => seat.group.close(),
  device: (seat) => seat.file.close(),
};

for (const order of orders) {
  test(`closing ${order.join(', ')} gives every page back once and releases the backend once`, async () => {
    const world = await startWorld();
    const seat = await openMdev(world, 1);
    mapFrames(seat.container, 0, 8);
    const handle = seat.device.context.pins.pin(at(2), 3, PROT_RW);
    const backend = backendOf(world);
    const released: string[] = [];
    world.mediator.bus.on('container:released', ({ container }) => void released.push(container));
    world.journal.splice(0);

    for (const step of order) await close[step](seat);

    assert.deepEqual([backend.stats.pinnedPages, backend.stats.mappings, handle.held], [0, 0, false]);
    const group = seat.mdev.group.name;
    const name = seat.mdev.uuid;
    assert.deepEqual(world.journal, [
      `${name}.close`,
      'fake.unpin 2+1',
      'fake.unpin 3+1',
      'fake.unpin 4+1',
      `fake.unregister ${name}`,
      `fake.detach ${group}`,
      'fake.release',
    ]);
    assert.deepEqual(released, ['c0']);
    assert.deepEqual([world.mediator.containers, seat.mdev.group.container], [[], undefined]);
    await world.mediator.close();
  });
}

test('T18: close(container) and close(group) wait for the device, which then ends all three', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  world.journal.splice(0);
  seat.container.close();
  assert.deepEqual(world.journal, []);
  seat.group.close();
  assert.deepEqual([world.journal, seat.mdev.group.container], [[], seat.container]);
  assert.throws(() => seat.mdev.group.open(seat.container.opener), { name: 'CORE_GROUP_OPEN', errno: 'EBUSY' });
  await seat.file.close();
  assert.deepEqual(world.journal.slice(-2), [`fake.detach ${seat.mdev.group.name}`, 'fake.release']);
  seat.mdev.group.open(seat.container.opener).close();
  await world.mediator.close();
});

test('the release of a group file waits for the last of several device files', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const second = await seat.group.openDevice(seat.mdev.uuid);
  seat.group.close();
  await seat.file.close();
  assert.equal(seat.mdev.group.container, seat.container);
  await second.close();
  assert.equal(seat.mdev.group.container, undefined);
  await world.mediator.close();
});

test('the mediator closes what was left open, newest part first, and a second close does nothing', async () => {
  const world = await startWorld();
  const one = await openMdev(world, 1);
  const two = await openMdev(world, 2, one.container);
  mapFrames(one.container, 0, 8);
  one.device.context.pins.pin(at(0), 8, PROT_RW);
  two.device.context.pins.pin(at(4), 8 - 4, PROT_RW);
  const backend = backendOf(world);
  await world.mediator.close();
  await world.mediator.close();
  assert.deepEqual([backend.stats.pinnedPages, backend.stats.mappings], [0, 0]);
  assert.deepEqual([one.mdev.state, two.mdev.state, world.mediator.groups.size], ['gone', 'gone', 0]);
  assert.equal(world.journal.filter((entry) => entry === 'fake.release').length, 1);
  assert.equal(world.clock.pending, 0);
});

test('a device whose close fails does not keep the mediator from closing everything else', async () => {
  const world = await startWorld();
  const one = await openMdev(world, 1);
  const two = await openMdev(world, 2);
  const failure = new RangeError('ring is wedged');
  one.device.onClose = () => Promise.reject(failure);
  await assert.rejects(world.mediator.close(), (thrown) => thrown === failure);
  assert.deepEqual([one.mdev.state, two.mdev.state], ['gone', 'gone']);
  assert.equal(world.journal.filter((entry) => entry === 'fake.release').length, 2);
});
