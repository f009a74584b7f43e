import assert from 'node:assert/strict';
import { test } from 'node:test';
import { definePlugin, EXTENSION, GROUP_FLAG, Mediator } from '@pinion/core';
import { FakeBackendDriver } from './fake-backend.js';
import { fakeFunction } from './fake-device.js';
import { FakeIommuGroup } from './fake-iommu-group.js';
import { FakeMemory, root, user } from './fake-memory.js';

const TYPE1v2 = EXTENSION.TYPE1v2_IOMMU;
const { VIABLE, CONTAINER_SET } = GROUP_FLAG;

async function start(refuses: readonly string[] = []) {
  const journal: string[] = [];
  const mediator = new Mediator({ memory: new FakeMemory() });
  const backend = new FakeBackendDriver(journal, { refuses });
  await mediator.use(definePlugin({ name: 'b', core: '^0.1', register: (scope) => scope.backend(backend) }));
  const addGroup = (name: string, id: number) => {
    const iommu = new FakeIommuGroup(id);
    const group = mediator.addGroup({ name, iommu });
    const device = mediator.addDevice(group, `${name}-f0`, fakeFunction(`${name}-f0`, journal));
    return { group, iommu, device };
  };
  const addUnprotected = (name: string) => {
    const group = mediator.addGroup({ name });
    mediator.addDevice(group, `${name}-f0`, {});
    return group;
  };
  return { mediator, journal, addGroup, addUnprotected, container: mediator.openContainer(root) };
}

test('a group has one opener', async () => {
  const { mediator, addGroup } = await start();
  const { group } = addGroup('g0', 0);
  const file = group.open(root);
  assert.throws(() => group.open(root), { name: 'CORE_GROUP_OPEN', errno: 'EBUSY' });
  file.close();
  assert.equal(group.open(root).closed, false);
  await mediator.close();
});

test('a group without devices cannot be opened', async () => {
  const { mediator } = await start();
  const group = mediator.addGroup({ name: 'empty', iommu: new FakeIommuGroup(9) });
  assert.throws(() => group.open(root), { name: 'CORE_GROUP_GONE', errno: 'ENODEV' });
  await mediator.close();
});

test('names of groups and of devices in a group are unique', async () => {
  const { mediator, addGroup } = await start();
  const { group } = addGroup('g0', 0);
  assert.throws(() => mediator.addGroup({ name: 'g0' }), { name: 'CORE_GROUP_EXISTS', errno: 'EEXIST' });
  assert.throws(() => mediator.addDevice(group, 'g0-f0', {}), { name: 'CORE_DEVICE_EXISTS', errno: 'EEXIST' });
  assert.equal(group.devices.length, 1);
  await mediator.close();
});

test('SET_CONTAINER claims the hardware, UNSET gives it back', async () => {
  const { mediator, addGroup, container } = await start();
  const { group, iommu } = addGroup('g0', 0);
  const file = group.open(root);
  assert.equal(file.status(), VIABLE);
  file.setContainer(container);
  assert.deepEqual([file.status(), iommu.owner], [VIABLE | CONTAINER_SET, container]);
  assert.throws(() => file.setContainer(container), { name: 'CORE_HAS_CONTAINER', errno: 'EINVAL' });
  file.unsetContainer();
  assert.deepEqual([file.status(), iommu.owner, container.groups.length], [VIABLE, undefined, 0]);
  assert.throws(() => file.unsetContainer(), { name: 'CORE_NO_CONTAINER', errno: 'EINVAL' });
  await mediator.close();
});

test('a group that a host driver uses is not viable and cannot be taken', async () => {
  const { mediator, addGroup, container } = await start();
  const { group, iommu } = addGroup('g0', 0);
  iommu.owner = { name: 'nvme' };
  const file = group.open(root);
  assert.equal(file.status(), 0);
  assert.throws(() => file.setContainer(container), { name: 'FAKE_OWNED', errno: 'EPERM' });
  assert.deepEqual([group.container, container.groups.length], [undefined, 0]);
  await mediator.close();
});

test('a backend that refuses a late group leaves group and container as they were', async () => {
  const { mediator, addGroup, container, journal } = await start(['g1']);
  const first = addGroup('g0', 0);
  first.group.open(root).setContainer(container);
  container.setIommu(TYPE1v2);
  const late = addGroup('g1', 1);
  const file = late.group.open(root);
  assert.throws(() => file.setContainer(container), { name: 'FAKE_ATTACH', errno: 'EPERM' });
  assert.deepEqual([late.iommu.owner, late.group.container, file.status()], [undefined, undefined, VIABLE]);
  assert.deepEqual(container.groups, [first.group]);
  assert.equal(journal.at(-1), 'fake.attach g1');
  await mediator.close();
});

test('groups with and without an IOMMU do not share a container, in either order', async () => {
  const { mediator, addGroup, addUnprotected, container } = await start();
  const mixed = { name: 'CORE_GROUP_MIX', errno: 'EPERM' };
  addGroup('g0', 0).group.open(root).setContainer(container);
  const unprotected = addUnprotected('n0').open(root);
  assert.throws(() => unprotected.setContainer(container), mixed);
  const other = mediator.openContainer(root);
  unprotected.setContainer(other);
  const late = addGroup('g1', 1);
  assert.throws(() => late.group.open(root).setContainer(other), mixed);
  assert.equal(late.iommu.owner, undefined);
  addUnprotected('n1').open(root).setContainer(other);
  assert.deepEqual([container.groups.length, other.groups.length], [1, 2]);
  await mediator.close();
});

test('an unprotected group needs CAP_SYS_RAWIO to open and to attach', async () => {
  const { mediator, addUnprotected, container } = await start();
  const group = addUnprotected('n0');
  const refused = { name: 'CORE_GROUP_RAWIO', errno: 'EPERM', message: /task user/ };
  assert.throws(() => group.open(user), refused);
  const file = group.open(root);
  assert.throws(() => file.setContainer(container, user), refused);
  file.setContainer(container);
  assert.equal(container.groups.length, 1);
  await mediator.close();
});

test('a protected group needs no capability', async () => {
  const { mediator, addGroup, container } = await start();
  addGroup('g0', 0).group.open(user).setContainer(container);
  assert.equal(container.groups.length, 1);
  await mediator.close();
});

test('SET_CONTAINER of a closed container is EBADF; of a closed group file too', async () => {
  const { mediator, addGroup, container } = await start();
  const file = addGroup('g0', 0).group.open(root);
  container.close();
  assert.throws(() => file.setContainer(container), { name: 'CORE_FILE_CLOSED', message: /container c0/ });
  file.close();
  const closed = { name: 'CORE_FILE_CLOSED', errno: 'EBADF', message: /group file of g0/ };
  assert.throws(() => file.setContainer(container), closed);
  assert.throws(() => file.unsetContainer(), closed);
  assert.throws(() => file.status(), closed);
  assert.throws(() => file.close(), closed);
  await assert.rejects(file.openDevice('g0-f0'), closed);
  await mediator.close();
});

test('UNSET_CONTAINER while a device is open is EBUSY', async () => {
  const { mediator, addGroup, container } = await start();
  const file = addGroup('g0', 0).group.open(root);
  file.setContainer(container);
  container.setIommu(TYPE1v2);
  const device = await file.openDevice('g0-f0');
  assert.throws(() => file.unsetContainer(), { name: 'CORE_GROUP_BUSY', errno: 'EBUSY', message: /1 open device/ });
  await device.close();
  file.unsetContainer();
  assert.equal(container.groups.length, 0);
  await mediator.close();
});

test('the last device that goes takes its group out of the container, even while the group is open', async () => {
  const { mediator, addGroup, container, journal } = await start();
  const { group, iommu, device } = addGroup('g0', 0);
  const file = group.open(root);
  file.setContainer(container);
  container.setIommu(TYPE1v2);
  await device.unregister();
  assert.deepEqual([group.container, iommu.owner, container.backendName], [undefined, undefined, 'none']);
  assert.deepEqual(journal.slice(-2), ['fake.detach g0', 'fake.release']);
  const gone = { name: 'CORE_GROUP_GONE', errno: 'ENODEV' };
  assert.throws(() => file.status(), gone);
  assert.throws(() => file.setContainer(container), gone);
  await assert.rejects(device.unregister(), { name: 'CORE_DEVICE_GONE', errno: 'ENODEV' });
  await mediator.close();
});

test('one of two devices that goes leaves the group in its container', async () => {
  const { mediator, addGroup, container } = await start();
  const { group, device } = addGroup('g0', 0);
  mediator.addDevice(group, 'g0-f1', {});
  const file = group.open(root);
  file.setContainer(container);
  container.setIommu(TYPE1v2);
  await device.unregister();
  assert.equal(group.container, container);
  await assert.rejects(file.openDevice('g0-f0'), { name: 'CORE_DEVICE_GONE' });
  const other = await file.openDevice('g0-f1');
  await other.close();
  await mediator.close();
});
