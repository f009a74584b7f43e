import assert from 'node:assert/strict';
import test from 'node:test';
import { isErrno } from '@pinion/core';
import { DasdDriver, DiskDriver, EmbeddedVm, Host, PassthroughDisk, VgpuDriver } from '@pinion/vm';
import {
  ALL_PAGES,
  held,
  imageFolder,
  LOW_PAGES,
  NOTHING,
  POOL,
  SUBCHANNEL,
  smallDescription,
  startSmallVm,
  TurnClock,
} from './small-vm.js';

const outcome = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (cause: unknown) => cause,
  );

test('a VM with all devices locks all of its memory, once', async (t) => {
  const { vm } = await startSmallVm(t);
  assert.deepEqual(held(vm), { mappings: 2, owners: { disk: ALL_PAGES }, locked: ALL_PAGES, held: ALL_PAGES });
  assert.equal(vm.accounting.mappedBytes, 5n << 20n);
  await vm.stop();
  assert.deepEqual(held(vm), NOTHING);
});

test('stop gives everything back: no mapping, no pin, no device, no memory; the process has nothing locked', async (t) => {
  const { vm, host, heap } = await startSmallVm(t);
  VgpuDriver.start(vm.machine, heap, 'vgpu');
  await vm.stop();
  assert.equal(vm.memory.lockedPages, 0);
  assert.equal(host.memory.residentBytes, 0);
  assert.equal(host.mediator.findMdev('00000000-0000-0000-0000-000000000001'), undefined);
  assert.deepEqual(host.mediator.containers, []);
  await vm.done;
  await vm.stop();
});

test('mdev-only: nothing is locked before somebody pins, and hot plug of the disk locks the rest, once', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['vgpu'] });
  assert.equal(held(vm).locked, 0);
  VgpuDriver.start(vm.machine, heap, 'vgpu');
  assert.deepEqual(held(vm), { mappings: 2, owners: { vgpu: 5 }, locked: 5, held: 5 });
  await vm.plug('disk');
  assert.deepEqual(held(vm), { mappings: 2, owners: { disk: ALL_PAGES, vgpu: 5 }, locked: ALL_PAGES, held: ALL_PAGES });
  await vm.unplug('disk');
  assert.deepEqual(held(vm), { mappings: 2, owners: { vgpu: 5 }, locked: 5, held: 5 });
});

test('the last group to leave takes the mappings with it; the next one gets them again', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['disk'] });
  await vm.unplug('disk');
  assert.deepEqual(held(vm), NOTHING);
  await vm.plug('vgpu');
  assert.deepEqual(held(vm), { mappings: 2, owners: {}, locked: 0, held: 0 });
});

test('a limit that does not allow all of memory refuses the disk and changes nothing', async (t) => {
  const description = smallDescription(imageFolder(t));
  const { vm, heap } = await startSmallVm(t, {
    description: { ...description, memlock: BigInt(ALL_PAGES - 1) << 12n },
    plug: ['vgpu'],
  });
  VgpuDriver.start(vm.machine, heap, 'vgpu');
  await assert.rejects(vm.plug('disk'), { errno: 'ENOMEM' });
  assert.deepEqual(held(vm), { mappings: 2, owners: { vgpu: 5 }, locked: 5, held: 5 });
  assert.deepEqual(
    vm.slots.map(({ plugged }) => plugged),
    [false, true, false, false],
  );
  await assert.rejects(vm.plug('disk'), { errno: 'ENOMEM' });
});

test('a VM that cannot be started leaves nothing behind', async (t) => {
  const folder = imageFolder(t);
  const description = { ...smallDescription(folder), memlock: 4096n };
  const host = await Host.create(description, { clock: new TurnClock() });
  t.after(() => host.close());
  await assert.rejects(EmbeddedVm.start(host, description), { errno: 'ENOMEM' });
  assert.equal(host.memory.residentBytes, 0);
  assert.equal(host.memory.referencedPages, 0);
  assert.equal(host.mediator.findMdev('00000000-0000-0000-0000-000000000001'), undefined);
  const second = await EmbeddedVm.start(host, smallDescription(folder));
  assert.equal(
    second.slots.every(({ plugged }) => plugged),
    true,
  );
});

test('plug, unplug and memory by names that are not there are errors; twice the same is none', async (t) => {
  const { vm } = await startSmallVm(t, { plug: [] });
  await assert.rejects(vm.plug('floppy'), { name: 'VM_NO_DEVICE', errno: 'ENODEV' });
  await assert.rejects(vm.unplug('floppy'), { name: 'VM_NO_DEVICE' });
  await assert.rejects(vm.unmapMemory('rom'), { name: 'VM_NO_REGION', errno: 'ENOENT' });
  await assert.rejects(vm.mapMemory('rom'), { name: 'VM_NO_REGION' });
  await vm.plug('vgpu');
  await vm.plug('vgpu');
  await vm.unplug('vgpu');
  await vm.unplug('vgpu');
  assert.deepEqual(held(vm), NOTHING);
});

test('memory can be plugged and unplugged while devices are there', async (t) => {
  const { vm } = await startSmallVm(t);
  await vm.plugMemory({ name: 'more', at: 8n << 30n, size: 1n << 20n });
  assert.equal(held(vm).locked, ALL_PAGES + 256);
  vm.memory.write(8n << 30n, Uint8Array.of(1));
  await vm.unplugMemory('more');
  assert.equal(held(vm).locked, ALL_PAGES);
  assert.throws(() => vm.memory.read(8n << 30n, 1), { name: 'VM_NO_MEMORY_AT' });
  await assert.rejects(vm.plugMemory({ name: 'low', at: 8n << 30n, size: 4096n }), { name: 'VM_REGION_EXISTS' });
  assert.equal(held(vm).mappings, 2);
});

test('memory that a container refuses is not left with the guest', async (t) => {
  const { vm } = await startSmallVm(t);
  const interruptWindow = { name: 'msi', at: 0xfee0_0000n, size: 1n << 20n };
  await assert.rejects(vm.plugMemory(interruptWindow), { errno: 'EINVAL' });
  assert.deepEqual(
    vm.memory.regions.map(({ name }) => name),
    ['low', 'pool'],
  );
  assert.equal(held(vm).mappings, 2);
});

test('unmapping memory under a channel program ends the program, and all its pages come back', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['dasd'] });
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  const reading = outcome(dasd.read({ block: 0, blocks: 64, at: POOL }));
  assert.equal(held(vm).owners['dasd'], 9);
  await vm.unmapMemory('pool');
  assert.ok(isErrno(await reading, 'ECANCELED'));
  assert.deepEqual(held(vm), { mappings: 1, owners: {}, locked: 0, held: 0 });
  await assert.rejects(dasd.read({ block: 0, blocks: 64, at: POOL }), { name: 'VM_IO_FAILED', errno: 'EIO' });
  await vm.mapMemory('pool');
  await dasd.read({ block: 0, blocks: 64, at: POOL });
  assert.deepEqual(vm.memory.read(POOL + 63n * 512n, 2), Uint8Array.of(63, 63));
});

test('unmapping memory under a disk transfer: the device faults, the guest is told', async (t) => {
  const { vm, host } = await startSmallVm(t, { plug: ['disk'] });
  const disk = DiskDriver.start(vm.machine, 'disk');
  const reading = outcome(disk.read({ lba: 0, blocks: 256, at: POOL }));
  await vm.unmapMemory('pool');
  assert.ok(isErrno(await reading, 'EIO'));
  assert.deepEqual(
    host.iommu.faults.entries.map(({ device, reason }) => [device, reason]),
    [['disk', 'unmapped']],
  );
  assert.deepEqual(held(vm), { mappings: 1, owners: { disk: LOW_PAGES }, locked: LOW_PAGES, held: LOW_PAGES });
});

test('killed mid-I/O: programs are cut off, and nothing is left', async (t) => {
  const { vm, host, heap } = await startSmallVm(t);
  const disk = DiskDriver.start(vm.machine, 'disk');
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
  const work = [
    vm.run(() => disk.read({ lba: 0, blocks: 256, at: POOL })),
    vm.run(() => dasd.read({ block: 0, blocks: 128, at: POOL + 0x4_0000n })),
    vm.run(() => gpu.run([[0, 0]])),
  ].map(outcome);
  assert.deepEqual(held(vm).owners, { disk: ALL_PAGES, vgpu: 5, dasd: 17 });
  await vm.kill();
  for (const end of await Promise.all(work)) assert.ok(isErrno(end, 'ECANCELED'));
  assert.deepEqual(held(vm), NOTHING);
  assert.equal(host.memory.residentBytes, 0);
  assert.equal(vm.task.mm, null);
  await vm.done;
});

test('the memory is gone before the devices close', async (t) => {
  const { vm, host } = await startSmallVm(t, { plug: ['vgpu'] });
  const order: string[] = [];
  host.mediator.bus.on('device:closed', () => order.push(`closed, memory ${vm.memory.alive ? 'there' : 'gone'}`));
  await vm.kill();
  assert.deepEqual(order, ['closed, memory gone']);
});

test('a killed VM refuses everything by name', async (t) => {
  const { vm } = await startSmallVm(t);
  await vm.kill();
  const killed = { name: 'VM_KILLED', errno: 'ECANCELED' };
  await assert.rejects(vm.plug('disk'), killed);
  await assert.rejects(vm.unmapMemory('low'), killed);
  await assert.rejects(
    vm.run(async () => {}),
    killed,
  );
  await vm.kill();
  await vm.stop();
});

test('a stopped VM refuses everything by name', async (t) => {
  const { vm } = await startSmallVm(t, { plug: [] });
  await vm.stop();
  await assert.rejects(vm.plug('disk'), { name: 'VM_STOPPED', errno: 'ECANCELED' });
  await assert.rejects(
    vm.run(async () => {}),
    { name: 'VM_STOPPED' },
  );
  await vm.kill();
});

test('a plug that is under way when the VM is killed is undone', async (t) => {
  const { vm } = await startSmallVm(t, { plug: [] });
  const plugging = outcome(vm.plug('disk'));
  await vm.kill();
  await plugging;
  assert.deepEqual(held(vm), NOTHING);
  assert.deepEqual(
    vm.slots.map(({ plugged }) => plugged),
    [false, false, false, false],
  );
});

test('a guest program that waits for a device hears that it was unplugged', async (t) => {
  const { vm } = await startSmallVm(t);
  const waits = [
    vm.machine.pci('vgpu').interrupt(),
    vm.machine.channels.interrupt(SUBCHANNEL),
    vm.machine.crypto.adapterInterrupt(),
  ].map(outcome);
  for (const name of ['vgpu', 'dasd', 'crypto']) await vm.unplug(name);
  for (const end of await Promise.all(waits)) assert.ok(isErrno(end, 'ENODEV'));
  assert.throws(() => vm.machine.pci('vgpu'), { name: 'VM_NO_FUNCTION' });
  await assert.rejects(vm.machine.channels.interrupt(SUBCHANNEL), { name: 'VM_NO_SUBCHANNEL' });
  await assert.rejects(vm.machine.crypto.adapterInterrupt(), { name: 'VM_NO_MATRIX' });
});

test('closing the host stops its VMs', async (t) => {
  const { vm, host } = await startSmallVm(t);
  await host.close();
  assert.deepEqual(held(vm), NOTHING);
  await host.close();
});

test('an error that a program meets after the kill is told as the kill, with the error as its cause', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['disk'] });
  const disk = vm.machine.pci('disk');
  const program = vm.run(async () => {
    await vm.done;
    disk.read32(0, 0);
  });
  await vm.kill();
  await assert.rejects(program, (error: Error) => error.name === 'VM_KILLED' && isErrno(error.cause, 'EBADF'));
});

test('errors of a program in a living VM are its own', async (t) => {
  const { vm } = await startSmallVm(t, { plug: [] });
  const own = new TypeError('mine');
  await assert.rejects(
    vm.run(() => Promise.reject(own)),
    own,
  );
  assert.equal(await vm.run(async ({ name }) => name), 'small');
});

test('two devices of one group share it: it leaves with the last', async (t) => {
  const folder = imageFolder(t);
  const description = smallDescription(folder, (text) =>
    text.replace(
      'devices:',
      'devices:\n      - { name: second, driver: passthrough, type: disk, group: pci-01, image: dasd.img }',
    ),
  );
  const { vm } = await startSmallVm(t, { description, plug: ['disk', 'second'] });
  assert.deepEqual(held(vm).owners, { disk: ALL_PAGES, second: ALL_PAGES });
  await vm.unplug('disk');
  assert.equal(held(vm).locked, ALL_PAGES);
  await vm.unplug('second');
  assert.deepEqual(held(vm), NOTHING);
  const ops = vm.slots[0]?.device.ops;
  assert.ok(ops instanceof PassthroughDisk && !ops.busy);
});
