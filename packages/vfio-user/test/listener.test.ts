import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FaultySys, UnixListener, UnixSocket } from '@pinion/sys';
import { activatedSockets, Client, ServerListener, SocketTransport } from '@pinion/vfio-user';
import { settle, World } from './world.js';

const connect = (world: World, path: string): Promise<Client> =>
  Client.connect({ transport: new SocketTransport(UnixSocket.connect(world.sys, path)), clock: world.clock, limit: 0 });

describe('a listener', () => {
  test('lets clients in one after the other; the second waits for the first to go', async () => {
    const world = await World.start();
    const listener = new ServerListener({ sys: world.sys, server: world.server, on: { path: '/run/device.sock' } });
    const first = await connect(world, '/run/device.sock');
    await first.writeRegion(0, 0n, Uint8Array.of(5));
    let served = false;
    const coming = connect(world, '/run/device.sock').finally(() => {
      served = true;
    });
    await settle();
    assert.equal(served, false);
    first.close();
    const second = await coming;
    const bytes = new Uint8Array(1);
    await second.readRegion(0, 0n, bytes);
    assert.equal(bytes[0], 5);
    await listener.close();
    await listener.done;
    await second.done;
    await world.end();
  });

  test('serves a connected descriptor that was inherited, then is done', async () => {
    const world = await World.start();
    const [ours, theirs] = UnixSocket.pair(world.sys);
    const listener = new ServerListener({ sys: world.sys, server: world.server, on: { fd: theirs.fd.release() } });
    const client = await Client.connect({ transport: new SocketTransport(ours), clock: world.clock });
    await client.reset();
    client.close();
    await listener.done;
    assert.equal(world.device.resets, 1);
    await world.end();
  });

  test('serves a listening descriptor that was inherited', async () => {
    const world = await World.start();
    const inherited = UnixListener.listen(world.sys, '/run/activated.sock').fd.release();
    const listener = new ServerListener({ sys: world.sys, server: world.server, on: { fd: inherited } });
    const client = await connect(world, '/run/activated.sock');
    await client.reset();
    client.close();
    await listener.close();
    await listener.close();
    await world.end();
  });

  test('refuses a path that is taken', async () => {
    const world = await World.start();
    const other = UnixListener.listen(world.sys, '/run/taken.sock');
    const listen = (): unknown =>
      new ServerListener({ sys: world.sys, server: world.server, on: { path: '/run/taken.sock' } });
    assert.throws(listen, { errno: 'EADDRINUSE' });
    other.close();
    await world.end();
  });

  test('nothing is left when the socket cannot be watched', async () => {
    const world = await World.start();
    const sys = new FaultySys(world.sys);
    sys.fail('watch', 1, 'EMFILE');
    const listen = (): unknown => new ServerListener({ sys, server: world.server, on: { path: '/run/device.sock' } });
    assert.throws(listen, { errno: 'EMFILE' });
    assert.deepEqual(world.sys.ledger.labels(), []);
    await world.end();
  });

  test('tries a client that it could not let in again a little later, and not all the time until then', async () => {
    const warnings: string[] = [];
    const world = await World.start();
    const sys = new FaultySys(world.sys);
    const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
    const { server, clock } = world;
    const listener = new ServerListener({ sys, server, clock, log, on: { path: '/run/device.sock' } });
    sys.fail('accept', 1, 'EMFILE');
    const coming = connect(world, '/run/device.sock');
    await settle();
    assert.deepEqual([sys.calls('accept'), warnings], [1, ['a client could not be let in']]);
    clock.advance(100);
    const client = await coming;
    assert.equal(sys.calls('accept'), 2);
    client.close();
    await client.done;
    sys.fail('accept', 1, 'EMFILE');
    await settle();
    const never = UnixSocket.connect(world.sys, '/run/device.sock');
    await settle();
    await listener.close();
    assert.equal(clock.pending, 0, 'nobody is tried after the end');
    never.close();
    await world.end();
  });

  test('is done when the next client could not be heard of', async () => {
    const world = await World.start();
    const sys = new FaultySys(world.sys);
    const listener = new ServerListener({ sys, server: world.server, on: { path: '/run/device.sock' } });
    const first = await connect(world, '/run/device.sock');
    sys.fail('watch', 1, 'EMFILE');
    first.close();
    await listener.done;
    assert.throws(() => UnixSocket.connect(world.sys, '/run/device.sock'), { errno: 'ENOENT' });
    await first.done;
    await world.end();
  });

  const unnamed = { fd: 3, name: undefined };
  const ENVIRONMENTS: readonly (readonly [what: string, environment: Record<string, string>, sockets: unknown])[] = [
    ['nothing', {}, []],
    ['one', { LISTEN_PID: '42', LISTEN_FDS: '1' }, [unnamed]],
    ['two', { LISTEN_PID: '42', LISTEN_FDS: '2' }, [unnamed, { fd: 4, name: undefined }]],
    [
      'two, one with a name',
      { LISTEN_PID: '42', LISTEN_FDS: '2', LISTEN_FDNAMES: 'unknown:disk' },
      [unnamed, { fd: 4, name: 'disk' }],
    ],
    ['fewer names than sockets', { LISTEN_PID: '42', LISTEN_FDS: '1', LISTEN_FDNAMES: '' }, [unnamed]],
    ['one for another process', { LISTEN_PID: '41', LISTEN_FDS: '1' }, []],
    ['none', { LISTEN_PID: '42', LISTEN_FDS: '0' }, []],
  ];
  for (const [what, environment, sockets] of ENVIRONMENTS) {
    test(`knows what systemd passed: ${what}`, () => assert.deepEqual(activatedSockets(environment, 42), sockets));
  }

  for (const count of ['x', '-1', '1.5', '', '1025']) {
    test(`refuses a count of sockets that is none: '${count}'`, () => {
      const environment = { LISTEN_PID: '42', LISTEN_FDS: count };
      assert.throws(() => activatedSockets(environment, 42), { name: 'VFIOUSER_BAD_ACTIVATION', errno: 'EINVAL' });
    });
  }
});
