import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { pcPart, V86Vm, v86 } from '@pinion/v86';
import { createRegistry, Host, readDescription, type VmDescription } from '@pinion/vm';
import { DEVICES_IMAGE, held, NOTHING, TurnClock } from './pc.js';

const registry = createRegistry({ hypervisors: [v86] });
const bare: VmDescription = {
  name: 'pc',
  hypervisor: 'v86',
  memory: [{ name: 'ram', at: 0n, size: 4n << 20n }],
  containers: [],
};

const badMemory: readonly (readonly [what: string, memory: VmDescription['memory'], problem: RegExp])[] = [
  ['none', [], /there is none/],
  ['above 4 GiB', [{ name: 'pool', at: 1n << 32n, size: 4096n }], /pool ends beyond the first GiB/],
  ['more than a GiB', [{ name: 'ram', at: 0n, size: (1n << 30n) + 4096n }], /ram ends beyond the first GiB/],
];
for (const [what, memory, problem] of badMemory) {
  test(`memory that a CPU cannot have: ${what}`, async (t) => {
    const host = await Host.create({ ...bare, memory }, { registry });
    t.after(() => host.close());
    const starting = V86Vm.start(host, { ...bare, memory }, { image: DEVICES_IMAGE });
    await assert.rejects(starting, { name: 'V86_BAD_MEMORY', errno: 'EINVAL', message: problem });
  });
}

test('a kernel that cannot be booted is refused before there is a VM', async (t) => {
  const host = await Host.create(bare, { registry });
  t.after(() => host.close());
  await assert.rejects(V86Vm.start(host, bare, { image: new Uint8Array(100) }), { name: 'V86_BAD_IMAGE' });
  assert.equal(host.memory.residentBytes, 0);
});

test('a description for this hypervisor cannot name devices of a channel subsystem, and none is started with them', async (t) => {
  const text = `
name: pc
hypervisor: v86
memory: [{ name: ram, at: 0, size: 4M }]
parents: [{ name: cards, driver: ap, adapters: [5], domains: [0x47] }]
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: 00000000-0000-0000-0000-000000000001, adapters: [5], domains: [0x47] }
`;
  const refused = readDescription({ text, folder: '.' }, registry);
  assert.ok(!refused.ok);
  assert.match(refused.problems[0]?.message ?? '', /hypervisor v86 cannot have vfio-ap devices; it can have vfio-pci/);
  const other = readDescription(
    { text: text.replace('hypervisor: v86', 'hypervisor: embedded'), folder: '.' },
    registry,
  );
  assert.ok(other.ok);
  const host = await Host.create(other.description, { registry });
  t.after(() => host.close());
  await assert.rejects(V86Vm.start(host, other.description, { image: DEVICES_IMAGE }), {
    name: 'V86_NOT_A_PC_DEVICE',
    message: /crypto \(ap\)/,
  });
});

test('a VM that cannot be started leaves nothing behind', async (t) => {
  const host = await Host.create(bare, { registry });
  t.after(() => host.close());
  const starting = V86Vm.start(host, bare, { image: DEVICES_IMAGE, plug: ['nobody'] });
  await assert.rejects(starting, { name: 'VM_NO_DEVICE', errno: 'ENODEV' });
  assert.deepEqual([host.memory.residentBytes, host.mediator.containers], [0, []]);
});

test('the guest drives a passthrough disk; only its IOMMU holds it back, and it locks all of memory', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-v86-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'disk.img'), new Uint8Array(64 * 1024));
  const text = `
name: pc
hypervisor: v86
memory: [{ name: ram, at: 0, size: 2M }]
groups: [{ name: pci-01 }]
containers:
  - name: vm
    iommu: type1v2
    devices: [{ name: disk, driver: passthrough, type: disk, group: pci-01, image: disk.img }]
`;
  const read = readDescription({ text, folder }, registry);
  assert.ok(read.ok);
  const host = await Host.create(read.description, { registry, clock: new TurnClock() });
  t.after(() => host.close());
  const vm = await V86Vm.start(host, read.description, { image: DEVICES_IMAGE });
  assert.deepEqual(held(vm.vm), { mappings: 2, pins: 0, locked: 480, held: 480 });
  assert.deepEqual(await vm.run(), { kind: 'exit', code: 0 });
  assert.equal(
    vm.serial.output,
    'disk: ok, 2 interrupts by the pin, 3 by messages\ndone: 1 functions, 1 driven, 0 failures\n',
  );
  assert.deepEqual(
    host.iommu.faults.entries.map(({ device, reason, iova }) => [device, reason, iova]),
    [['disk', 'unmapped', 0xf000_0000n]],
  );
  await vm.vm.unplug('disk');
  assert.deepEqual(held(vm.vm), NOTHING);
  await vm.stop();
});

test('the part of a description that a PC can have, and what is left out with the reason', () => {
  const text = `
name: mixed
hypervisor: embedded
memory:
  - { name: low, at: 0, size: 4M }
  - { name: pool, at: 4G, size: 1M }
groups: [{ name: pci-01 }, { name: pci-02 }]
parents:
  - { name: igpu, driver: gvt }
  - { name: cards, driver: ap, adapters: [5], domains: [0x47] }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: vgpu, driver: gvt, type: V5_4, parent: igpu, uuid: 00000000-0000-0000-0000-000000000001 }
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: 00000000-0000-0000-0000-000000000002, adapters: [5], domains: [0x47] }
`;
  const read = readDescription({ text, folder: '.' }, createRegistry());
  assert.ok(read.ok);
  const { description, absent } = pcPart(read.description, registry);
  const names = (all: readonly { name: string }[] = []): string[] => all.map(({ name }) => name);
  assert.deepEqual(
    [
      names(description.memory),
      names(description.parents),
      names(description.groups),
      names(description.containers[0]?.devices),
    ],
    [['low'], ['igpu'], [], ['vgpu']],
  );
  assert.equal(description.hypervisor, 'v86');
  assert.deepEqual(absent, [
    ['pool', 'memory beyond the first GiB: this CPU has 32-bit addresses'],
    ['crypto', 'vfio-ap devices belong to s390 machines: embedded hypervisor only'],
  ]);
});
