import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createMemfd, linuxSys, UnixListener, UnixSocket } from '@pinion/sys';
import { Client, SocketTransport } from '@pinion/vfio-user';
import { eventsOf, Folder, MAIN, Pinion } from './process.js';

const CONFIG = 7;
const CLEAN = { mappings: 0, pins: 0, lockedPages: 0, open: [] };
const sys = linuxSys();

const over = (socket: UnixSocket): Promise<Client> => Client.connect({ transport: new SocketTransport(socket) });
const connect = (path: string): Promise<Client> => over(UnixSocket.connect(sys, path));

/** Vendor and device, as lspci shows them. */
async function identity(client: Client): Promise<string> {
  const bytes = new Uint8Array(4);
  await client.readRegion(CONFIG, 0n, bytes);
  const view = new DataView(bytes.buffer);
  return [view.getUint16(0, true), view.getUint16(2, true)].map((id) => id.toString(16).padStart(4, '0')).join(':');
}

function makeImage(path: string): void {
  writeFileSync(path, '');
  truncateSync(path, 1 << 20);
}

/** A process that ended as it should, with --json. */
function assertClean({ code, out, err }: { code: number | null; out: string; err: string }): void {
  const last = eventsOf(out).at(-1);
  assert.deepEqual([err, last?.['event'], last?.['left'], last?.['ok'], code], ['', 'stopped', CLEAN, true, 0]);
}

const PLUGIN = `
const driver = (colour) => ({
  name: 'lamp', deviceApi: 'vfio-pci', types: [{ id: 'small' }, { id: 'large' }], pins: false,
  create: ({ type }) => ({
    regions: [{ index: 0, name: 'bar0', size: 16, readable: true, writable: false }],
    readRegion(_index, offset, bytes) {
      bytes.set(new TextEncoder().encode((colour + ' ' + type).padEnd(16)).subarray(offset, offset + bytes.length));
    },
  }),
});
const plugin = (colour) => ({ name: 'lamp', core: '^0.1', register: (scope) => scope.vendorDriver(driver(colour)) });
`;

async function colourOf(client: Client): Promise<string> {
  const bytes = new Uint8Array(16);
  await client.readRegion(0, 0n, bytes);
  return new TextDecoder().decode(bytes).trim();
}

// Most of the time of a test is the start of its processes.
describe('pinion serve', { concurrency: 4 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`serves until ${signal}, and leaves neither socket nor anything else`, async () => {
      using folder = new Folder();
      makeImage(folder.file('disk.img'));
      const args = ['serve', '--device', 'nvme', '--image', 'disk.img', '--socket-path', 's.sock'];
      using pinion = new Pinion(args, { folder: folder.path });
      await pinion.says('nvme: listening on');
      const client = await connect(folder.file('s.sock'));
      assert.equal(await identity(client), '1234:11f5');
      const { code, out, err } = await pinion.stop(signal); // with its client there
      assert.match(
        out,
        /QEMU: -device '\{"driver":"vfio-user-pci","socket":\{"path":".*\/s\.sock","type":"unix"\}\}'\n/,
      );
      assert.match(out, new RegExp(`stopping: ${signal}\n`));
      assert.match(out, /stopped: 0 mappings, 0 pins, 0 locked pages, 0 descriptors left\n$/);
      assert.deepEqual([code, err, existsSync(folder.file('s.sock'))], [0, '', false]);
      client.close();
    });
  }

  test('lets one client after the other in, and tells of each; the device keeps its state', async () => {
    using folder = new Folder();
    using pinion = new Pinion(['serve', '--device', 'edu', '--socket-path', 's.sock', '--json'], {
      folder: folder.path,
    });
    await pinion.says('"ready"');
    const first = await connect(folder.file('s.sock'));
    await first.writeRegion(CONFIG, 0x3cn, Uint8Array.of(11));
    first.close();
    await pinion.says('"disconnected"');
    const second = await connect(folder.file('s.sock'));
    const line = new Uint8Array(1);
    await second.readRegion(CONFIG, 0x3cn, line);
    assert.equal(line[0], 11);
    const end = await pinion.stop();
    assertClean(end);
    assert.deepEqual(
      eventsOf(end.out).map(({ event, client }) => (client === undefined ? event : `${event} ${client}`)),
      ['listening', 'ready', 'connected 1', 'disconnected 1', 'connected 2', 'stopping', 'disconnected 2', 'stopped'],
    );
    second.close();
  });

  test('devices of one VM share a container: the same memory mapped by both is one mapping', async () => {
    using folder = new Folder();
    makeImage(folder.file('disk.img'));
    const devices = ['nvme,image=disk.img,socket=a.sock', 'gpio-idio-16,socket=b.sock', 'edu,socket=c.sock,vm=other'];
    const args = ['serve', ...devices.flatMap((device) => ['--device', device]), '--json', '--log-level', 'debug'];
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('"ready"');
    const clients = await Promise.all(['a', 'b', 'c'].map((name) => connect(folder.file(`${name}.sock`))));
    using ram = createMemfd(sys, 'ram', 1n << 20n);
    for (const client of clients) await client.mapDma({ address: 0n, size: 1n << 20n, fd: ram });
    for (const client of clients) client.close();
    const end = await pinion.stop();
    assertClean(end);
    const mapped = eventsOf(end.out).filter(({ event }) => event === 'dma:mapped');
    const unmapped = eventsOf(end.out).filter(({ event }) => event === 'dma:unmapped');
    assert.deepEqual(
      mapped.map(({ who, first, last }) => [who, first, last]),
      [
        ['c0', '0x0', '0xfffff'],
        ['c1', '0x0', '0xfffff'],
      ],
    );
    assert.equal(unmapped.length, 2);
  });

  test('--vm auto: which devices belong together is seen from the memory that their clients map', async () => {
    using folder = new Folder();
    const devices = ['a', 'b', 'c'].flatMap((name) => ['--device', `edu,name=${name},socket=${name}.sock`]);
    const args = ['serve', ...devices, '--vm', 'auto', '--json', '--log-level', 'debug'];
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('"ready"');
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => connect(folder.file(`${name}.sock`))));
    assert.ok(a && b && c);
    using ram = createMemfd(sys, 'ram', 1n << 20n);
    using other = createMemfd(sys, 'ram', 1n << 20n);
    await a.mapDma({ address: 0n, size: 1n << 20n, fd: ram });
    await b.mapDma({ address: 0n, size: 1n << 20n, fd: ram });
    await c.mapDma({ address: 0n, size: 1n << 20n, fd: other });
    for (const client of [a, b, c]) client.close();
    const end = await pinion.stop();
    assertClean(end);
    const count = (name: string): number => eventsOf(end.out).filter(({ event }) => event === name).length;
    assert.deepEqual([count('dma:mapped'), count('dma:unmapped')], [2, 2]);
  });

  test('a socket that nobody listens on is replaced; one in use, or of somebody else at the end, stays', async () => {
    using folder = new Folder();
    const path = folder.file('s.sock');
    const args = ['serve', '--device', 'edu', '--socket-path', 's.sock'];
    UnixListener.listen(sys, path).close(); // the file stays, as after a crash
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('listening');
    const refused = await Pinion.run(args, { folder: folder.path });
    assert.equal(refused.code, 1);
    assert.match(refused.err, /^CLI_SOCKET_TAKEN \(EADDRINUSE\): .*s\.sock is taken by a process that listens there/);
    assert.ok(statSync(path).isSocket());
    const end = await pinion.stop();
    assert.deepEqual([end.code, existsSync(path)], [0, false]);
    using next = new Pinion(args, { folder: folder.path });
    await next.says('listening');
    const client = await connect(path);
    assert.equal(await identity(client), '1234:11e8');
    client.close();
    await next.stop();
  });

  test('a vGPU of a type: its ids, its OpRegion as a typed region, and a wrong type', async () => {
    using folder = new Folder();
    const args = ['serve', '--device', 'gvt', '--socket-path', 's.sock'];
    using pinion = new Pinion([...args, '--type', 'V5_4', '--json'], { folder: folder.path });
    await pinion.says('"ready"');
    const client = await connect(folder.file('s.sock'));
    assert.equal(await identity(client), '8086:1912');
    assert.equal((await client.deviceInfo()).regions, 11);
    const { info } = await client.regionInfo(9);
    assert.deepEqual([info.size, info.type], [8192n, { type: 0x8000_8086, subtype: 1 }]);
    client.close();
    assertClean(await pinion.stop());
    const refused = await Pinion.run([...args, '--type', 'V9_9'], { folder: folder.path });
    assert.equal(refused.code, 1);
    assert.match(refused.err, /^CORE_NO_TYPE \(ENOENT\): .*V9_9; it offers V5_8, V5_4, V5_2/);
  });

  test('--fd with a connection: one client, then the end', async () => {
    using folder = new Folder();
    const [ours, theirs] = UnixSocket.pair(sys);
    const args = ['serve', '--device', 'gpio-idio-16', '--fd', '3', '--json'];
    using pinion = new Pinion(args, { folder: folder.path, fds: [theirs.fd.number] });
    theirs.close();
    const client = await over(ours);
    assert.equal(await identity(client), '494f:0dc8');
    client.close();
    const end = await pinion.ended;
    assertClean(end);
    assert.deepEqual(eventsOf(end.out).at(-2)?.['reason'], 'no client can come any more');
  });

  test('--fd with a listener: clients come and go', async () => {
    using folder = new Folder();
    const listener = UnixListener.listen(sys, folder.file('s.sock'));
    const args = ['serve', '--device', 'edu', '--fd', '3', '--json'];
    using pinion = new Pinion(args, { folder: folder.path, fds: [listener.fd.number] });
    listener.close();
    await pinion.says('"ready"');
    for (let client = 0; client < 2; client += 1) {
      const each = await connect(folder.file('s.sock'));
      await each.reset();
      each.close();
    }
    await pinion.says('"disconnected"');
    assertClean(await pinion.stop());
    assert.ok(existsSync(folder.file('s.sock')), 'whoever made the socket removes it');
  });

  test('systemd passes sockets by name', async () => {
    using folder = new Folder();
    const a = UnixListener.listen(sys, folder.file('a.sock'));
    const b = UnixListener.listen(sys, folder.file('b.sock'));
    const command = `LISTEN_PID=$$ exec "${process.execPath}" "${MAIN}" serve --json --device edu --device gpio-idio-16,name=io`;
    const environment = { LISTEN_FDS: '2', LISTEN_FDNAMES: 'io:unknown' };
    const options = {
      folder: folder.path,
      environment,
      fds: [a.fd.number, b.fd.number],
      program: ['sh', '-c', command],
    };
    using pinion = new Pinion([], options);
    a.close();
    b.close();
    await pinion.says('"ready"');
    const clients = await Promise.all(['a', 'b'].map((name) => connect(folder.file(`${name}.sock`))));
    assert.deepEqual(await Promise.all(clients.map(identity)), ['494f:0dc8', '1234:11e8']);
    for (const client of clients) client.close();
    assertClean(await pinion.stop());
  });

  test('--once ends after the first client of every device', async () => {
    using folder = new Folder();
    const args = ['serve', '--device', 'edu', '--socket-path', 's.sock', '--once', '--json'];
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('"ready"');
    (await connect(folder.file('s.sock'))).close();
    assertClean(await pinion.ended);
  });

  test('a plugin that is an object, with the type that was chosen', async () => {
    using folder = new Folder();
    writeFileSync(folder.file('lamp.mjs'), `${PLUGIN}\nexport const lamp = plugin('white');`);
    const args = ['serve', '--plugin', './lamp.mjs', '--type', 'large', '--socket-path', 's.sock', '--json'];
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('"ready"');
    const client = await connect(folder.file('s.sock'));
    assert.equal(await colourOf(client), 'white large');
    client.close();
    assertClean(await pinion.stop());
  });

  test('a file of devices, and a plugin that is a function: each device has its own options', async () => {
    using folder = new Folder();
    writeFileSync(folder.file('lamp.mjs'), `${PLUGIN}\nexport default ({ colour }) => plugin(colour);`);
    const file = `plugins: [./lamp.mjs]
memlock: 1M
devices:
  - { device: lamp, type: small, socket: red.sock, options: { colour: red } }
  - { device: lamp, type: large, socket: blue.sock, options: { colour: blue } }
  - { device: edu, name: teacher, socket: edu.sock }
`;
    writeFileSync(folder.file('devices.yaml'), file);
    using pinion = new Pinion(['serve', '--config', folder.file('devices.yaml'), '--json'], { folder: '/' });
    await pinion.says('"ready"');
    const clients = await Promise.all(['red', 'blue'].map((name) => connect(folder.file(`${name}.sock`))));
    assert.deepEqual(await Promise.all(clients.map(colourOf)), ['red small', 'blue large']);
    for (const client of clients) client.close();
    const end = await pinion.stop();
    assertClean(end);
    const names = eventsOf(end.out).filter(({ event }) => event === 'listening');
    assert.deepEqual(
      names.map(({ device }) => device),
      ['lamp', 'lamp.2', 'teacher'],
    );
  });

  test('a plugin whose drivers are of a class, once for each device', async () => {
    using folder = new Folder();
    const plugin = `
class Counter {
  #made = 0; name = 'counter'; deviceApi = 'vfio-pci'; types = [{ id: 'a' }]; pins = false;
  create() {
    this.#made += 1;
    const made = this.#made;
    return { regions: [{ index: 0, name: 'bar0', size: 16, readable: true, writable: false }], readRegion: (_i, _o, bytes) => bytes.fill(48 + made) };
  }
}
class Plugin {
  get name() { return 'counter'; }
  get core() { return '^0.1'; }
  register(scope) { scope.vendorDriver(new Counter()); }
}
export default new Plugin();`;
    writeFileSync(folder.file('counter.mjs'), plugin);
    const devices = ['a', 'b'].flatMap((name) => ['--device', `counter,name=${name},socket=${name}.sock`]);
    using pinion = new Pinion(['serve', '--plugin', './counter.mjs', ...devices, '--json'], { folder: folder.path });
    await pinion.says('"ready"');
    const clients = await Promise.all(['a', 'b'].map((name) => connect(folder.file(`${name}.sock`))));
    assert.deepEqual(await Promise.all(clients.map(colourOf)), ['1'.repeat(16), '2'.repeat(16)]);
    for (const client of clients) client.close();
    assertClean(await pinion.stop());
  });

  test('--dialect cloud-hypervisor answers no read with an error; --memlock limits what a VM may pin', async () => {
    using folder = new Folder();
    const pinner = PLUGIN.replace('pins: false', 'pins: true')
      .replace(
        'create: ({ type }) => ({',
        'create: ({ type, pins }) => ({ dmaUnmap() {}, writeRegion() { pins.pin(0, 2, 3); },',
      )
      .replace('writable: false', 'writable: true');
    writeFileSync(folder.file('pinner.mjs'), `${pinner}\nexport default plugin('white');`);
    const options = [
      '--type',
      'small',
      '--socket-path',
      's.sock',
      '--memlock',
      '4096',
      '--dialect',
      'cloud-hypervisor',
    ];
    using pinion = new Pinion(['serve', '--plugin', './pinner.mjs', ...options], { folder: folder.path });
    await pinion.says('listening');
    const client = await connect(folder.file('s.sock'));
    const bytes = new Uint8Array(4);
    await client.readRegion(5, 0n, bytes);
    assert.deepEqual([...bytes], [255, 255, 255, 255]);
    using ram = createMemfd(sys, 'ram', 8192n);
    await client.mapDma({ address: 0n, size: 8192n, fd: ram });
    await assert.rejects(client.writeRegion(0, 0n, Uint8Array.of(1)), { errno: 'ENOMEM' });
    client.close();
    const { code, err } = await pinion.stop();
    assert.equal(code, 0);
    assert.match(err, /REGION_READ failed: VFIOUSER_/);
    assert.match(err, /TYPE1_MEMLOCK \(ENOMEM\)/);
  });

  test('a failure half-way leaves no socket behind', async () => {
    using folder = new Folder();
    writeFileSync(folder.file('file'), '');
    const devices = ['--device', 'edu,socket=a.sock', '--device', 'edu,socket=file'];
    const { code, err } = await Pinion.run(['serve', ...devices], { folder: folder.path });
    assert.equal(code, 1);
    assert.match(err, /^CLI_SOCKET_TAKEN/);
    assert.equal(existsSync(folder.file('a.sock')), false);
  });

  test('a client that is killed in the middle of everything leaves nothing', async () => {
    using folder = new Folder();
    using pinion = new Pinion(['serve', '--device', 'edu', '--socket-path', 's.sock', '--json'], {
      folder: folder.path,
    });
    await pinion.says('"ready"');
    const socket = UnixSocket.connect(sys, folder.file('s.sock'));
    const client = await over(socket);
    using ram = createMemfd(sys, 'ram', 1n << 20n);
    await client.mapDma({ address: 0n, size: 1n << 20n, fd: ram });
    void client.mapDma({ address: 1n << 20n, size: 1n << 20n, fd: ram }).catch(() => {}); // why: nobody will answer
    socket.shutdown('both');
    await pinion.says('"disconnected"');
    assertClean(await pinion.stop());
    client.close();
  });

  test('a second signal does not wait for a driver that never ends', async () => {
    using folder = new Folder();
    const stuck = PLUGIN.replace(
      'create: ({ type }) => ({',
      'create: ({ type }) => ({ close: () => new Promise(() => {}),',
    );
    writeFileSync(folder.file('stuck.mjs'), `${stuck}\nexport default plugin('white');`);
    const args = ['serve', '--plugin', './stuck.mjs', '--type', 'small', '--socket-path', 's.sock'];
    using pinion = new Pinion(args, { folder: folder.path });
    await pinion.says('listening');
    pinion.child.kill('SIGTERM');
    await pinion.says('stopping: SIGTERM');
    const { code } = await pinion.stop();
    assert.equal(code, 130);
  });

  test('goes on when nobody reads what it prints any more', async () => {
    using folder = new Folder();
    using pinion = new Pinion(['serve', '--device', 'edu', '--socket-path', 's.sock', '--json'], {
      folder: folder.path,
    });
    await pinion.says('"ready"');
    pinion.child.stdout?.destroy();
    for (let round = 0; round < 2; round += 1) {
      const client = await connect(folder.file('s.sock'));
      assert.equal(await identity(client), '1234:11e8');
      client.close();
    }
    const { code, err } = await pinion.stop();
    assert.deepEqual([code, err, existsSync(folder.file('s.sock'))], [0, '', false]);
  });

  test('the command that npm links can be run', async () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    const bin = fileURLToPath(new URL(`../../${manifest.bin.pinion}`, import.meta.url));
    const printed = new Promise<string>((resolve, reject) => {
      execFile(bin, ['--version'], (failure, out) => (failure === null ? resolve(out) : reject(failure)));
    });
    assert.equal(await printed, `${manifest.version}\n`);
  });
});
