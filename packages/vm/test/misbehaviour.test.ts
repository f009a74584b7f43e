import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { asIovaFrame, defineDriver, type FrameRange, isErrno, type PinApi, PROT_RW } from '@pinion/core';
import {
  createRegistry,
  type DeviceKind,
  EmbeddedVm,
  Host,
  MachineMemory,
  type MediatedKind,
  type VmDescription,
} from '@pinion/vm';
import { ALL_PAGES, held, imageFolder, NOTHING, smallDescription, startSmallVm, TurnClock } from './small-vm.js';

/** What a driver does with the one page it pinned at open. */
interface Habits {
  readonly close: (pins: PinApi) => void | Promise<void>;
  readonly dmaUnmap: (pins: PinApi, range: FrameRange) => void | Promise<void>;
}

const PAGE = asIovaFrame(3);
const behave: Habits = { close: (pins) => pins.unpin(PAGE, 1), dmaUnmap: (pins) => pins.unpin(PAGE, pins.count(PAGE)) };

/** A kind of mediated device that a plugin author might bring: it pins page 3 while it is open. */
const kindOf = (habits: Habits): MediatedKind => ({
  driver: 'keeper',
  deviceApi: 'vfio-pci',
  mediated: true,
  types: ['one'],
  parentKeys: { required: {}, optional: {} },
  deviceKeys: { required: {}, optional: {} },
  createDriver: () =>
    defineDriver({
      name: 'keeper',
      deviceApi: 'vfio-pci',
      types: [{ id: 'one' }],
      pins: true,
      create: ({ pins }) => ({
        open: () => void pins.pin(PAGE, 1, PROT_RW),
        close: () => habits.close(pins),
        dmaUnmap: (range) => habits.dmaUnmap(pins, range),
      }),
    }),
  connect: () => () => {},
});

const DESCRIPTION: VmDescription = {
  name: 'kept',
  hypervisor: 'embedded',
  memory: [{ name: 'ram', at: 0n, size: 65_536n }],
  parents: [{ name: 'parent', driver: 'keeper' }],
  containers: [
    {
      name: 'vm',
      iommu: 'type1v2',
      devices: [
        { name: 'kept', driver: 'keeper', type: 'one', parent: 'parent', uuid: '00000000-0000-0000-0000-000000000009' },
      ],
    },
  ],
};

async function startKeeper(t: TestContext, habits: Partial<Habits>): Promise<EmbeddedVm> {
  const kinds: readonly DeviceKind[] = [kindOf({ ...behave, ...habits })];
  const host = await Host.create(DESCRIPTION, { registry: createRegistry({ kinds }), clock: new TurnClock() });
  t.after(() => host.close().catch(() => {}));
  return EmbeddedVm.start(host, DESCRIPTION);
}

test('a kind that a plugin brings runs like ours', async (t) => {
  const vm = await startKeeper(t, {});
  assert.deepEqual(held(vm), { mappings: 1, owners: { kept: 1 }, locked: 1, held: 1 });
  assert.equal(await vm.unmapMemory('ram'), 65_536n);
  assert.deepEqual(held(vm), NOTHING);
  await vm.stop();
});

test('a driver that keeps its pin at close is named; the VM ends all the same, with nothing left', async (t) => {
  for (const end of ['stop', 'kill'] as const) {
    const vm = await startKeeper(t, { close: () => {} });
    await assert.rejects(vm[end](), { name: 'CORE_PINS_LEFT', message: /driver keeper.*0x3000/ });
    assert.deepEqual(held(vm), NOTHING);
    await vm.done;
  }
});

test('a driver whose close throws, or that throws at a kill, does not keep the VM', async (t) => {
  const vm = await startKeeper(t, {
    close: (pins) => {
      pins.unpin(PAGE, 1);
      throw new RangeError('no');
    },
  });
  await assert.rejects(vm.kill(), { message: 'no' });
  assert.deepEqual(held(vm), NOTHING);
});

test('a driver that keeps a page under dmaUnmap: the unmap is refused and names it, the mapping stays, the VM runs on', async (t) => {
  const vm = await startKeeper(t, { dmaUnmap: () => {} });
  await assert.rejects(vm.unmapMemory('ram'), { name: 'TYPE1_PIN_LEAK', errno: 'EBUSY', message: /keeper/ });
  assert.deepEqual(held(vm), { mappings: 1, owners: { kept: 1 }, locked: 1, held: 1 });
  await assert.rejects(vm.unplugMemory('ram'), { name: 'TYPE1_PIN_LEAK' });
  assert.equal(vm.memory.read(0x3000n, 1).length, 1);
  await vm.unplug('kept');
  await vm.unplugMemory('ram');
  await vm.stop();
  assert.deepEqual(held(vm), NOTHING);
});

test('every single failure of the IOMMU while a VM starts leaves nothing behind, until it starts', async (t) => {
  const folder = imageFolder(t);
  const description = smallDescription(folder);
  for (const point of ['alloc', 'attach', 'map', 'table'] as const) {
    const host = await Host.create(description, { clock: new TurnClock() });
    t.after(() => host.close());
    let failures = 0;
    for (let nth = 1; ; nth++) {
      const undo = host.iommu.failures.fail(point, nth, 'ENOMEM');
      const vm = await EmbeddedVm.start(host, description).catch((cause: unknown) => cause);
      await undo();
      if (vm instanceof EmbeddedVm) {
        assert.equal(held(vm).locked, ALL_PAGES);
        await vm.stop();
        assert.deepEqual(held(vm), NOTHING);
        break;
      }
      failures += 1;
      assert.ok(isErrno(vm, 'ENOMEM'), `${point} ${nth}: ${String(vm)}`);
      assert.equal(host.memory.residentBytes, 0);
      assert.deepEqual(host.mediator.containers, []);
    }
    assert.ok(failures > 0, `${point} is never reached`);
  }
});

test('a failing hot plug of the disk leaves the other devices as they were', async (t) => {
  const { vm, host } = await startSmallVm(t, { plug: ['vgpu', 'dasd', 'crypto'] });
  const before = held(vm);
  for (const point of ['alloc', 'attach', 'map', 'table'] as const) {
    host.iommu.failures.fail(point, 1, 'EIO');
    await assert.rejects(vm.plug('disk'), { errno: 'EIO' });
    assert.deepEqual(held(vm), before);
  }
  await vm.plug('disk');
  assert.equal(held(vm).locked, ALL_PAGES);
});

test('memory that cannot be mapped into the IOMMU is not plugged', async (t) => {
  const { vm, host } = await startSmallVm(t);
  host.iommu.failures.fail('map', 1, 'ENOMEM');
  await assert.rejects(vm.plugMemory({ name: 'more', at: 8n << 30n, size: 1n << 20n }), { errno: 'ENOMEM' });
  assert.equal(held(vm).locked, ALL_PAGES);
  assert.equal(vm.memory.holds(8n << 30n, 1n), false);
  await vm.plugMemory({ name: 'more', at: 8n << 30n, size: 1n << 20n });
});

test('a host that cannot be built closes what it opened', async (t) => {
  const description = smallDescription(imageFolder(t));
  const twice = { ...description, parents: [...(description.parents ?? []), { name: 'igpu', driver: 'gvt' }] };
  await assert.rejects(Host.create(twice, { memory: new MachineMemory() }), { name: 'CORE_PARENT_EXISTS' });
  const nobody = { ...description, parents: [{ name: 'x', driver: 'nobody' }] };
  await assert.rejects(Host.create(nobody), { name: 'CORE_NO_DRIVER' });
});

test('a device that the guest cannot be connected to is closed again', async (t) => {
  const kind: MediatedKind = {
    ...kindOf(behave),
    connect: () => {
      throw new RangeError('no such slot');
    },
  };
  const host = await Host.create(DESCRIPTION, { registry: createRegistry({ kinds: [kind] }), clock: new TurnClock() });
  t.after(() => host.close());
  await assert.rejects(EmbeddedVm.start(host, DESCRIPTION), { message: 'no such slot' });
  assert.equal(host.memory.referencedPages, 0);
  assert.deepEqual(host.mediator.containers, []);
});
