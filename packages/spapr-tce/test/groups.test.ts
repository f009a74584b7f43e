import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Container,
  defineDriver,
  definePlugin,
  EXTENSION,
  type GroupFile,
  type Mdev,
  type Plugin,
  PROT_RW,
} from '@pinion/core';
import { createSoftwareIommu } from '@pinion/iommu';
import { createSpaprTceDriver, type FindTableGroup, PowerPlatform } from '@pinion/spapr-tce';
import { type1 } from '@pinion/type1';
import { inWorld, map, PAGE, type Plugged, reaches, SECOND, TABLE_PAGES, unmap, V1, V2, World } from './world.js';

/** A mediated device that never pins by itself. */
const driver = defineDriver({
  name: 'probe',
  deviceApi: 'vfio-probe',
  types: [{ id: 'one' }],
  pins: true,
  create: () => ({ dmaUnmap() {} }),
});
const probe = definePlugin({ name: 'probe', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });

async function mediated(world: World): Promise<{ mdev: Mdev; file: GroupFile }> {
  const parent = world.mediator.registerParent('probes', 'probe');
  const mdev = await parent.create('one', '00000000-0000-4000-8000-000000000001');
  return { mdev, file: mdev.group.open(world.task) };
}

test('T20: a mediated device’s group is EINVAL, whether it comes before or after SET_IOMMU', async () => {
  for (const type of [V1, V2]) {
    await inWorld({ plugins: [probe] }, async (world) => {
      const { file } = await mediated(world);
      const late = world.open(type);
      assert.throws(() => file.setContainer(late.container), {
        name: 'TCE_EMULATED',
        errno: 'EINVAL',
        message: /type1v2/,
      });
      assert.deepEqual(
        late.container.groups.map(({ name }) => name),
        [late.group.name],
      );
      const early = world.mediator.openContainer(world.task);
      file.setContainer(early);
      assert.throws(() => early.setIommu(type), { name: 'TCE_EMULATED', errno: 'EINVAL' });
      assert.equal(early.backend, undefined);
    });
  }
});

test('nobody can pin, copy or track through it: ENOTTY', async () => {
  await inWorld({}, (world) => {
    const { container } = world.open(V2);
    const { backend } = container;
    assert.deepEqual(
      [backend?.pinPages, backend?.unpinPages, backend?.dmaRw, backend?.dirty],
      Array(4).fill(undefined),
    );
    assert.throws(() => container.dmaRw(0n, new Uint8Array(1), false), { name: 'CORE_NOT_SUPPORTED', errno: 'ENOTTY' });
    assert.throws(() => container.dirty({ flags: 1 }), { errno: 'ENOTTY' });
  });
});

test('v1 takes one group: a second is EBUSY, at SET_CONTAINER and at SET_IOMMU, and leaves nothing behind', async () => {
  await inWorld({}, (world) => {
    const { container } = world.open(V1);
    const other = world.plug();
    assert.throws(() => other.file.setContainer(container), { name: 'TCE_ONE_GROUP', errno: 'EBUSY' });
    const two = world.mediator.openContainer(world.task);
    other.file.setContainer(two);
    const third = world.plug();
    third.file.setContainer(two);
    assert.throws(() => two.setIommu(V1), { name: 'TCE_ONE_GROUP', errno: 'EBUSY' });
    assert.equal(two.backend, undefined);
    third.file.unsetContainer();
    two.setIommu(V1);
  });
});

test('groups without tables are ENODEV; other platforms’ EPERM; v2 needs dynamic windows: EINVAL', async () => {
  const world = await World.start();
  const foreign = new PowerPlatform({ memory: world.os.host, kind: 'pseries' });
  const iommu = createSoftwareIommu({ memory: world.os.host });
  const tableless = world.mediator.addGroup({ name: 'x86', iommu: iommu.createGroup({ id: 77 }) });
  world.mediator.addDevice(tableless, 'x86-f0', {});
  const { container } = world.open(V2);
  assert.throws(() => tableless.open(world.task).setContainer(container), { name: 'TCE_NO_TABLES', errno: 'ENODEV' });
  const other = world.mediator.addGroup({ name: 'foreign', iommu: foreign.createGroup({ id: 78 }) });
  world.mediator.addDevice(other, 'foreign-f0', {});
  assert.throws(() => other.open(world.task).setContainer(container), { name: 'TCE_INCOMPATIBLE', errno: 'EPERM' });
  const fixed = world.plug({ dynamic: false });
  assert.throws(() => fixed.file.setContainer(container), { name: 'TCE_NO_DYNAMIC_WINDOWS', errno: 'EINVAL' });
  assert.equal(container.groups.length, 1);
  await world.end();
});

/** A v2 container with memory of 4 pages and these groups, oldest first. */
function shared(world: World, groups: readonly Plugged[]) {
  const container = world.mediator.openContainer(world.task);
  for (const { file } of groups) file.setContainer(container);
  container.setIommu(V2);
  const vaddr = world.memory(4);
  container.ioctl(17, { vaddr, size: 4n * PAGE });
  return { container, vaddr };
}

test('v2: several groups stand behind the same windows, whenever they come', async () => {
  await inWorld({}, async (world) => {
    const [one, two, late] = [world.plug(), world.plug(), world.plug()];
    const { container, vaddr } = shared(world, [one, two]);
    map(container, 0n, 4, vaddr);
    container.ioctl(19, { pageShift: 12, size: 1n << 30n });
    map(container, SECOND, 1, vaddr + PAGE);
    late.file.setContainer(container);
    const sees = ({ hardware }: Plugged): boolean[] => [
      reaches(world, hardware, 0n, vaddr),
      reaches(world, hardware, SECOND, vaddr + PAGE),
    ];
    assert.deepEqual([one, two, late].map(sees), Array(3).fill([true, true]));
    assert.equal(world.locked, 4 + 2 * TABLE_PAGES);
    two.file.unsetContainer();
    assert.deepEqual([one, two, late].map(sees), [
      [true, true],
      [false, false],
      [true, true],
    ]);
    await unmap(container, 0n, 1);
    assert.deepEqual(sees(one), [false, true]);
    container.ioctl(20, { start: SECOND });
    assert.deepEqual(sees(late), [false, false]);
  });
});

test('v2 in a virtual machine: a table belongs to one bridge, so groups can only join before there is one', async () => {
  await inWorld({ kind: 'pseries' }, async (world) => {
    const [one, two] = [world.plug(), world.plug()];
    const { container, vaddr } = shared(world, [one, two]);
    assert.throws(() => map(container, 0n, 4, vaddr), { name: 'TCE_FOREIGN_TABLE', errno: 'EPERM' });
    assert.equal(world.locked, 4, 'the table that one group could not use is not charged');
    one.file.unsetContainer();
    map(container, 0n, 4, vaddr);
    assert.throws(() => one.file.setContainer(container), { name: 'TCE_FOREIGN_TABLE', errno: 'EPERM' });
    assert.ok(reaches(world, two.hardware, 0n, vaddr));
    assert.equal(reaches(world, one.hardware, 0n, vaddr), false);
  });
});

/** type1 and sPAPR TCE in one mediator, registered in this order. */
async function both(order: readonly ('type1' | 'tce')[], run: (world: World) => Promise<void> | void): Promise<void> {
  const [first] = order;
  await inWorld({ plugins: first === 'type1' ? [type1()] : [] }, async (world) => {
    if (first !== 'type1') await world.mediator.use(type1());
    await run(world);
  });
}

interface X86 {
  readonly file: GroupFile;
}
function x86(world: World, id = 500): X86 {
  const iommu = createSoftwareIommu({ memory: world.os.host });
  const group = world.mediator.addGroup({ name: `x86-${id}`, iommu: iommu.createGroup({ id }) });
  world.mediator.addDevice(group, `x86-${id}-f0`, {});
  return { file: group.open(world.task) };
}

const { TYPE1_IOMMU, TYPE1v2_IOMMU, UNMAP_ALL, NOIOMMU_IOMMU } = EXTENSION;
const TYPES = [TYPE1_IOMMU, TYPE1v2_IOMMU, V1, V2, UNMAP_ALL, NOIOMMU_IOMMU, 77];
const answers = (container: Container): number[] => TYPES.map((extension) => container.checkExtension(extension));

for (const order of [
  ['type1', 'tce'],
  ['tce', 'type1'],
] as const) {
  test(`${order.join(' then ')}: an unset container polls both, a set one asks its own alone`, async () => {
    await both(order, (world) => {
      const container = world.mediator.openContainer(world.task);
      assert.deepEqual(answers(container), [1, 1, 1, 1, 1, 0, 0]);
      const power = world.plug();
      power.file.setContainer(container);
      assert.deepEqual(answers(container), [1, 1, 1, 1, 1, 0, 0]);
      container.setIommu(V2);
      assert.deepEqual([container.backendName, ...answers(container)], ['spapr-tce', 0, 0, 1, 1, 0, 0, 0]);
      power.file.unsetContainer();
      assert.deepEqual(answers(container), [1, 1, 1, 1, 1, 0, 0]);
      const pc = x86(world);
      pc.file.setContainer(container);
      container.setIommu(TYPE1v2_IOMMU);
      assert.deepEqual([container.backendName, ...answers(container)], ['type1', 1, 1, 0, 0, 1, 0, 0]);
    });
  });

  test(`${order.join(' then ')}: a backend that cannot take the groups refuses with its own errno, and can be corrected`, async () => {
    await both(order, (world) => {
      const power = world.mediator.openContainer(world.task);
      world.plug().file.setContainer(power);
      assert.throws(() => power.setIommu(TYPE1v2_IOMMU), { name: 'TCE_NO_DOMAIN', errno: 'ENODEV' });
      assert.throws(() => power.setIommu(77), { name: 'CORE_NO_BACKEND', errno: 'ENODEV' });
      power.setIommu(V1);
      const pc = world.mediator.openContainer(world.task);
      x86(world).file.setContainer(pc);
      assert.throws(() => pc.setIommu(V1), { name: 'TCE_NO_TABLES', errno: 'ENODEV' });
      pc.setIommu(TYPE1_IOMMU);
      assert.deepEqual([power.backendName, pc.backendName], ['spapr-tce', 'type1']);
    });
  });
}

test('groups of two kinds of hardware in one container: no backend takes both, and both are free again', async () => {
  await both(['type1', 'tce'], (world) => {
    const container = world.mediator.openContainer(world.task);
    const [power, pc] = [world.plug(), x86(world)];
    power.file.setContainer(container);
    pc.file.setContainer(container);
    assert.throws(() => container.setIommu(V2), { name: 'TCE_NO_TABLES', errno: 'ENODEV' });
    assert.throws(() => container.setIommu(TYPE1v2_IOMMU), { name: 'TCE_NO_DOMAIN', errno: 'ENODEV' });
    pc.file.unsetContainer();
    container.setIommu(V2);
    assert.throws(() => pc.file.setContainer(container), { name: 'TCE_NO_TABLES', errno: 'ENODEV' });
    const own = world.mediator.openContainer(world.task);
    pc.file.setContainer(own);
    own.setIommu(TYPE1v2_IOMMU);
    const vaddr = world.memory(1);
    own.mapDma({ iova: 0n, size: PAGE, vaddr, prot: PROT_RW });
    assert.equal(world.locked, 1);
  });
});

/** sPAPR TCE under another name, over its own idea of the hardware. */
const named = (name: string, hardware: FindTableGroup): Plugin =>
  definePlugin({
    name,
    core: '^0.1',
    register(scope) {
      scope.backend({ ...createSpaprTceDriver({ hardware }), name });
    },
  });

test('two backends take the type: the newest registered wins; if it cannot take the groups the next is tried', async () => {
  await inWorld({}, async (world) => {
    await world.mediator.use(named('newer', world.platform.tableGroup));
    assert.equal(world.open(V2).container.backendName, 'newer');
    await world.mediator.use(named('fussy', () => undefined));
    const { container, hardware, tce } = world.open(V2);
    assert.equal(container.backendName, 'newer');
    const vaddr = world.memory(1);
    tce.registerMemory({ vaddr, size: PAGE });
    map(container, 0n, 1, vaddr);
    assert.ok(reaches(world, hardware, 0n, vaddr));
  });
});

test('a backend that refuses the last of several groups gives the others back: nothing of it is left', async () => {
  await inWorld({}, async (world) => {
    const groups = [world.plug(), world.plug(), world.plug()];
    const refused = groups[0]?.hardware;
    const partly: FindTableGroup = (group) => (group.iommu === refused ? undefined : world.platform.tableGroup(group));
    await world.mediator.use(named('partly', partly));
    const container = world.mediator.openContainer(world.task);
    for (const { file } of groups) file.setContainer(container);
    container.setIommu(V2);
    assert.equal(container.backendName, 'spapr-tce');
    assert.deepEqual([world.task.memory.grabs, world.locked], [0, 0]);
  });
});
