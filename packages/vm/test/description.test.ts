import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { createRegistry, type DeviceKind, formatProblem, loadDescription, readDescription } from '@pinion/vm';
import { imageFolder } from './small-vm.js';

/** Line 1 is the name; every case replaces or adds one thing. */
const GOOD = `name: test
hypervisor: embedded
memory:
  - { name: low, at: 0, size: 4M }
  - { name: high, at: 4G, size: 0x100000 }
groups:
  - name: pci-01
parents:
  - { name: igpu, driver: gvt, aperture: 512M }
  - { name: css, driver: ccw, image: dasd.img }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: disk, driver: passthrough, type: disk, group: pci-01, image: disk.img }
      - { name: vgpu, driver: gvt, type: V5_4, parent: igpu, uuid: 00000000-0000-0000-0000-00000000000a }
      - { name: dasd, driver: ccw, type: io, parent: css, uuid: 00000000-0000-0000-0000-00000000000b, subchannel: 0x13, devno: 1 }
`;

const problemsOf = (folder: string, text: string): string[] => {
  const result = readDescription({ text, folder }, createRegistry());
  return result.ok ? [] : result.problems.map((problem) => formatProblem('vm.yaml', problem));
};

test('a good description is read as it is, in bytes', (t) => {
  const folder = imageFolder(t);
  const result = readDescription({ text: GOOD, folder }, createRegistry());
  assert.ok(result.ok);
  const { memory, containers } = result.description;
  assert.deepEqual(
    memory.map(({ at, size }) => [at, size]),
    [
      [0n, 4n << 20n],
      [4n << 30n, 1n << 20n],
    ],
  );
  assert.deepEqual(
    containers[0]?.devices.map(({ name, type }) => [name, type]),
    [
      ['disk', 'disk'],
      ['vgpu', 'V5_4'],
      ['dasd', 'io'],
    ],
  );
  assert.deepEqual(
    Object.entries(containers[0]?.devices[0] ?? {}).find(([key]) => key === 'image'),
    ['image', join(folder, 'disk.img')],
  );
});

test('the same in JSON', (t) => {
  const folder = imageFolder(t);
  const text = JSON.stringify({
    name: 'test',
    hypervisor: 'embedded',
    memory: [{ name: 'ram', at: 0, size: 4096 }],
    containers: [{ name: 'vm', iommu: 'type1', devices: [] }],
  });
  assert.ok(readDescription({ text, folder }, createRegistry()).ok);
});

/** What is wrong, how the good text is changed, and the whole of what is reported. */
const bad: readonly (readonly [what: string, from: string, to: string, ...problems: string[]])[] = [
  [
    'an unknown key',
    'size: 4M }',
    'size: 4M, colour: red }',
    'vm.yaml:4:35 memory[0].colour: unknown key; there is name, at, size',
  ],
  [
    'an unknown key at the top',
    'name: test',
    'nane: test',
    'vm.yaml:1:1 nane: unknown key; there is name, hypervisor, memory, containers, groups, parents, memlock',
    'vm.yaml:1:1 name: is missing',
  ],
  ['a missing key', 'iommu: type1v2', '', 'vm.yaml:12:5 containers[0].iommu: is missing'],
  [
    'an unknown IOMMU type',
    'type1v2',
    'type3',
    "vm.yaml:13:12 containers[0].iommu: there is no IOMMU type 'type3'; there is type1, type1v2",
  ],
  [
    'an IOMMU type of another machine',
    'type1v2',
    'spapr-tce-v2',
    'vm.yaml:13:12 containers[0].iommu: sPAPR TCE takes no mediated devices, and passthrough only on a POWER machine, which this host is not; use type1v2 (what would differ: npm run five-mixes -- --backend spapr-tce)',
  ],
  [
    'no IOMMU',
    'type1v2',
    'noiommu',
    'vm.yaml:13:12 containers[0].iommu: without an IOMMU nothing can be mapped; use type1v2',
  ],
  [
    'an IOMMU type that cannot pin',
    'type1v2',
    'type1',
    'vm.yaml:13:12 containers[0].iommu: type1 cannot pin memory for mediated devices (vgpu, dasd); use type1v2',
  ],
  [
    'an unknown hypervisor',
    'embedded',
    'xen',
    "vm.yaml:2:13 hypervisor: there is no hypervisor 'xen'; there is embedded",
  ],
  [
    'a driver that nobody registered',
    'driver: passthrough',
    'driver: floppy',
    "vm.yaml:15:31 containers[0].devices[0].driver: there is no device driver 'floppy'; there is passthrough, gvt, ccw, ap",
  ],
  [
    'a type that nobody registered',
    'V5_4',
    'V9_9',
    "vm.yaml:16:42 containers[0].devices[1].type: there is no type of driver gvt 'V9_9'; there is V5_8, V5_4, V5_2, V5_1",
  ],
  [
    'a parent of an unknown driver',
    'driver: gvt, aperture: 512M',
    'driver: gpu',
    "vm.yaml:9:27 parents[0].driver: there is no driver of mediated devices 'gpu'; there is gvt, ccw, ap",
  ],
  [
    'a value a key does not take',
    'aperture: 512M',
    'aperture: 3M',
    "vm.yaml:9:42 parents[0].aperture: there is no aperture '3M'; there is 256M, 512M, 1024M, 2048M",
  ],
  [
    'a missing file',
    'image: disk.img',
    'image: none.img',
    'vm.yaml:15:78 containers[0].devices[0].image: there is no file FOLDER/none.img',
  ],
  [
    'a folder as a file',
    'image: disk.img',
    'image: .',
    'vm.yaml:15:78 containers[0].devices[0].image: FOLDER is no regular file',
  ],
  ['overlapping memory', 'at: 4G', 'at: 2M', 'vm.yaml:5:23 memory[1].at: overlaps region low at [0x0, 0x3fffff]'],
  [
    'half a page of memory',
    'size: 4M',
    'size: 6000',
    'vm.yaml:4:31 memory[0].size: 0x0 and 0x1770 must be multiples of 4096',
  ],
  [
    'memory beyond 2^64',
    'at: 4G',
    'at: 0xfffffffffffff000',
    'vm.yaml:5:49 memory[1].size: 0xfffffffffffff000 + 0x100000 runs over the end of a 64-bit address space',
  ],
  [
    'no size',
    'size: 4M',
    'size: much',
    "vm.yaml:4:31 memory[0].size: wants bytes such as 4096, 0x1000 or 64M, is 'much'",
  ],
  [
    'a negative size',
    'size: 4M',
    'size: -1',
    "vm.yaml:4:31 memory[0].size: wants bytes such as 4096, 0x1000 or 64M, is '-1'",
  ],
  ['a memory name twice', 'name: high', 'name: low', "vm.yaml:5:13 memory[1].name: 'low' is taken already"],
  [
    'a device name twice',
    'name: vgpu',
    'name: disk',
    "vm.yaml:16:17 containers[0].devices[1].name: 'disk' is taken already",
  ],
  [
    'a UUID twice, in other letters',
    '00000000000b,',
    '00000000000A,',
    "vm.yaml:17:65 containers[0].devices[2].uuid: '00000000-0000-0000-0000-00000000000A' is taken already",
  ],
  [
    'no UUID',
    '00000000-0000-0000-0000-00000000000a',
    '12',
    "vm.yaml:16:68 containers[0].devices[1].uuid: wants a UUID, is '12'",
  ],
  [
    'a name with a blank',
    'name: test',
    'name: a test',
    "vm.yaml:1:7 name: wants a name (letters, digits, . : _ -), is 'a test'",
  ],
  [
    'a parent that is not there',
    'parent: css',
    'parent: csx',
    "vm.yaml:17:54 containers[0].devices[2].parent: there is no parent 'csx'; there is igpu, css",
  ],
  [
    'a parent of another driver',
    'parent: css',
    'parent: igpu',
    'vm.yaml:17:54 containers[0].devices[2].parent: parent igpu is of driver gvt, the device of ccw',
  ],
  [
    'a group that is not there',
    'group: pci-01',
    'group: pci-02',
    "vm.yaml:15:63 containers[0].devices[0].group: there is no group 'pci-02'; there is pci-01",
  ],
  [
    'a subchannel out of range',
    '0x13',
    '0x10000',
    "vm.yaml:17:115 containers[0].devices[2].subchannel: wants a whole number 0..65535, is '65536'",
  ],
  ['text for a list', 'groups:\n  - name: pci-01', 'groups: pci-01', "vm.yaml:6:9 groups: wants a list, is 'pci-01'"],
  [
    'a list for a record',
    '- { name: low, at: 0, size: 4M }',
    '- [1]',
    'vm.yaml:4:5 memory[0]: wants a record, is a list',
  ],
  ['a key twice', 'name: test', 'name: test\nname: again', 'vm.yaml:2:1 Map keys must be unique'],
  [
    'a passthrough device with a UUID',
    'group: pci-01, ',
    'group: pci-01, uuid: 00000000-0000-0000-0000-00000000000c, ',
    'vm.yaml:15:71 containers[0].devices[0].uuid: unknown key; there is image, name, driver, group, type',
  ],
  [
    'a type that this parent is too small for',
    'V5_4',
    'V5_1',
    'vm.yaml:16:42 containers[0].devices[1].type: parent igpu offers no type V5_1; it offers V5_8, V5_4, V5_2',
  ],
  [
    'an image that is no whole number of blocks',
    'image: disk.img',
    'image: odd.img',
    'vm.yaml:15:78 containers[0].devices[0].image: FOLDER/odd.img has 100 bytes; a disk image has whole blocks of 512',
  ],
  [
    'an alias',
    'name: test',
    'name: *other',
    'vm.yaml:1:7 name: wants a name (letters, digits, . : _ -), is an alias (*other), which descriptions cannot use',
  ],
];
for (const [what, from, to, ...problems] of bad) {
  test(`refuses ${what}`, (t) => {
    const folder = imageFolder(t);
    writeFileSync(join(folder, 'odd.img'), new Uint8Array(100));
    assert.ok(GOOD.includes(from));
    const found = problemsOf(folder, GOOD.replace(from, to)).map((problem) => problem.replaceAll(folder, 'FOLDER'));
    assert.deepEqual(found, problems);
  });
}

test('reports every problem at once, in order of lines', (t) => {
  const folder = imageFolder(t);
  const text = GOOD.replace('embedded', 'xen')
    .replace('at: 4G', 'at: 1M')
    .replace('dasd.img', 'x.img')
    .replace('V5_4', 'V9')
    .replace('group: pci-01', 'group: other');
  const places = problemsOf(folder, text).map((problem) => problem.split(' ')[1]);
  assert.deepEqual(places, [
    'hypervisor:',
    'memory[1].at:',
    'parents[1].image:',
    'containers[0].devices[0].group:',
    'containers[0].devices[1].type:',
  ]);
});

test('refuses what is no YAML, nothing, and a list', (t) => {
  const folder = imageFolder(t);
  assert.match(problemsOf(folder, 'name: [').join(), /^vm.yaml:\d+:\d+ /);
  assert.deepEqual(problemsOf(folder, ''), ['vm.yaml:1:1 wants a record, is nothing']);
  assert.deepEqual(problemsOf(folder, '- 1'), ['vm.yaml:1:1 wants a record, is a list']);
});

test('a group is in one container only, and a driver of one GPU serves one parent', (t) => {
  const folder = imageFolder(t);
  const second =
    '  - name: other\n    iommu: type1\n    devices:\n      - { name: d2, driver: passthrough, type: disk, group: pci-01, image: dasd.img }\n';
  const parent = GOOD.replace('parents:', 'parents:\n  - { name: gpu2, driver: gvt }');
  assert.deepEqual(problemsOf(folder, GOOD + second), [
    'vm.yaml:21:61 containers[1].devices[0].group: group pci-01 is in container vm already',
  ]);
  assert.deepEqual(problemsOf(folder, parent), [
    'vm.yaml:10:27 parents[1].driver: driver gvt serves 1 parent; there is one already',
  ]);
});

test('a hypervisor without the device API refuses the device', (t) => {
  const folder = imageFolder(t);
  const registry = createRegistry({ hypervisors: [{ name: 'pc', deviceApis: ['vfio-pci'] }] });
  const result = readDescription({ text: GOOD.replace('embedded', 'pc'), folder }, registry);
  assert.deepEqual(result.ok ? [] : result.problems.map(({ path, message }) => [path, message]), [
    ['containers[0].devices[2].driver', 'hypervisor pc cannot have vfio-ccw devices; it can have vfio-pci'],
  ]);
});

test('a kind that a plugin brings can be named, with its own keys', (t) => {
  const folder = imageFolder(t);
  const kind: DeviceKind = {
    driver: 'lamp',
    deviceApi: 'vfio-pci',
    mediated: false,
    types: ['led'],
    deviceKeys: { required: {}, optional: {} },
    createFunction: () => ({}),
    connect: () => () => {},
  };
  const text = GOOD.replace(
    'driver: passthrough, type: disk, group: pci-01, image: disk.img',
    'driver: lamp, type: led, group: pci-01',
  );
  assert.ok(readDescription({ text, folder }, createRegistry({ kinds: [kind] })).ok);
});

test('loadDescription names the file, and says that nothing was started', (t) => {
  const folder = imageFolder(t);
  const file = join(folder, 'vm.yaml');
  const registry = createRegistry();
  assert.throws(() => loadDescription(file, registry), { name: 'VM_NO_FILE', errno: 'ENOENT' });
  mkdirSync(join(folder, 'sub'));
  writeFileSync(file, GOOD.replace('V5_4', 'V9'));
  assert.throws(
    () => loadDescription(file, registry),
    (error: Error) => {
      assert.equal(error.name, 'VM_BAD_DESCRIPTION');
      assert.ok(error.message.startsWith('1 problem(s), nothing was started'));
      assert.ok(error.message.includes(`${file}:16:42 containers[0].devices[1].type: `));
      return true;
    },
  );
});
