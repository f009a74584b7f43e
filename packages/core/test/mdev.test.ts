import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeviceOps, definePlugin, type MdevParent, type PlainDriver, REQUEST_INTERVAL } from '@pinion/core';
import { settled } from './fake-clock.js';
import { createMdev, found, openMdev, startWorld, uuid, type World } from './world.js';

const parentOf = (world: World): MdevParent => found(world.mediator.parents.get('gpu'));

/** A plain driver whose `create` is the test's. */
const plainDriver = (create: PlainDriver['create'], more: Partial<PlainDriver> = {}): PlainDriver => ({
  name: 'plain',
  deviceApi: 'vfio-plain',
  types: [{ id: 'one' }],
  pins: false,
  create,
  ...more,
});

async function withDriver(driver: PlainDriver): Promise<{ world: World; parent: MdevParent }> {
  const plugin = definePlugin({ name: 'plain', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
  const world = await startWorld({ plugins: [plugin] });
  return { world, parent: world.mediator.registerParent('plain0', 'plain') };
}

/** A promise that the test settles. */
function gate(): { readonly opened: Promise<void>; open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

test('a mediated device is an emulated group of its own', async () => {
  const world = await startWorld();
  const one = await createMdev(world, 1);
  const two = await createMdev(world, 2);
  assert.deepEqual([one.mdev.group.type, one.mdev.group.devices.length, one.mdev.state], ['emulated', 1, 'active']);
  assert.notEqual(one.mdev.group.id, two.mdev.group.id);
  assert.deepEqual([one.device.context.type, one.device.context.parent], ['one', 'gpu']);
  assert.equal(world.mediator.findMdev(one.mdev.uuid.toUpperCase()), one.mdev);
  assert.equal(world.mediator.findMdev('nobody'), undefined);
  assert.deepEqual([...world.mediator.groups.values()], [one.mdev.group, two.mdev.group]);
  await world.mediator.close();
});

const badUuids = [
  '',
  'not a uuid',
  '00000000-0000-4000-8000-00000000000',
  '00000000-0000-4000-8000-0000000000000',
  '00000000-0000-4000-8000-00000000000g',
  '0000000000004000800000000000000000000',
  '{00000000-0000-4000-8000-000000000000}',
  '00000000-0000-4000-8000-000000000000\n',
  ' 00000000-0000-4000-8000-000000000000',
];
for (const bad of badUuids) {
  test(`create refuses ${JSON.stringify(bad)}`, async () => {
    const world = await startWorld({ maxInstances: 1 });
    const parent = parentOf(world);
    await assert.rejects(parent.create('one', bad), { name: 'CORE_BAD_UUID', errno: 'EINVAL' });
    assert.deepEqual([parent.mdevs.size, parent.availableInstances('one'), world.driver.devices.length], [0, 1, 0]);
    await world.mediator.close();
  });
}

test('a type the parent does not offer is ENOENT and names those it does', async () => {
  const world = await startWorld();
  const refused = { name: 'CORE_NO_TYPE', errno: 'ENOENT', message: /no type three; it offers one, two/ };
  await assert.rejects(parentOf(world).create('three', uuid(1)), refused);
  assert.throws(() => parentOf(world).availableInstances('three'), refused);
  await world.mediator.close();
});

test('a UUID exists once, in any case of letters and under all parents', async () => {
  const world = await startWorld();
  const id = 'abcdefab-0000-4000-8000-000000000001';
  await parentOf(world).create('one', id);
  const other = world.mediator.registerParent('gpu1', 'fakedrv');
  const refused = { name: 'CORE_UUID_EXISTS', errno: 'EEXIST', message: /under parent gpu$/ };
  await assert.rejects(parentOf(world).create('one', id.toUpperCase()), refused);
  await assert.rejects(other.create('two', id), refused);
  assert.deepEqual([parentOf(world).mdevs.size, other.mdevs.size], [1, 0]);
  await world.mediator.close();
});

test('a UUID whose creation is under way exists already', async () => {
  const created = gate();
  const { world, parent } = await withDriver(plainDriver(async () => created.opened.then(() => ({}))));
  const first = parent.create('one', uuid(1));
  await assert.rejects(parent.create('one', uuid(1)), { name: 'CORE_UUID_EXISTS' });
  await assert.rejects(parentOf(world).create('one', uuid(1)), { name: 'CORE_UUID_EXISTS' });
  created.open();
  assert.equal((await first).state, 'active');
  await world.mediator.close();
});

test('instances count down over all types and come back with remove', async () => {
  const world = await startWorld({ maxInstances: 2 });
  const parent = parentOf(world);
  const one = await parent.create('one', uuid(1));
  await parent.create('two', uuid(2));
  assert.deepEqual([parent.availableInstances('one'), parent.availableInstances('two')], [0, 0]);
  await assert.rejects(parent.create('one', uuid(3)), { name: 'CORE_NO_INSTANCES', errno: 'EUSERS' });
  await assert.rejects(parent.create('one', uuid(1)), { name: 'CORE_UUID_EXISTS' }, 'a duplicate is found first');
  await one.remove();
  assert.equal(parent.availableInstances('one'), 1);
  await parent.create('one', uuid(3));
  await world.mediator.close();
});

test('creations under way count', async () => {
  const created = gate();
  const driver = plainDriver(async () => created.opened.then(() => ({})), { maxInstances: 1 });
  const { world, parent } = await withDriver(driver);
  const first = parent.create('one', uuid(1));
  await assert.rejects(parent.create('one', uuid(2)), { name: 'CORE_NO_INSTANCES' });
  created.open();
  await first;
  await world.mediator.close();
});

test('a driver that counts itself is asked and not counted down', async () => {
  const { world, parent } = await withDriver(plainDriver(() => ({}), { maxInstances: 1, available: () => 5 }));
  await parent.create('one', uuid(1));
  await parent.create('one', uuid(2));
  assert.deepEqual([parent.availableInstances('one'), parent.mdevs.size], [5, 2]);
  await world.mediator.close();
});

test('a driver whose create fails leaves nothing: no group, no instance, no event', async () => {
  const failure = new RangeError('no aperture left');
  const { world, parent } = await withDriver(plainDriver(() => Promise.reject(failure), { maxInstances: 1 }));
  const told: string[] = [];
  world.mediator.bus.on('mdev:created', ({ uuid: id }) => void told.push(id));
  const groups = world.mediator.groups.size;
  await assert.rejects(parent.create('one', uuid(1)), (thrown) => thrown === failure);
  assert.deepEqual([parent.mdevs.size, parent.availableInstances('one'), world.mediator.groups.size], [0, 1, groups]);
  assert.deepEqual([told, world.mediator.findMdev(uuid(1))], [[], undefined]);
  await assert.rejects(parent.create('one', uuid(1)), (thrown) => thrown === failure, 'the UUID is free again');
  await world.mediator.close();
});

test('a create that never settles is given up by name and leaves nothing', async () => {
  const driver = plainDriver(() => new Promise<DeviceOps>(() => {}), { maxInstances: 1 });
  const { world, parent } = await withDriver(driver);
  const outcome = assert.rejects(parent.create('one', uuid(1)), {
    name: 'CORE_CALLBACK_TIMEOUT',
    message: /create of device .* \(driver plain\)/,
  });
  await world.clock.advance(30_000);
  await outcome;
  assert.deepEqual([parent.mdevs.size, parent.availableInstances('one')], [0, 1]);
  await world.mediator.close();
});

test('a parent needs a registered driver and a name of its own', async () => {
  const world = await startWorld();
  assert.throws(() => world.mediator.registerParent('p', 'nobody'), {
    name: 'CORE_NO_DRIVER',
    errno: 'ENOENT',
    message: /registered: fakedrv/,
  });
  assert.throws(() => world.mediator.registerParent('gpu', 'fakedrv'), { name: 'CORE_PARENT_EXISTS', errno: 'EEXIST' });
  assert.equal(world.mediator.parents.size, 1);
  await world.mediator.close();
});

// remove

test('remove runs the duty once, after the device was closed, and forgets the group', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const removal = seat.mdev.remove();
  await settled();
  assert.deepEqual([seat.mdev.state, world.journal.at(-1)], ['removing', `${seat.mdev.uuid}.request 0`]);
  await world.clock.advance(REQUEST_INTERVAL);
  assert.equal(world.journal.at(-1), `${seat.mdev.uuid}.request 1`);
  await seat.file.close();
  await removal;
  assert.equal(world.journal.filter((entry) => entry.endsWith('.remove')).length, 1);
  assert.equal(world.journal.at(-1), `${seat.mdev.uuid}.remove`);
  assert.deepEqual([seat.mdev.state, seat.mdev.group.container, world.mediator.groups.size], ['gone', undefined, 0]);
  assert.equal(world.mediator.findMdev(seat.mdev.uuid), undefined);
  await world.mediator.close();
});

test('a second remover succeeds without doing anything; a later one gets ENODEV', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const first = seat.mdev.remove();
  await seat.mdev.remove();
  assert.equal(seat.mdev.state, 'removing');
  await seat.file.close();
  await first;
  await assert.rejects(seat.mdev.remove(), { name: 'CORE_MDEV_GONE', errno: 'ENODEV' });
  assert.equal(world.journal.filter((entry) => entry.endsWith('.remove')).length, 1);
  await world.mediator.close();
});

test('a remove duty that fails is reported; the device is gone all the same', async () => {
  const world = await startWorld({ maxInstances: 1 });
  const { mdev, device } = await createMdev(world, 1);
  const failure = new RangeError('remove');
  device.onRemove = () => Promise.reject(failure);
  const failed: unknown[] = [];
  world.mediator.bus.on('driver:failed', ({ duty, error }) => void failed.push(duty, error));
  await mdev.remove();
  assert.deepEqual([failed, mdev.state], [['remove', failure], 'gone']);
  assert.equal(parentOf(world).availableInstances('one'), 1);
  await world.mediator.close();
});

test('remove from inside a duty is refused by name and can be done afterwards', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const refusals: unknown[] = [];
  seat.device.onReset = () => seat.mdev.remove().catch((refusal: unknown) => void refusals.push(refusal));
  await seat.file.reset();
  assert.match(String(refusals), /CORE_REENTRY \(EBUSY\): removal of device .* inside reset/);
  assert.equal(seat.mdev.state, 'active');
  await seat.file.close();
  await seat.mdev.remove();
  assert.equal(seat.mdev.state, 'gone');
  await world.mediator.close();
});

test('an instance is free again only when its remove duty is over', async () => {
  const world = await startWorld({ maxInstances: 1 });
  const { mdev, device } = await createMdev(world, 1);
  const removed = gate();
  device.onRemove = () => removed.opened;
  const removal = mdev.remove();
  await settled();
  await assert.rejects(parentOf(world).create('one', uuid(2)), { name: 'CORE_NO_INSTANCES' });
  removed.open();
  await removal;
  await createMdev(world, 2);
  await world.mediator.close();
});

// unregister of the parent

test('unregister removes every child and then refuses creations', async () => {
  const world = await startWorld();
  const parent = parentOf(world);
  await createMdev(world, 1);
  await createMdev(world, 2);
  await world.mediator.unregisterParent(parent);
  assert.deepEqual([parent.mdevs.size, world.mediator.parents.size], [0, 0]);
  await assert.rejects(parent.create('one', uuid(3)), { name: 'CORE_PARENT_GONE', errno: 'ENODEV' });
  await assert.rejects(parent.unregister(), { name: 'CORE_PARENT_GONE' });
  await world.mediator.close();
});

test('while children are still in use, creations are refused and all users are asked', async () => {
  const world = await startWorld();
  const parent = parentOf(world);
  const [one, two] = [await openMdev(world, 1), await openMdev(world, 2)];
  const gone = world.mediator.unregisterParent(parent);
  await settled();
  const asked = world.journal.filter((entry) => entry.endsWith('.request 0'));
  assert.deepEqual(asked, [`${one.mdev.uuid}.request 0`, `${two.mdev.uuid}.request 0`]);
  await assert.rejects(parent.create('one', uuid(3)), { name: 'CORE_PARENT_GONE', errno: 'ENODEV' });
  await one.file.close();
  await two.file.close();
  await gone;
  assert.equal(parent.mdevs.size, 0);
  await world.mediator.close();
});

test('unregister waits for a creation under way and removes its device', async () => {
  const created = gate();
  const { world, parent } = await withDriver(plainDriver(async () => created.opened.then(() => ({}))));
  const creation = parent.create('one', uuid(1));
  const gone = world.mediator.unregisterParent(parent);
  await settled();
  assert.equal(world.mediator.parents.size, 2);
  created.open();
  const mdev = await creation;
  await gone;
  assert.deepEqual([mdev.state, parent.mdevs.size], ['gone', 0]);
  await world.mediator.close();
});

test('unregister waits for a removal that somebody else began', async () => {
  const world = await startWorld();
  const { mdev, device } = await createMdev(world, 1);
  const removed = gate();
  device.onRemove = () => removed.opened;
  const removal = mdev.remove();
  await settled();
  let done = false;
  const gone = world.mediator.unregisterParent(parentOf(world)).then(() => {
    done = true;
  });
  await settled();
  assert.equal(done, false);
  removed.open();
  await Promise.all([removal, gone]);
  assert.equal(world.mediator.parents.size, 0);
  await world.mediator.close();
});

test('unregister waits for a removal whose users have not closed yet', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const parent = parentOf(world);
  const removal = seat.mdev.remove();
  await settled();
  const gone = world.mediator.unregisterParent(parent);
  await settled();
  assert.equal(parent.mdevs.size, 1);
  await seat.file.close();
  await Promise.all([removal, gone]);
  assert.deepEqual([parent.mdevs.size, seat.mdev.state], [0, 'gone']);
  await world.mediator.close();
});

test('the events of a life: registered, created, removed, unregistered', async () => {
  const world = await startWorld();
  const told: string[] = [];
  const { bus } = world.mediator;
  bus.on('parent:registered', ({ parent, driver }) => void told.push(`registered ${parent} ${driver}`));
  bus.on('mdev:created', ({ uuid: id, parent, type }) => void told.push(`created ${id.at(-1)} ${parent} ${type}`));
  bus.on('mdev:removed', ({ uuid: id, parent, type }) => void told.push(`removed ${id.at(-1)} ${parent} ${type}`));
  bus.on('parent:unregistered', ({ parent, driver }) => void told.push(`unregistered ${parent} ${driver}`));
  const parent = world.mediator.registerParent('gpu1', 'fakedrv');
  await parent.create('two', uuid(7));
  await world.mediator.unregisterParent(parent);
  assert.deepEqual(told, [
    'registered gpu1 fakedrv',
    'created 7 gpu1 two',
    'removed 7 gpu1 two',
    'unregistered gpu1 fakedrv',
  ]);
  await world.mediator.close();
});

test('unregister from inside a duty is refused and changes nothing', async () => {
  const world = await startWorld();
  const parent = parentOf(world);
  const { mdev, device } = await createMdev(world, 1);
  const refusals: unknown[] = [];
  device.onRemove = () =>
    world.mediator.unregisterParent(parent).catch((refusal: unknown) => void refusals.push(refusal));
  await mdev.remove();
  assert.match(String(refusals), /CORE_REENTRY \(EBUSY\): unregistration of parent gpu .* inside remove/);
  await createMdev(world, 2);
  await world.mediator.close();
});

test('the mediator can be closed while a parent is being unregistered', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  const gone = world.mediator.unregisterParent(parentOf(world));
  await settled();
  await Promise.all([world.mediator.close(), gone]);
  assert.deepEqual([seat.mdev.state, world.mediator.parents.size], ['gone', 0]);
});
