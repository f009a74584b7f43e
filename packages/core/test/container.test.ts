import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Container,
  definePlugin,
  EXTENSION,
  type GroupFile,
  type IommuBackendDriver,
  Mediator,
} from '@pinion/core';
import { BareBackend, FakeBackendDriver, type FakeBackendOptions } from './fake-backend.js';
import { fakeFunction } from './fake-device.js';
import { FakeIommuGroup } from './fake-iommu-group.js';
import { FakeMemory, root } from './fake-memory.js';
import { at, mapFrames, openMdev, startWorld } from './world.js';

const { TYPE1_IOMMU, TYPE1v2_IOMMU, UNMAP_ALL, NOIOMMU_IOMMU, DMA_CC_IOMMU } = EXTENSION;

interface Bench {
  readonly mediator: Mediator;
  readonly container: Container;
  readonly journal: string[];
  readonly groups: GroupFile[];
}

/** A container with passthrough groups of these names in it, oldest first, and backends registered in this order. */
async function bench(backends: readonly FakeBackendOptions[], names: readonly string[] = ['g0']): Promise<Bench> {
  const journal: string[] = [];
  const mediator = new Mediator({ memory: new FakeMemory() });
  await mediator.use(
    definePlugin({
      name: 'backends',
      core: '^0.1',
      register(scope) {
        for (const options of backends) scope.backend(new FakeBackendDriver(journal, options));
      },
    }),
  );
  const container = mediator.openContainer(root);
  const groups = names.map((name, id) => {
    const group = mediator.addGroup({ name, iommu: new FakeIommuGroup(id) });
    mediator.addDevice(group, `${name}-f0`, fakeFunction(name, journal));
    const file = group.open(root);
    file.setContainer(container);
    return file;
  });
  return { mediator, container, journal, groups };
}

test('a new container answers API version 0 and has no backend', async () => {
  const { mediator, container } = await bench([], []);
  assert.deepEqual([container.apiVersion(), container.backendName, container.backend], [0, 'none', undefined]);
  assert.deepEqual(container.stats, {
    mappings: 0,
    mappedBytes: 0n,
    pinnedPages: 0,
    lockedPages: 0,
    pinsByDevice: new Map(),
  });
  await mediator.close();
});

test('operations need a backend', async () => {
  const { mediator, container } = await bench([{}]);
  const refused = { name: 'CORE_NO_IOMMU', errno: 'EINVAL' };
  assert.throws(() => mapFrames(container, 0, 1), refused);
  assert.throws(() => container.info(), refused);
  assert.throws(() => container.dirty({ flags: 1 }), refused);
  await assert.rejects(container.unmapAll(), refused);
  await mediator.close();
});

test('what a backend does not have is ENOTTY', async () => {
  const bare: IommuBackendDriver = {
    name: 'bare',
    checkExtension: (extension) => (extension === TYPE1_IOMMU ? 1 : 0),
    open: (_type, host) => new BareBackend(host, [], { name: 'bare' }),
  };
  const { mediator, container } = await bench([]);
  await mediator.use(definePlugin({ name: 'bare', core: '^0.1', register: (scope) => scope.backend(bare) }));
  container.setIommu(TYPE1_IOMMU);
  const refused = { name: 'CORE_NOT_SUPPORTED', errno: 'ENOTTY', message: /backend bare/ };
  assert.throws(() => container.dirty({ flags: 1 }), refused);
  assert.throws(() => container.ioctl(15), refused);
  assert.throws(() => container.dmaRw(0n, new Uint8Array(1), false), refused);
  await mediator.close();
});

test('an ioctl of a backend’s own reaches it with its caller, and nothing else answers it', async () => {
  const asked: unknown[] = [];
  const chatty: IommuBackendDriver = {
    name: 'chatty',
    checkExtension: (extension) => (extension === TYPE1_IOMMU ? 1 : 0),
    open: (_type, host) =>
      Object.assign(new BareBackend(host, [], { name: 'chatty' }), {
        ioctl: (...call: unknown[]) => asked.push(call),
        info: (...call: unknown[]) => asked.push(call),
      }),
  };
  const { mediator, container } = await bench([]);
  assert.throws(() => container.ioctl(15), { name: 'CORE_NO_IOMMU', errno: 'EINVAL' });
  await mediator.use(definePlugin({ name: 'chatty', core: '^0.1', register: (scope) => scope.backend(chatty) }));
  container.setIommu(TYPE1_IOMMU);
  const other = { ...root, name: 'other' };
  assert.equal(container.ioctl(15, { size: 1n }, other), 1);
  container.ioctl(16);
  container.info(24, other);
  assert.deepEqual(asked, [
    [15, { size: 1n }, other],
    [16, undefined, root],
    [24, other],
  ]);
  container.close();
  assert.throws(() => container.ioctl(15), { name: 'CORE_FILE_CLOSED', errno: 'EBADF' });
  await mediator.close();
});

test('SET_IOMMU needs a group, a backend that takes the type, and happens once', async () => {
  const { mediator, container, groups } = await bench([{ name: 'b', types: [TYPE1v2_IOMMU] }], []);
  assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'CORE_NO_GROUP', errno: 'EINVAL' });
  const group = mediator.addGroup({ name: 'g0', iommu: new FakeIommuGroup(0) });
  mediator.addDevice(group, 'f0', {});
  const file = group.open(root);
  file.setContainer(container);
  assert.throws(() => container.setIommu(77), {
    name: 'CORE_NO_BACKEND',
    errno: 'ENODEV',
    message: /type 77 .* registered: b/,
  });
  assert.equal(container.backendName, 'none');
  container.setIommu(TYPE1v2_IOMMU);
  assert.equal(container.backendName, 'b');
  assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'CORE_IOMMU_SET', errno: 'EINVAL' });
  file.unsetContainer();
  assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'CORE_NO_GROUP' });
  assert.equal(groups.length, 0);
  await mediator.close();
});

test('the newest backend wins; groups attach newest first', async () => {
  const types = [TYPE1v2_IOMMU];
  const { mediator, container, journal } = await bench(
    [
      { name: 'old', types },
      { name: 'new', types },
    ],
    ['g0', 'g1', 'g2'],
  );
  container.setIommu(TYPE1v2_IOMMU);
  assert.deepEqual(journal, ['new.check 3', 'new.open', 'new.attach g2', 'new.attach g1', 'new.attach g0']);
  await mediator.close();
});

test('a backend that cannot be opened is passed over', async () => {
  const { mediator, container, journal } = await bench([{ name: 'old' }, { name: 'new', failsOpen: true }]);
  container.setIommu(TYPE1v2_IOMMU);
  assert.deepEqual(journal, ['new.check 3', 'new.open', 'old.check 3', 'old.open', 'old.attach g0']);
  assert.equal(container.backendName, 'old');
  await mediator.close();
});

test('a backend that refuses a group gives back those it took, newest last, and is released', async () => {
  const { mediator, container, journal } = await bench(
    [{ name: 'old' }, { name: 'new', refuses: ['g0'] }],
    ['g0', 'g1', 'g2'],
  );
  container.setIommu(TYPE1v2_IOMMU);
  assert.deepEqual(journal.slice(0, 8), [
    'new.check 3',
    'new.open',
    'new.attach g2',
    'new.attach g1',
    'new.attach g0',
    'new.detach g1',
    'new.detach g2',
    'new.release',
  ]);
  assert.equal(container.backendName, 'old');
  await mediator.close();
});

test('when every backend fails, the last error counts and the container stays unset', async () => {
  const { mediator, container } = await bench([
    { name: 'old', refuses: ['g0'] },
    { name: 'new', failsOpen: true },
  ]);
  assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'FAKE_ATTACH', message: 'old refuses group g0' });
  assert.deepEqual([container.backend, container.backendName], [undefined, 'none']);
  assert.deepEqual(
    container.groups.map((group) => group.name),
    ['g0'],
  );
  await mediator.close();
});

test('a type that nobody takes does not open anybody', async () => {
  const { mediator, container, journal } = await bench([
    { name: 'a', types: [TYPE1_IOMMU] },
    { name: 'b', types: [] },
  ]);
  assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'CORE_NO_BACKEND' });
  assert.deepEqual(journal, ['b.check 3', 'a.check 3']);
  await mediator.close();
});

test('CHECK_EXTENSION polls newest first and takes the first positive answer', async () => {
  const backends = [
    { name: 'old', extensions: { [UNMAP_ALL]: 1, [DMA_CC_IOMMU]: 2 } },
    { name: 'mid', extensions: { [UNMAP_ALL]: 3 } },
    { name: 'new', extensions: { [UNMAP_ALL]: 0 } },
  ];
  const { mediator, container, journal } = await bench(backends, []);
  assert.equal(container.checkExtension(UNMAP_ALL), 3);
  assert.deepEqual(journal.splice(0), ['new.check 9', 'mid.check 9']);
  assert.equal(container.checkExtension(DMA_CC_IOMMU), 2);
  assert.deepEqual(journal.splice(0), ['new.check 4', 'mid.check 4', 'old.check 4']);
  for (const unknown of [0, 12345, -1, Number.NaN]) assert.equal(container.checkExtension(unknown), 0);
  await mediator.close();
});

test('with a backend set, only that one is asked', async () => {
  const { mediator, container, journal } = await bench([
    { name: 'old' },
    { name: 'new', types: [], extensions: { 9: 1 } },
  ]);
  container.setIommu(TYPE1v2_IOMMU);
  journal.splice(0);
  assert.equal(container.checkExtension(UNMAP_ALL), 0);
  assert.deepEqual(journal, ['old.check 9 open']);
  await mediator.close();
});

test('with groups in it, a container asks only backends for its kind of group', async () => {
  const backends = [{ name: 'real' }, { name: 'none', noiommu: true, types: [NOIOMMU_IOMMU] }];
  const real = await bench(backends, ['g0']);
  assert.deepEqual(
    [real.container.checkExtension(NOIOMMU_IOMMU), real.container.checkExtension(TYPE1v2_IOMMU)],
    [0, 1],
  );
  assert.throws(() => real.container.setIommu(NOIOMMU_IOMMU), { name: 'CORE_NO_BACKEND', errno: 'ENODEV' });
  await real.mediator.close();

  const empty = await bench(backends, []);
  assert.deepEqual(
    [empty.container.checkExtension(NOIOMMU_IOMMU), empty.container.checkExtension(TYPE1v2_IOMMU)],
    [1, 1],
  );
  const group = empty.mediator.addGroup({ name: 'n0' });
  empty.mediator.addDevice(group, 'f0', {});
  group.open(root).setContainer(empty.container);
  assert.deepEqual(
    [empty.container.checkExtension(NOIOMMU_IOMMU), empty.container.checkExtension(TYPE1v2_IOMMU)],
    [1, 0],
  );
  assert.throws(() => empty.container.setIommu(TYPE1v2_IOMMU), { name: 'CORE_NO_BACKEND' });
  empty.container.setIommu(NOIOMMU_IOMMU);
  assert.equal(empty.container.backendName, 'none');
  await empty.mediator.close();
});

test('the last group leaving resets the container; it can be used again', async () => {
  const { mediator, container, journal, groups } = await bench([{ name: 'b' }], ['g0', 'g1']);
  container.setIommu(TYPE1v2_IOMMU);
  mapFrames(container, 0, 4);
  groups[0]?.unsetContainer();
  assert.deepEqual([container.backendName, container.stats.mappings], ['b', 1]);
  groups[1]?.unsetContainer();
  assert.deepEqual([container.backendName, container.stats.mappings], ['none', 0]);
  assert.deepEqual(journal.slice(-3), ['b.detach g0', 'b.detach g1', 'b.release']);
  groups[0]?.setContainer(container);
  container.setIommu(TYPE1v2_IOMMU);
  assert.equal(container.stats.mappings, 0);
  await mediator.close();
});

test('a closed container answers EBADF', async () => {
  const { mediator, container } = await bench([{}]);
  container.setIommu(TYPE1v2_IOMMU);
  container.close();
  const closed = { name: 'CORE_FILE_CLOSED', errno: 'EBADF', message: /container c0 is closed/ };
  assert.throws(() => container.close(), closed);
  assert.throws(() => container.apiVersion(), closed);
  assert.throws(() => container.checkExtension(1), closed);
  assert.throws(() => container.setIommu(1), closed);
  assert.throws(() => mapFrames(container, 0, 1), closed);
  assert.throws(() => container.info(), closed);
  assert.throws(() => container.dirty({ flags: 1 }), closed);
  await assert.rejects(container.unmapAll(), closed);
  await mediator.close();
});

test('closing a container keeps mappings and pins until the last group leaves', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 4);
  const handle = seat.device.context.pins.pin(at(0), 2, 3);
  seat.container.close();
  assert.deepEqual([seat.container.stats.mappings, seat.container.stats.pinnedPages, handle.held], [1, 2, true]);
  assert.deepEqual(world.mediator.containers, [seat.container]);
  await seat.file.close();
  seat.group.close();
  assert.deepEqual([seat.container.stats.mappings, seat.container.stats.pinnedPages, handle.held], [0, 0, false]);
  assert.deepEqual(world.mediator.containers, []);
  await world.mediator.close();
});

test('an ioctl that only the backend knows goes to it; without one it is refused', async () => {
  const known: unknown[] = [];
  class Knowing extends BareBackend {
    ioctl(number: number, argument: unknown): unknown {
      known.push(number, argument);
      return { flags: 7 };
    }
  }
  const driver = (name: string, type: number, Backend: typeof BareBackend): IommuBackendDriver => ({
    name,
    checkExtension: (extension) => (extension === type ? 1 : 0),
    open: (_type, host) => new Backend(host, [], { name }),
  });
  const { mediator, container } = await bench([]);
  const register: Parameters<typeof definePlugin>[0]['register'] = (scope) => {
    scope.backend(driver('knowing', 1, Knowing));
    scope.backend(driver('bare', 2, BareBackend));
  };
  await mediator.use(definePlugin({ name: 'two', core: '^0.1', register }));
  assert.throws(() => container.ioctl(15), { name: 'CORE_NO_IOMMU', errno: 'EINVAL' });
  container.setIommu(1);
  assert.deepEqual(container.ioctl(15, { argsz: 8 }), { flags: 7 });
  assert.deepEqual(known, [15, { argsz: 8 }]);
  container.groups[0]?.file?.unsetContainer();
  const again = mediator.openContainer(root);
  mediator.groups.get('g0')?.file?.setContainer(again);
  again.setIommu(2);
  assert.throws(() => again.ioctl(15), {
    name: 'CORE_NOT_SUPPORTED',
    errno: 'ENOTTY',
    message: /ioctl 15: backend bare/,
  });
  again.close();
  assert.throws(() => again.ioctl(15), { name: 'CORE_FILE_CLOSED', errno: 'EBADF' });
  await mediator.close();
});
