import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  CpioArchive,
  findQemuKit,
  guestImage,
  intelIommu,
  KIT_FORM,
  kitFolder,
  loadOrder,
  pcieRootPort,
  Qemu,
  type QemuKit,
  qemuArguments,
  vfioUserDevice,
} from '@pinion/vm';

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-kit-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A program that takes QEMU's place: a script of Node's. */
function program(t: TestContext, script: string): string {
  const path = join(folderFor(t), 'qemu');
  writeFileSync(path, `#!${process.execPath}\n${script}`);
  chmodSync(path, 0o755);
  return path;
}

const MONITOR = `
const { Socket } = require('node:net');
const qmp = new Socket({ fd: 3, readable: true, writable: true });
qmp.write('{"QMP":{}}\\r\\n');
qmp.on('data', (bytes) => {
  for (const line of bytes.toString().trim().split('\\n')) {
    const { id, execute } = JSON.parse(line);
    if (execute === 'quit' && process.env.STUBBORN) return;
    qmp.write(JSON.stringify({ return: process.argv.slice(2), id }) + '\\r\\n');
    if (execute === 'quit') process.exit(0);
  }
});
`;

describe('QEMU as a process', () => {
  test('starts, answers, and ends in order', async (t) => {
    const qemu = await Qemu.start({ program: program(t, MONITOR), name: 'one', machine: { memory: 64 } });
    const args = await qemu.qmp.execute('show');
    assert.deepEqual(Array.isArray(args) && args.slice(0, 2), ['-name', 'one']);
    assert.equal(qemu.running, true);
    assert.deepEqual(await qemu.close(), { code: 0, signal: null });
    assert.equal(qemu.running, false);
    await assert.rejects(qemu.qmp.execute('late'), { name: 'VM_QEMU_FAILED' });
  });

  test('one that ends at once is an error with its last words', async (t) => {
    const failing = program(t, `console.error('first\\nno such device'); process.exit(1);`);
    await assert.rejects(Qemu.start({ program: failing, machine: {}, name: 'two' }), {
      name: 'VM_QEMU_FAILED',
      message: 'QEMU of two ended by exit status 1; the last it said:\nfirst\nno such device',
    });
  });

  test('a program that is not there is an error with the reason', async () => {
    await assert.rejects(Qemu.start({ program: '/nowhere/qemu', machine: {} }), (failure) => {
      assert.ok(failure instanceof Error && failure.name === 'VM_QEMU_FAILED');
      assert.match(String(failure.cause), /ENOENT/);
      return true;
    });
  });

  test('one that is killed says so, and a channel that nobody asked for is refused', async (t) => {
    const qemu = await Qemu.start({ program: program(t, MONITOR), machine: {} });
    const event = assert.rejects(qemu.qmp.event('NEVER'), { name: 'VM_QEMU_FAILED', message: /signal SIGKILL/ });
    assert.throws(() => qemu.channel('shell'), RangeError);
    assert.deepEqual(await qemu.kill(), { code: null, signal: 'SIGKILL' });
    await event;
  });
});

describe('the command line of QEMU', () => {
  const after = (args: readonly string[], name: string): (string | undefined)[] =>
    args.flatMap((arg, i) => (arg === name ? [args[i + 1]] : []));

  test('memory is shared, devices are JSON, channels become ports', () => {
    const args = qemuArguments(
      { memory: 64, devices: [intelIommu(), pcieRootPort('p1', 1), vfioUserDevice('/tmp/a,b.sock', { bus: 'p1' })] },
      [
        { name: 'qmp', fd: 3 },
        { name: 'shell', fd: 4 },
      ],
    );
    assert.deepEqual(after(args, '-object'), ['memory-backend-memfd,id=ram,size=64M,share=on']);
    assert.deepEqual(
      after(args, '-device')
        .filter((each) => each?.startsWith('{'))
        .map((each) => JSON.parse(each ?? '')),
      [
        { driver: 'intel-iommu', intremap: 'on', 'caching-mode': true },
        { driver: 'pcie-root-port', id: 'p1', chassis: 1, slot: 1 },
        { driver: 'vfio-user-pci', socket: { type: 'unix', path: '/tmp/a,b.sock' }, bus: 'p1' },
      ],
    );
    assert.deepEqual(after(args, '-chardev'), ['socket,id=qmp,fd=3', 'socket,id=shell,fd=4']);
    assert.ok(args.includes('isa-serial,chardev=shell,index=1'));
    assert.ok(!args.some((arg) => arg.includes('chardev=console')));
    assert.ok(args.includes('-no-reboot'));
  });

  test('memory that is not shared is QEMU’s own', () => {
    assert.deepEqual(after(qemuArguments({ shared: false }), '-object'), ['memory-backend-ram,id=ram,size=256M']);
  });

  test('without a CPU there is no CPU model; a machine that reboots is let to', () => {
    const args = qemuArguments({ accelerator: 'qtest', reboots: true });
    assert.deepEqual([args.includes('-cpu'), args.includes('-no-reboot')], [false, false]);
  });
});

const kitOf = (folder: string, extra: object = {}): QemuKit => {
  mkdirSync(join(folder, 'modules'), { recursive: true });
  for (const name of ['a', 'b', 'c_d']) writeFileSync(join(folder, 'modules', `${name}.ko`), name);
  writeFileSync(join(folder, 'busybox'), 'busybox', { mode: 0o755 });
  mkdirSync(join(folder, 'programs/usr/sbin'), { recursive: true });
  writeFileSync(join(folder, 'programs/usr/sbin/mkfs'), 'mkfs', { mode: 0o755 });
  const modules = {
    a: { file: 'modules/a.ko', needs: ['b', 'c_d'] },
    b: { file: 'modules/b.ko', needs: ['c_d'] },
    c_d: { file: 'modules/c_d.ko', needs: [] },
  };
  const manifest = {
    form: KIT_FORM,
    qemu: 'q',
    qemuVersion: '11',
    kernel: 'k',
    kernelVersion: '6',
    modules,
    busybox: 'busybox',
    programs: 'programs',
  };
  writeFileSync(join(folder, 'kit.json'), JSON.stringify({ ...manifest, ...extra }));
  return findQemuKit(folder);
};

/** Path, mode and data of each entry of an archive. */
function entriesOf(archive: Uint8Array): Map<string, { mode: number; data: string }> {
  const bytes = Buffer.from(archive);
  const entries = new Map<string, { mode: number; data: string }>();
  const field = (at: number, n: number): number =>
    Number.parseInt(bytes.toString('latin1', at + 6 + n * 8, at + 14 + n * 8), 16);
  for (let at = 0; at < bytes.length; ) {
    assert.equal(bytes.toString('latin1', at, at + 6), '070701');
    const nameEnd = at + 110 + field(at, 11);
    const name = bytes.toString('utf8', at + 110, nameEnd - 1);
    const dataAt = (nameEnd + 3) & ~3;
    const data = bytes.toString('utf8', dataAt, dataAt + field(at, 6));
    if (name === 'TRAILER!!!') return entries;
    entries.set(name, { mode: field(at, 1), data });
    at = (dataAt + field(at, 6) + 3) & ~3;
  }
  assert.fail('an archive ends with its trailer');
}

describe('a guest’s RAM disk', () => {
  test('an archive has folders above its files, and what was written last', () => {
    const archive = new CpioArchive().file('a/b/c', 'old').link('l', 'a/b/c').characterDevice('dev/x', 5, 1);
    archive.file('a/b/c', 'ünew', 0o755);
    const entries = entriesOf(archive.bytes());
    assert.deepEqual([...entries.keys()], ['a', 'a/b', 'a/b/c', 'l', 'dev', 'dev/x']);
    assert.deepEqual(entries.get('a/b/c'), { mode: 0o100755, data: 'ünew' });
    assert.deepEqual(entries.get('l'), { mode: 0o120777, data: 'a/b/c' });
    assert.equal(entries.get('a')?.mode, 0o040755);
  });

  test('modules are loaded after what they need, once', (t) => {
    const kit = kitOf(folderFor(t));
    assert.deepEqual(loadOrder(kit, ['b', 'a']), ['c_d', 'b', 'a']);
    assert.deepEqual(loadOrder(kit, ['c-d']), ['c_d']);
    assert.throws(() => loadOrder(kit, ['a', 'nvme-ng']), {
      name: 'VM_NO_MODULE',
      message: "the kit's kernel 6 has no module nvme-ng",
    });
  });

  test('holds busybox, modules, files and, when asked, the kit’s programs', (t) => {
    const kit = kitOf(folderFor(t));
    const plain = entriesOf(
      guestImage(kit, {
        modules: ['c-d limit=2 x=y', 'b'],
        furtherModules: ['a'],
        files: new Map([['start.sh', { data: 'echo' }]]),
      }),
    );
    assert.equal(plain.get('lib/modules/order')?.data, 'c_d limit=2 x=y\nb\n');
    assert.deepEqual(
      ['a', 'b', 'c_d'].map((name) => plain.get(`lib/modules/${name}.ko`)?.data),
      ['a', 'b', 'c_d'],
    );
    assert.equal(plain.get('start.sh')?.data, 'echo');
    assert.equal(plain.get('init')?.mode, 0o100755);
    assert.equal(plain.has('usr/sbin/mkfs'), false);
    assert.deepEqual(entriesOf(guestImage(kit, { programs: true })).get('usr/sbin/mkfs'), {
      mode: 0o100755,
      data: 'mkfs',
    });
  });
});

describe('the kit', () => {
  test('is where the environment says', () => {
    assert.equal(kitFolder({ PINION_QEMU_KIT: '/kit' }), '/kit');
    assert.equal(kitFolder({ XDG_CACHE_HOME: '/cache' }), `/cache/pinion/qemu-${KIT_FORM}`);
    assert.match(kitFolder({}), /\/\.cache\/pinion\/qemu-\d+$/);
  });

  test('has absolute paths', (t) => {
    const folder = folderFor(t);
    const kit = kitOf(folder);
    assert.deepEqual(
      [kit.qemu, kit.kernel, kit.modules.get('b')],
      [join(folder, 'q'), join(folder, 'k'), { file: join(folder, 'modules/b.ko'), needs: ['c_d'] }],
    );
  });

  const none = { name: 'VM_NO_QEMU', errno: 'ENOENT', message: /run 'npm run qemu:setup' once/ };
  test('one that is not there, not whole or of another form is none', (t) => {
    const folder = folderFor(t);
    assert.throws(() => findQemuKit(folder), none);
    writeFileSync(join(folder, 'kit.json'), '{"form": 1');
    assert.throws(() => findQemuKit(folder), none);
    assert.throws(() => kitOf(folder, { form: 0 }), none);
  });
});
