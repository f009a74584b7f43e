import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { parseDeviceSpec, planDevices, uuidOf } from '@pinion/cli';
import fc from 'fast-check';
import { inProcess } from './console.js';
import { Folder } from './process.js';

const PLUGIN = `export const plugin = { name: 'mine', core: '^0.1', register(scope) {
  scope.vendorDriver({ name: 'mine', deviceApi: 'vfio-pci', types: [{ id: 'a' }, { id: 'b' }], pins: false, create: () => ({}) });
} };`;

/** What is wrong, the arguments after `serve`, the exit code, and the whole of the message or its beginning. */
const WRONG: readonly (readonly [what: string, args: string, code: number, message: RegExp])[] = [
  ['nothing to serve', '', 2, /^CLI_BAD_PLAN \(EINVAL\): there is nothing to serve; name a --device or a --config$/],
  [
    'an unknown option',
    '--divice nvme',
    2,
    /^CLI_USAGE \(EINVAL\): unknown option '--divice' .*see 'pinion serve --help'$/,
  ],
  ['an argument', 'nvme', 2, /^CLI_USAGE \(EINVAL\): too many arguments/],
  ['an option without value', '--device', 2, /^CLI_USAGE \(EINVAL\): option '--device .* argument missing/],
  [
    'an unknown device',
    '--device floppy,socket=s',
    2,
    /^CLI_NO_DEVICE_KIND \(ENOENT\): there is no device 'floppy'; there is .*nvme/,
  ],
  ['no socket', '--device edu', 2, /^CLI_BAD_PLAN \(EINVAL\): device edu has no socket; give it one/],
  ['socket and fd', '--device edu,socket=s,fd=3', 2, /device edu has both socket and fd/],
  [
    'a socket twice',
    '--device edu,socket=s --device edu,socket=./s',
    2,
    /two devices have socket .*\/s; each needs its own/,
  ],
  ['a descriptor twice', '--device edu,fd=3 --device edu,fd=3', 2, /two devices have descriptor 3/],
  ['a name twice', '--device edu,name=a,fd=3 --device edu,name=a,fd=4', 2, /two devices have the name a/],
  [
    'a UUID twice',
    `--device edu,fd=3,uuid=${'1'.repeat(8)}-1111-1111-1111-${'1'.repeat(12)} --device edu,fd=4,uuid=${'1'.repeat(8)}-1111-1111-1111-${'1'.repeat(12)}`,
    2,
    /two devices have the UUID/,
  ],
  [
    'an unknown key',
    '--device edu,sokcet=s',
    2,
    /^CLI_BAD_DEVICE \(EINVAL\): --device edu,sokcet=s: sokcet unknown key; there is device, name/,
  ],
  ['a key twice', '--device edu,socket=a,socket=b', 2, /socket is given twice/],
  ['a key beside the device too', '--device edu,socket=a --socket-path b', 2, /socket is given twice/],
  ['several problems', '--device edu,fd=x,uuid=y', 2, /fd wants a whole number 0..65535, is 'x'; uuid wants a UUID/],
  ['a device without a kind', '--device ,socket=s', 2, /CLI_BAD_DEVICE .*device wants the name of a device/],
  ['an image that is not there', '--device nvme,image=none.img,socket=s', 2, /image there is no file .*none\.img/],
  ['an image that is a folder', '--device nvme,image=folder,socket=s', 2, /image .*folder is no regular file/],
  [
    'a size that is none',
    '--device nvme,size=big,socket=s',
    2,
    /size wants bytes such as 4096, 0x1000 or 64M, is 'big'/,
  ],
  [
    'an option that the device does not take',
    '--device edu,image=empty.img,socket=s',
    2,
    /device edu \(edu\) takes no options, but has image/,
  ],
  [
    'interrupts that there are not',
    '--device nvme,interrupts=bell,socket=s',
    2,
    /interrupts there is no kind of interrupt 'bell'; there is msix, msi, intx/,
  ],
  [
    'an option of plugins',
    '--device nvme,option.colour=red,socket=s',
    2,
    /takes image, size, readOnly, interrupts, but has options/,
  ],
  [
    'a short option beside two devices',
    '--device edu,fd=3 --device edu,fd=4 --image empty.img',
    2,
    /image: an option of its own is for the only device/,
  ],
  ['a short option without a device', '--config two.yaml --fd 3', 2, /fd: an option of its own is for the only device/],
  ['a descriptor that is no number', '--device edu --fd x', 2, /CLI_BAD_DEVICE .*fd wants a whole number/],
  [
    'an unknown profile',
    '--device edu,fd=3 --profile linux-2.4',
    2,
    /^CLI_USAGE .*'linux-2\.4' is invalid. Allowed choices are fixed/,
  ],
  [
    'an unknown quirk',
    '--device edu,fd=3 --quirk odd',
    2,
    /^CLI_BAD_VALUE \(EINVAL\): --quirk wants one of .*, is 'odd'$/,
  ],
  ['a memlock that is none', '--device edu,fd=3 --memlock lots', 2, /^CLI_BAD_VALUE \(EINVAL\): --memlock wants bytes/],
  ['a spin that is none', '--device edu,fd=3 --spin fast', 2, /^CLI_BAD_VALUE \(EINVAL\): --spin wants a whole number/],
  ['an unknown IOMMU type', '--device edu,fd=3 --iommu smmu', 2, /Allowed choices are type1v2, type1/],
  ['an unknown log level', '--device edu,fd=3 --log-level loud', 2, /Allowed choices are error, warn, info, debug/],
  ['an image of no bytes', '--device nvme,image=empty.img,socket=s', 1, /^NVME_BAD_IMAGE \(EINVAL\)/],
  ['a type that there is not', '--device edu,type=tape,socket=s', 1, /^CORE_NO_TYPE \(ENOENT\)/],
  ['a descriptor that is not there', '--device edu --fd 999', 1, /^SYS_CALL_FAILED \(EBADF\)/],
  ['a folder that is not there', '--device edu --socket-path none/s', 1, /^SYS_CALL_FAILED \(ENOENT\)/],
  ['a path that is too long', `--device edu --socket-path ${'x'.repeat(120)}`, 1, /^SYS_BAD_ARGUMENT \(EINVAL\)/],
  [
    'a file where the socket should be',
    '--device edu --socket-path two.yaml',
    1,
    /^CLI_SOCKET_TAKEN \(EADDRINUSE\): .*two\.yaml is taken by a file that is no socket/,
  ],
  [
    'a plugin that is not there',
    '--plugin ./none.js --socket-path s',
    1,
    /^CLI_NO_PLUGIN \(ENOENT\): plugin \.\/none\.js cannot be loaded/,
  ],
  [
    'a package that is not there',
    '--plugin no-such-package --socket-path s',
    1,
    /^CLI_NO_PLUGIN \(ENOENT\): plugin no-such-package/,
  ],
  ['a module that does not compile', '--plugin ./broken.mjs --socket-path s', 1, /^CLI_NO_PLUGIN \(ENOENT\)/],
  [
    'a module without a plugin',
    '--plugin ./nothing.mjs --socket-path s',
    2,
    /^CLI_NOT_A_PLUGIN \(EINVAL\): \.\/nothing\.mjs is no plugin: it exports 0 plugins and 0 functions/,
  ],
  [
    'a function that makes none',
    '--plugin ./makes-none.mjs --socket-path s',
    2,
    /CLI_NOT_A_PLUGIN .*what its function makes is none/,
  ],
  [
    'several types and no choice',
    '--plugin ./mine.mjs --socket-path s',
    2,
    /driver mine has several types; choose one with type=: a, b/,
  ],
  [
    "a plugin's driver by a wrong name",
    '--plugin ./mine.mjs --device yours,socket=s',
    2,
    /there is no device 'yours'; there is .*mine/,
  ],
  ['a plugin for another core', '--plugin ./old.mjs --socket-path s', 1, /^CORE_PLUGIN_VERSION \(EINVAL\)/],
  [
    'a file of devices that is not there',
    '--config none.yaml',
    1,
    /^CLI_NO_FILE \(ENOENT\): .*none\.yaml cannot be read/,
  ],
  [
    'a file of devices with problems',
    '--config bad.yaml',
    2,
    /^CLI_BAD_CONFIG \(EINVAL\): 3 problem\(s\), nothing was started\n.*bad\.yaml:1:1 .*\n.*bad\.yaml:2:.*\n.*bad\.yaml:3:/,
  ],
];

describe('pinion serve refuses', () => {
  const folder = new Folder();
  after(() => folder[Symbol.dispose]());
  mkdirSync(folder.file('folder'));
  writeFileSync(folder.file('empty.img'), '');
  writeFileSync(folder.file('mine.mjs'), PLUGIN);
  writeFileSync(folder.file('old.mjs'), PLUGIN.replace('^0.1', '^7.0'));
  writeFileSync(folder.file('broken.mjs'), 'export const');
  writeFileSync(folder.file('nothing.mjs'), 'export const value = 1;');
  writeFileSync(folder.file('makes-none.mjs'), 'export default () => ({});');
  writeFileSync(folder.file('two.yaml'), 'devices:\n  - { device: edu, fd: 3 }\n  - { device: edu, fd: 4 }\n');
  writeFileSync(folder.file('bad.yaml'), 'colour: red\nprofile: odd\ndevices: [{ device: edu, fd: -1 }]\n');

  for (const [what, args, code, message] of WRONG) {
    test(what, async () => {
      const end = await inProcess(['serve', ...args.split(' ').filter((arg) => arg !== '')], folder.path);
      assert.equal(end.out, '');
      assert.match(end.err.trimEnd(), message);
      assert.equal(end.code, code);
    });
  }

  test('with --json, as one line', async () => {
    const { code, out, err } = await inProcess(['serve', '--json'], folder.path);
    const { event, name, errno, message } = JSON.parse(out);
    assert.deepEqual([code, err, event, name, errno], [2, '', 'failed', 'CLI_BAD_PLAN', 'EINVAL']);
    assert.match(message, /there is nothing to serve/);
  });

  test('what systemd passes, when that is no count', async () => {
    const environment = { LISTEN_PID: '42', LISTEN_FDS: 'x' };
    const { code, err } = await inProcess(['serve', '--device', 'edu'], folder.path, environment);
    assert.deepEqual([code, err.slice(0, 33)], [2, 'VFIOUSER_BAD_ACTIVATION (EINVAL):']);
  });

  test('an unknown command, and none', async () => {
    const unknown = await inProcess(['server'], folder.path);
    assert.deepEqual([unknown.code, unknown.out], [2, '']);
    assert.match(unknown.err, /^CLI_USAGE \(EINVAL\): unknown command 'server' .*see 'pinion --help'\n$/);
    const none = await inProcess([], folder.path);
    assert.deepEqual([none.code, none.out], [2, '']);
    assert.match(none.err, /^CLI_USAGE \(EINVAL\): no command was given; see 'pinion --help'\n$/);
  });

  test('nothing when asked for help, version or capabilities', async () => {
    const help = await inProcess(['serve', '--help'], folder.path);
    assert.deepEqual([help.code, help.err], [0, '']);
    assert.match(help.out, /^Usage: pinion serve/);
    assert.match((await inProcess(['--version'], folder.path)).out, /^\d+\.\d+\.\d+\n$/);
    const { code, out } = await inProcess(['serve', '--print-capabilities'], folder.path);
    assert.equal(code, 0);
    const { type, protocol, devices } = JSON.parse(out);
    assert.deepEqual([type, protocol], ['vfio-user', { major: 0, minor: 1 }]);
    assert.ok(devices.some(({ name }: { name: string }) => name === 'nvme'));
  });
});

describe('the text of a --device', () => {
  const about = { folder: '/srv' };

  test('keys, flags, numbers, doubled commas and options of plugins', () => {
    const spec = 'mine,name=a,socket=/run/x,,y.sock,readOnly,size=64M,option.colour=red,option.level=3';
    assert.deepEqual(parseDeviceSpec(spec, about), {
      device: 'mine',
      name: 'a',
      socket: '/run/x,y.sock',
      readOnly: true,
      size: 64n << 20n,
      options: { colour: 'red', level: 3 },
    });
  });

  test('a relative socket begins at the folder', () => {
    assert.equal(parseDeviceSpec('edu,socket=a/s', about).socket, '/srv/a/s');
  });

  test('any name of a socket comes through', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 60 }), (name) => {
        const path = `/${name.replaceAll(/[/.]/g, '_')}`;
        assert.equal(parseDeviceSpec(`edu,socket=${path.replaceAll(',', ',,')}`, about).socket, path);
      }),
    );
  });
});

describe('the plan of devices', () => {
  const edu = { device: 'edu' };

  test('devices of one kind are numbered from the second on, and never take a name that was given', () => {
    const planned = planDevices(
      [
        { ...edu, fd: 3 },
        { ...edu, fd: 4 },
        { ...edu, fd: 5, name: 'edu.2' },
      ],
      { activated: [] },
    );
    assert.deepEqual(
      planned.map(({ name }) => name),
      ['edu', 'edu.3', 'edu.2'],
    );
  });

  test('UUIDs are the same at every start, and differ by VM and by name', () => {
    assert.equal(uuidOf('vm', 'edu'), uuidOf('vm', 'edu'));
    assert.equal(new Set([uuidOf('vm', 'edu'), uuidOf('vm', 'nvme'), uuidOf('other', 'edu')]).size, 3);
    assert.match(uuidOf('vm', 'edu'), /^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  });

  test('sockets of systemd go by name first, then in order', () => {
    const activated = [
      { fd: 3, name: undefined },
      { fd: 4, name: 'second' },
    ];
    const requests = [
      { ...edu, name: 'second' },
      { ...edu, name: 'first' },
    ];
    assert.deepEqual(
      planDevices(requests, { activated }).map(({ on }) => on),
      [{ fd: 4 }, { fd: 3 }],
    );
  });

  test('a socket of systemd without a device is refused', () => {
    const activated = [{ fd: 3, name: 'odd' }];
    assert.throws(() => planDevices([{ ...edu, fd: 5 }], { activated }), { name: 'CLI_BAD_PLAN' });
    assert.throws(() => planDevices([], { activated }), /systemd passed socket odd, and no device is left for it/);
  });
});
