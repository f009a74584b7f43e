import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXTENSION, PROT_RW, REQUEST_INTERVAL } from '@pinion/core';
import { settled } from './fake-clock.js';
import { root } from './fake-memory.js';
import { at, backendOf, createMdev, mapFrames, openMdev, startWorld } from './world.js';

const TYPE1v2 = EXTENSION.TYPE1v2_IOMMU;

test('the first opener registers the device with the backend before `open` runs; the last closes in reverse', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const name = seat.mdev.uuid;
  assert.deepEqual(world.journal.slice(-2), [`fake.register ${name}`, `${name}.open`]);
  const second = await seat.group.openDevice(name);
  const third = await seat.group.openDevice(name);
  assert.equal(seat.mdev.device.openCount, 3);
  await second.close();
  await seat.file.close();
  assert.equal(world.journal.includes(`${name}.close`), false);
  await third.close();
  assert.deepEqual(world.journal.slice(-2), [`${name}.close`, `fake.unregister ${name}`]);
  assert.equal(seat.mdev.device.openCount, 0);
  await world.mediator.close();
});

test('open needs a device of that name, a container and a backend, checked in this order', async () => {
  const world = await startWorld();
  const { mdev } = await createMdev(world, 1);
  const group = mdev.group.open(root);
  await assert.rejects(group.openDevice('nobody'), { name: 'CORE_DEVICE_GONE', errno: 'ENODEV' });
  await assert.rejects(group.openDevice(mdev.uuid), { name: 'CORE_NO_CONTAINER', errno: 'EINVAL' });
  group.setContainer(world.mediator.openContainer(root));
  await assert.rejects(group.openDevice(mdev.uuid), { name: 'CORE_NO_IOMMU', errno: 'EINVAL' });
  assert.deepEqual([mdev.device.openCount, mdev.group.users, group.deviceFiles.length], [0, 0, 0]);
  await world.mediator.close();
});

test('a driver whose open fails leaves nothing open, registered or pinned', async () => {
  const world = await startWorld();
  const { mdev, device } = await createMdev(world, 1);
  const container = world.mediator.openContainer(root);
  const group = mdev.group.open(root);
  group.setContainer(container);
  container.setIommu(TYPE1v2);
  mapFrames(container, 0, 4);
  const failure = new RangeError('no firmware');
  device.onOpen = () => {
    device.context.pins.pin(at(1), 2, PROT_RW);
    throw failure;
  };
  const leaks: unknown[] = [];
  world.mediator.bus.on('pages:leaked', ({ frames }) => void leaks.push(frames));
  await assert.rejects(group.openDevice(mdev.uuid), (thrown) => thrown === failure);
  assert.deepEqual([mdev.device.openCount, mdev.group.users, container.stats.pinnedPages], [0, 0, 0]);
  assert.deepEqual([backendOf(world).devices, leaks], [[], [[1, 2]]]);
  group.unsetContainer();
  await world.mediator.close();
});

test('a device opens again after a failed open', async () => {
  const world = await startWorld();
  const { mdev, device } = await createMdev(world, 1);
  const container = world.mediator.openContainer(root);
  const group = mdev.group.open(root);
  group.setContainer(container);
  container.setIommu(TYPE1v2);
  device.onOpen = () => Promise.reject(new RangeError('not yet'));
  await assert.rejects(group.openDevice(mdev.uuid), RangeError);
  device.onOpen = () => {};
  const file = await group.openDevice(mdev.uuid);
  assert.equal(mdev.device.openCount, 1);
  await file.close();
  await world.mediator.close();
});

test('two openers at once share one open', async () => {
  const world = await startWorld();
  const { mdev } = await createMdev(world, 1);
  const container = world.mediator.openContainer(root);
  const group = mdev.group.open(root);
  group.setContainer(container);
  container.setIommu(TYPE1v2);
  const files = await Promise.all([group.openDevice(mdev.uuid), group.openDevice(mdev.uuid)]);
  assert.equal(mdev.device.openCount, 2);
  assert.equal(world.journal.filter((entry) => entry === `${mdev.uuid}.open`).length, 1);
  await Promise.all(files.map((file) => file.close()));
  assert.equal(world.journal.filter((entry) => entry === `${mdev.uuid}.close`).length, 1);
  await world.mediator.close();
});

test('a closed device file answers EBADF, a closed device EINVAL', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  await seat.file.close();
  const closed = { name: 'CORE_FILE_CLOSED', errno: 'EBADF' };
  await assert.rejects(seat.file.close(), closed);
  await assert.rejects(seat.file.reset(), closed);
  assert.throws(() => seat.file.readRegion(0, 0, new Uint8Array(4)), closed);
  assert.throws(() => seat.file.writeRegion(0, 0, new Uint8Array(4)), closed);
  const notOpen = { name: 'CORE_NOT_OPEN', errno: 'EINVAL' };
  await assert.rejects(seat.mdev.device.close(), notOpen);
  await assert.rejects(seat.mdev.device.reset(), notOpen);
  assert.throws(() => seat.mdev.device.readRegion(0, 0, new Uint8Array(4)), notOpen);
  assert.throws(() => seat.device.context.dma.read(0n, new Uint8Array(4)), notOpen);
  await world.mediator.close();
});

test('region accesses reach the driver and nothing outside the region does', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  seat.file.writeRegion(0, 12, Uint8Array.of(1, 2, 3, 4));
  const bytes = new Uint8Array(4);
  seat.file.readRegion(1, 12, bytes);
  assert.deepEqual([...bytes], [1, 2, 3, 4]);
  seat.file.readRegion(0, 16, new Uint8Array(0));
  await world.mediator.close();
});

const badAccesses: readonly (readonly [
  what: string,
  write: boolean,
  index: number,
  offset: number,
  length: number,
  name: string,
])[] = [
  ['a region that does not exist', false, 2, 0, 4, 'CORE_NO_REGION'],
  ['a negative region', false, -1, 0, 4, 'CORE_NO_REGION'],
  ['a write to a read-only region', true, 1, 0, 4, 'CORE_NO_REGION'],
  ['an end one byte behind the region', false, 0, 13, 4, 'CORE_OUT_OF_REGION'],
  ['an offset behind the region', true, 0, 17, 0, 'CORE_OUT_OF_REGION'],
  ['a negative offset', false, 0, -4, 4, 'CORE_OUT_OF_REGION'],
  ['an offset that is no integer', false, 0, 0.5, 4, 'CORE_OUT_OF_REGION'],
  ['an offset that is no number', true, 0, Number.NaN, 4, 'CORE_OUT_OF_REGION'],
  ['a huge offset', false, 0, 2 ** 53, 4, 'CORE_OUT_OF_REGION'],
];
for (const [what, write, index, offset, length, name] of badAccesses) {
  test(`a region access with ${what} is ${name}`, async () => {
    const world = await startWorld();
    const seat = await openMdev(world, 1);
    const access = (): void => seat.file[write ? 'writeRegion' : 'readRegion'](index, offset, new Uint8Array(length));
    assert.throws(access, { name, errno: 'EINVAL' });
    await world.mediator.close();
  });
}

test('reset runs the driver; a device without reset answers ENOTTY', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  await seat.file.reset();
  assert.equal(world.journal.at(-1), `${seat.mdev.uuid}.reset`);
  seat.mdev.device.ops = {};
  await assert.rejects(seat.file.reset(), { name: 'CORE_NO_RESET', errno: 'ENOTTY' });
  await world.mediator.close();
});

test('dma copies go through the backend; no bytes at all are refused', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const { dma } = seat.device.context;
  dma.read(4096n, new Uint8Array(3));
  dma.write(8192n, new Uint8Array(5));
  assert.deepEqual(world.journal.slice(-2), ['fake.read 4096+3', 'fake.write 8192+5']);
  assert.throws(() => dma.read(0n, new Uint8Array(0)), { name: 'CORE_BAD_COUNT', errno: 'EINVAL' });
  await world.mediator.close();
});

// Hot unplug: the device asks its users every ten seconds.

test('a closed device is unregistered at once, without a request', async () => {
  const world = await startWorld();
  const { mdev } = await createMdev(world, 1);
  await mdev.device.unregister();
  assert.deepEqual([mdev.device.state, world.journal], ['gone', []]);
});

test('unregister asks at once and then every 10 s, and ends with the last close', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const second = await seat.group.openDevice(seat.mdev.uuid);
  const asked: number[] = [];
  world.mediator.bus.on('device:requested', ({ count }) => void asked.push(count));
  let done = false;
  const unregistered = seat.mdev.device.unregister().then(() => {
    done = true;
  });
  await settled();
  assert.deepEqual(asked, [0]);
  await world.clock.advance(REQUEST_INTERVAL - 1);
  assert.deepEqual(asked, [0]);
  await world.clock.advance(1);
  await world.clock.advance(REQUEST_INTERVAL);
  assert.deepEqual(asked, [0, 1, 2]);
  await seat.file.close();
  await settled();
  assert.deepEqual([done, seat.mdev.device.state], [false, 'unregistering']);
  await second.close();
  await settled();
  assert.deepEqual([done, seat.mdev.device.state, asked], [true, 'gone', [0, 1, 2]]);
  await unregistered;
  assert.equal(world.clock.pending, 0);
  assert.equal(seat.mdev.group.container, undefined, 'the last device took its group out of the container');
});

test('while a device is unregistering nobody new can open it', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const unregistered = seat.mdev.device.unregister();
  await settled();
  await assert.rejects(seat.group.openDevice(seat.mdev.uuid), { name: 'CORE_DEVICE_GONE', errno: 'ENODEV' });
  await assert.rejects(seat.mdev.device.unregister(), { name: 'CORE_DEVICE_GONE', errno: 'ENODEV' });
  await seat.file.close();
  await unregistered;
});

test('an open under way when the device goes is waited for, then asked back', async () => {
  const world = await startWorld();
  const { mdev, device } = await createMdev(world, 1);
  const container = world.mediator.openContainer(root);
  const group = mdev.group.open(root);
  group.setContainer(container);
  container.setIommu(TYPE1v2);
  let finish = (): void => {};
  device.onOpen = () =>
    new Promise((resolve) => {
      finish = resolve;
    });
  const opening = group.openDevice(mdev.uuid);
  await settled();
  const unregistered = mdev.device.unregister();
  finish();
  const file = await opening;
  await file.close();
  await unregistered;
  assert.equal(mdev.device.state, 'gone');
  assert.equal(world.clock.pending, 0);
});

test('a request that throws is reported and the asking goes on', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const failure = new RangeError('request');
  seat.device.onRequest = () => {
    throw failure;
  };
  const failed: unknown[] = [];
  world.mediator.bus.on('driver:failed', ({ duty, error }) => void failed.push(duty, error));
  const unregistered = seat.mdev.device.unregister();
  await world.clock.advance(REQUEST_INTERVAL);
  assert.deepEqual(failed, ['request', failure, 'request', failure]);
  await seat.file.close();
  await unregistered;
});
