import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { inProcess } from './console.js';
import { Folder } from './process.js';

const A = '5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a01';
const B = '5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a02';
const VM = `name: demo
hypervisor: embedded
memory: [{ name: ram, at: 0, size: 1M }]
parents:
  - { name: shelf, driver: nvme, size: 1M }
  - { name: cards, driver: ap, adapters: [5], domains: [0x47] }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: ${A}, adapters: [5], domains: [0x47] } # one
`;

const folder = new Folder();
after(() => folder[Symbol.dispose]());
const reset = (): void => writeFileSync(folder.file('vm.yaml'), VM);
reset();
const mdev = async (args: string) => inProcess(['mdev', ...args.split(' ')], folder.path);
const text = (): string => readFileSync(folder.file('vm.yaml'), 'utf8');

describe('pinion mdev', () => {
  test('types: text and dump as mdevctl prints them', async () => {
    const { code, out, err } = await mdev('types -f vm.yaml -p shelf');
    assert.deepEqual([code, err], [0, '']);
    assert.equal(
      out,
      `shelf
  nvme-disk
    Available instances: unlimited
    Device API: vfio-pci
    Name: NVMe disk with one namespace
`,
    );
    const dump = JSON.parse((await mdev('types -f vm.yaml --dumpjson')).out);
    assert.deepEqual(dump, [
      { shelf: [{ 'nvme-disk': { device_api: 'vfio-pci', name: 'NVMe disk with one namespace' } }] },
      {
        cards: [
          {
            'ap-passthrough': { available_instances: 65536, device_api: 'vfio-ap', name: 'VFIO AP Passthrough Device' },
          },
        ],
      },
    ]);
    assert.deepEqual(JSON.parse((await mdev('types -f vm.yaml --json')).out), dump);
  });

  test('list: what is defined, with attributes; nothing of it runs', async () => {
    assert.equal((await mdev('list -f vm.yaml')).out, '');
    assert.equal((await mdev('list -f vm.yaml -d')).out, `${A} cards ap-passthrough auto\n`);
    assert.equal(
      (await mdev('list -f vm.yaml -d -v')).out,
      `${A} cards ap-passthrough auto\n  Attrs:\n    @{0}: {"adapters":"[5]"}\n    @{1}: {"domains":"[71]"}\n`,
    );
    const attrs = [{ adapters: '[5]' }, { domains: '[71]' }];
    const dump = [{ cards: [{ [A]: { mdev_type: 'ap-passthrough', start: 'auto', attrs } }] }];
    assert.deepEqual(JSON.parse((await mdev('list -f vm.yaml -d --dumpjson')).out), dump);
    assert.equal((await mdev(`list -f vm.yaml -d -u ${B}`)).out, '');
    assert.equal((await mdev('list -f vm.yaml -d -p shelf')).out, '');
  });

  test('define and undefine change the file as a whole, and back', async () => {
    const defined = await mdev(`define -f vm.yaml -p shelf -t nvme-disk -u ${B} --name fast`);
    assert.deepEqual(defined, { code: 0, out: '', err: '' });
    assert.equal(text(), `${VM}      - { name: fast, driver: nvme, type: disk, parent: shelf, uuid: ${B} }\n`);
    assert.equal((await mdev(`undefine -f vm.yaml -u ${B}`)).code, 0);
    assert.equal(text(), VM);
    assert.deepEqual(
      readdirSync(folder.path).filter((name) => name.startsWith('vm.yaml')),
      ['vm.yaml'],
    );
  });

  test('define makes up a UUID and says it', async () => {
    const { code, out } = await mdev(
      'define -f vm.yaml -p cards -t passthrough --attr adapters=[] --attr domains=[0x47]',
    );
    assert.equal(code, 0);
    assert.match(out, /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\n$/);
    assert.match(
      text(),
      new RegExp(`name: mdev-${out.slice(0, 8)}, .*uuid: ${out.trim()}, adapters: \\[\\], domains: \\[ 71 \\]`),
    );
    reset();
  });

  const WRONG: readonly (readonly [args: string, code: number, message: RegExp])[] = [
    ['start -f vm.yaml', 2, /^CLI_USAGE \(EINVAL\): unknown command 'start'/],
    ['list -d', 2, /required option '-f, --file <DESCRIPTION>' not specified/],
    ['types -f none.yaml', 1, /^VM_NO_FILE/],
    ['define -f vm.yaml -t disk', 2, /required option '-p, --parent/],
    [
      'define -f vm.yaml -p floor -t disk',
      2,
      /^CLI_BAD_VALUE \(EINVAL\): --parent wants a parent of the description: shelf, cards, is 'floor'/,
    ],
    ['define -f vm.yaml -p shelf -t tape', 2, /^VM_BAD_DESCRIPTION .*\n.*there is no type of driver nvme 'tape'/],
    ['define -f vm.yaml -p shelf -t disk -u x', 2, /^VM_BAD_DESCRIPTION .*\n.*wants a UUID/],
    [`define -f vm.yaml -p shelf -t disk -u ${A}`, 2, /is taken already/],
    [
      'define -f vm.yaml -p shelf -t disk --attr colour',
      2,
      /^CLI_BAD_VALUE \(EINVAL\): --attr wants KEY=VALUE, is 'colour'/,
    ],
    ['define -f vm.yaml -p shelf -t disk --attr colour=red', 2, /colour: unknown key/],
    ['define -f vm.yaml -p shelf -t disk --container odd', 1, /^VM_NO_CONTAINER \(ENOENT\)/],
    [`undefine -f vm.yaml -u ${B}`, 1, /^VM_NO_DEVICE \(ENODEV\)/],
  ];
  for (const [args, code, message] of WRONG) {
    test(`refuses: ${args}`, async () => {
      const end = await mdev(args);
      assert.match(end.err, message);
      assert.deepEqual([end.code, text()], [code, VM]);
    });
  }
});
