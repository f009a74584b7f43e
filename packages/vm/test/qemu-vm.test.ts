import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { linuxSys } from '@pinion/sys';
import { createRegistry, type QemuKit, QemuVm, qemu, readDescription, refusalOf, type VmDescription } from '@pinion/vm';

const registry = createRegistry({ hypervisors: [qemu] });
const TEXT = `name: demo
hypervisor: embedded
memory: [{ name: ram, at: 0, size: 1M }]
groups: [{ name: pci-01 }]
parents: [{ name: igpu, driver: gvt }, { name: cards, driver: ap, adapters: [5], domains: [0x47] }]
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: vgpu, driver: gvt, type: V5_4, parent: igpu, uuid: 5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a01 }
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: 5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a03, adapters: [5], domains: [0x47] }
`;

function describeVm(text = TEXT): VmDescription {
  const result = readDescription({ text, folder: '/' }, registry);
  assert.ok(result.ok);
  return result.description;
}

/** A kit whose QEMU is another program. */
const kitOf = (program: string): QemuKit => ({
  folder: '/nowhere',
  qemu: program,
  qemuVersion: '0',
  kernel: '/nowhere/kernel',
  kernelVersion: '0',
  modules: new Map(),
  busybox: '/nowhere/busybox',
  programs: '/nowhere',
});

describe('a VM in a real QEMU', () => {
  const REFUSED: readonly (readonly [driver: string, reason: RegExp | undefined])[] = [
    ['gvt', undefined],
    ['ap', /vfio-ap devices belong to s390 machines/],
    ['ccw', /vfio-ccw devices belong to s390 machines/],
    ['passthrough', /stays with the hypervisor that has its IOMMU/],
    ['floppy', /there is no driver floppy/],
  ];
  for (const [driver, reason] of REFUSED) {
    test(`a ${driver} device ${reason === undefined ? 'can be there' : 'cannot be there, and why'}`, () => {
      const refusal = refusalOf({ name: 'x', driver, type: 't' }, registry);
      if (reason === undefined) assert.equal(refusal, undefined);
      else assert.match(refusal ?? '', reason);
    });
  }

  test('a description may name it as its hypervisor, and is refused what it cannot have', () => {
    const result = readDescription({ text: TEXT.replace('embedded', 'qemu'), folder: '/' }, registry);
    assert.ok(!result.ok);
    assert.deepEqual(
      result.problems.map(({ path, message }) => [path, message]),
      [['containers[0].devices[1].driver', 'hypervisor qemu cannot have vfio-ap devices; it can have vfio-pci']],
    );
  });

  /** Which devices are asked for, with which QEMU, and what is thrown. */
  const FAILURES: readonly (readonly [what: string, devices: readonly string[], program: string, error: object])[] = [
    ['a device that there is not', ['vgpu', 'floppy'], '/bin/false', { name: 'VM_NO_DEVICE', errno: 'ENODEV' }],
    ['a device of another machine', ['crypto'], '/bin/false', { name: 'VM_NOT_FOR_QEMU', errno: 'EINVAL' }],
    ['a QEMU that ends at once', ['vgpu'], '/bin/false', { name: 'VM_QEMU_FAILED', errno: 'EIO' }],
    ['a QEMU that is not there', ['vgpu'], '/nowhere/qemu', { name: 'VM_QEMU_FAILED', errno: 'EIO' }],
  ];
  for (const [what, devices, program, error] of FAILURES) {
    test(`${what}: nothing is left`, async () => {
      const sys = linuxSys();
      const options = { registry, devices, sys, kit: kitOf(program), contents: new Uint8Array(1) };
      await assert.rejects(QemuVm.start(describeVm(), options), error);
      assert.deepEqual(sys.ledger.labels(), []);
    });
  }
});
