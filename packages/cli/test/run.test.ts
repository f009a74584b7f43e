import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { readGuest } from '@pinion/v86';
import { inProcess, Recorded, until } from './console.js';
import { eventsOf, Folder } from './process.js';

const VM = `name: demo
hypervisor: embedded
memory: [{ name: ram, at: 0, size: 16M }]
groups: [{ name: pci-01 }]
parents:
  - { name: shelf, driver: nvme, size: 1M }
  - { name: cards, driver: ap, adapters: [5], domains: [0x47] }
containers:
  - name: vm
    iommu: type1v2
    devices:
      - { name: disk, driver: passthrough, type: disk, group: pci-01, image: disk.img }
      - { name: fast, driver: nvme, type: disk, parent: shelf, uuid: 5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a01 }
      - { name: crypto, driver: ap, type: passthrough, parent: cards, uuid: 5a6f1c9e-1b0b-4d1f-8a5e-3f6d2b7c9a03, adapters: [5], domains: [0x47] }
`;
const NOTHING = { mappings: 0, mappedBytes: '0x0', iommuPages: {}, pinnedPages: {}, lockedPages: 0, heldPages: 0 };

const folder = new Folder();
after(() => folder[Symbol.dispose]());
writeFileSync(folder.file('disk.img'), new Uint8Array(1 << 20));
writeFileSync(folder.file('vm.yaml'), VM);
writeFileSync(folder.file('bad.yaml'), VM.replace('type: disk', 'type: tape').replace('16M', 'lots'));
writeFileSync(
  folder.file('guest.mjs'),
  `export default async (machine, print) => {
  machine.memory.write(0x1000n, new TextEncoder().encode('hello'));
  print(new TextDecoder().decode(machine.memory.read(0x1000n, 5)));
  print(machine.pci('fast').name);
};`,
);
writeFileSync(folder.file('crash.mjs'), `export default (machine) => machine.memory.read(1n << 40n, 1);`);
writeFileSync(
  folder.file('forever.mjs'),
  `export default (_, print) => { print('here'); return new Promise(() => {}); };`,
);
writeFileSync(folder.file('nothing.mjs'), `export const main = 1;`);

writeFileSync(folder.file('kernel.elf'), await readGuest('devices'));

const run = (...args: string[]) => inProcess(['run', ...args], folder.path);

describe('pinion run', () => {
  test('builds the VM, runs the program, and accounts for everything', async () => {
    const { code, out, err } = await run('vm.yaml', '--program', 'guest.mjs', '--json');
    assert.deepEqual([code, err], [0, '']);
    const events = eventsOf(out);
    assert.deepEqual(
      events.map(({ event, device, text }) => [event, device ?? text].filter((part) => part !== undefined).join(' ')),
      [
        'plugged disk',
        'plugged fast',
        'plugged crypto',
        'started',
        'printed hello',
        'printed fast',
        'program-ended',
        'ended',
      ],
    );
    assert.deepEqual([events.at(-1)?.['left'], events.at(-1)?.['ok']], [NOTHING, true]);
    assert.deepEqual([events[3]?.['lockedPages'], events[3]?.['iommuPages']], [4096, { disk: 4096 }]);
  });

  test('the same for people', async () => {
    const { code, out, err } = await run('vm.yaml', '--program', 'guest.mjs', '--without', 'disk');
    assert.deepEqual([code, err], [0, '']);
    assert.equal(
      out,
      `fast: plugged in, 0 pages locked
crypto: plugged in, 0 pages locked
started: 1 mappings of 16 MiB, nothing pinned, 0 locked
hello
fast
program ended: 1 mappings of 16 MiB, nothing pinned, 0 locked
ended: 0 mappings of 0 MiB, nothing pinned, 0 locked
`,
    );
  });

  test('on an x86 CPU the program is a kernel; what a PC cannot have is named', async () => {
    const { code, out, err } = await run('vm.yaml', '--hypervisor', 'v86', '--program', 'kernel.elf');
    assert.deepEqual([code, err], [0, '']);
    assert.equal(
      out,
      `crypto: absent, vfio-ap devices belong to s390 machines: embedded hypervisor only
started: 2 mappings of 15 MiB, pages pinned: disk 4064 by its IOMMU, 4064 locked
disk: ok, 2 interrupts by the pin, 3 by messages
nvme: ok, 15 interrupts by the pin, 15 by messages
done: 2 functions, 2 driven, 0 failures
program ended: 2 mappings of 15 MiB, pages pinned: disk 4064 by its IOMMU, 4064 locked
ended: 0 mappings of 0 MiB, nothing pinned, 0 locked
`,
    );
  });

  test('progress is for a terminal alone, and leaves nothing on it', async () => {
    const around = new Recorded(folder.path, { terminal: true });
    assert.equal(await around.run(['run', 'vm.yaml']), 0);
    const back = '\r\u001b[K';
    assert.ok(around.complained.includes(`${back}plugging in fast (2 of 3) ...`));
    assert.ok(around.complained.endsWith(back));
  });

  test('--check starts nothing', async () => {
    assert.deepEqual(await run('vm.yaml', '--check'), {
      code: 0,
      out: 'demo: 3 devices, 1 memory regions: nothing to complain about\n',
      err: '',
    });
  });

  test('--stay keeps the VM until a signal', async () => {
    const around = new Recorded(folder.path);
    const ended = around.run(['run', 'vm.yaml', '--stay', '--json']);
    await until(() => around.listeners > 0 && around.written.includes('"started"'));
    around.signal('SIGTERM');
    assert.equal(await ended, 0);
    assert.deepEqual(
      eventsOf(around.written)
        .slice(-2)
        .map(({ event, reason, ok }) => [event, reason ?? ok]),
      [
        ['stopping', 'SIGTERM'],
        ['ended', true],
      ],
    );
    assert.equal(around.listeners, 0);
  });

  test('a signal that comes while the VM is started ends it in order: its program does not begin', async () => {
    const around = new Recorded(folder.path);
    const running = around.run(['run', 'vm.yaml', '--program', 'guest.mjs', '--json']);
    await until(() => around.listeners > 0);
    around.signal('SIGTERM');
    assert.equal(await running, 1);
    const events = eventsOf(around.written).map(({ event }) => event);
    assert.deepEqual([events.includes('started'), events.includes('printed'), around.listeners], [true, false, 0]);
    assert.match(around.written, /CLI_INTERRUPTED/);
  });

  test('a signal ends a program, and the VM in order', async () => {
    const around = new Recorded(folder.path);
    const ended = around.run(['run', 'vm.yaml', '--program', 'forever.mjs']);
    await until(() => around.written.includes('here'));
    around.signal('SIGINT');
    assert.equal(await ended, 1);
    assert.match(around.complained, /^CLI_INTERRUPTED \(ECANCELED\): .*forever\.mjs was ended by SIGINT\n$/);
  });

  const WRONG: readonly (readonly [args: string, code: number, message: RegExp])[] = [
    ['', 2, /^CLI_USAGE \(EINVAL\): missing required argument 'DESCRIPTION'; see 'pinion run --help'/],
    ['vm.yaml more', 2, /too many arguments/],
    ['none.yaml', 1, /^VM_NO_FILE \(ENOENT\)/],
    [
      'bad.yaml',
      2,
      /^VM_BAD_DESCRIPTION \(EINVAL\): 2 problem\(s\), nothing was started\n.*bad\.yaml:3:.*\n.*bad\.yaml:12:/,
    ],
    ['bad.yaml --check', 2, /^VM_BAD_DESCRIPTION/],
    [
      'vm.yaml --without floppy',
      2,
      /^CLI_BAD_VALUE \(EINVAL\): --without wants one of disk, fast, crypto, is 'floppy'/,
    ],
    [
      'vm.yaml --hypervisor xen',
      2,
      /^CLI_BAD_VALUE \(EINVAL\): --hypervisor wants one of embedded, v86, qemu, is 'xen'/,
    ],
    ['vm.yaml --memory 1', 2, /^CLI_BAD_VALUE \(EINVAL\): --memory wants a whole number from 64/],
    ['vm.yaml --program none.mjs', 1, /CLI_NO_PROGRAM \(ENOENT\): the guest's program .*none\.mjs cannot be run/],
    ['vm.yaml --program nothing.mjs', 1, /CLI_NO_PROGRAM .*its default export is no function/],
    ['vm.yaml --hypervisor v86 --program guest.mjs', 1, /V86_BAD_IMAGE \(EINVAL\): .* it is no ELF file/],
    ['vm.yaml --hypervisor v86 --program none.elf', 1, /CLI_NO_PROGRAM .*none\.elf cannot be run/],
    ['vm.yaml --program crash.mjs', 1, /VM_NO_MEMORY_AT \(EFAULT\)/],
    [
      'vm.yaml --hypervisor qemu',
      1,
      /^VM_NO_QEMU \(ENOENT\): no QEMU is set up in \/nowhere; run 'npm run qemu:setup' once/,
    ],
  ];
  for (const [args, code, message] of WRONG) {
    test(`refuses: ${args || 'nothing'}`, async () => {
      const words = args.split(' ').filter((word) => word !== '');
      const end = await inProcess(['run', ...words], folder.path, { PINION_QEMU_KIT: '/nowhere' });
      assert.match(end.err, message);
      assert.equal(end.code, code);
    });
  }
});
