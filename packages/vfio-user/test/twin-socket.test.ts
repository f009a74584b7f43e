import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMemfd, FakeSys, FaultySys, type Fd, UnixSocket } from '@pinion/sys';
import {
  Client,
  type ClientOptions,
  COMMAND,
  decodeVersion,
  encodeDmaMap,
  encodeMessage,
  encodeVersion,
  SocketTransport,
} from '@pinion/vfio-user';
import { settle, World } from './world.js';

const asks = { supported: true };

describe('a twin socket', () => {
  async function withTwin(
    body: (world: World, client: Client) => Promise<void>,
    more: Partial<ClientOptions> = {},
  ): Promise<void> {
    const world = await World.start();
    const [ours, theirs] = UnixSocket.pair(world.sys);
    const session = world.server.accept(new SocketTransport(theirs));
    const transport = new SocketTransport(ours);
    const client = await Client.connect({ transport, clock: world.clock, twinSocket: true, ...more });
    await body(world, client);
    client.close();
    await session.done;
    await world.end();
  }

  test('carries DMA messages; requests go on as before', () => {
    const ram = new Uint8Array(0x1000).fill(3);
    const memory = {
      read: (address: bigint, bytes: Uint8Array) =>
        bytes.set(ram.subarray(Number(address), Number(address) + bytes.length)),
      write: (address: bigint, bytes: Uint8Array) => ram.set(bytes, Number(address)),
    };
    return withTwin(
      async (world, client) => {
        assert.deepEqual(client.server.twinSocket, { supported: true, fdIndex: 0 });
        await client.mapDma({ address: 0n, size: 0x1000n });
        const bytes = new Uint8Array(2);
        const dma = world.server.session?.dma;
        await Promise.all([dma?.read(0n, bytes), client.reset(), dma?.write(8n, Uint8Array.of(9))]);
        assert.deepEqual([...bytes, ram[8]], [3, 3, 9]);
      },
      { memory },
    );
  });

  test('is not offered to a client that does not ask, or cannot receive a descriptor', async () => {
    for (const changes of [{}, { twinSocket: { supported: false } }, { twinSocket: asks, maxMsgFds: 0 }]) {
      const world = await World.start();
      const client = await world.client(false);
      const reply = await client.version(changes);
      assert.deepEqual([decodeVersion(reply.payload).capabilities.twinSocket, reply.fds], [undefined, []]);
      await client.close();
      await world.end();
    }
  });

  test('comes with one descriptor, in less room than QEMU has; DMA messages come there alone', async () => {
    const world = await World.start();
    const client = await world.client(false);
    const reply = await client.version({ twinSocket: asks });
    assert.ok(reply.payload.length - 4 <= 193);
    const [fd, ...more] = reply.fds;
    assert.ok(fd);
    assert.deepEqual(more, []);
    const twin = UnixSocket.adopt(fd);
    await client.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: 0x1000n }));
    const reading = assert.rejects(client.session.dma.read(0n, new Uint8Array(4)), { name: 'VFIOUSER_DISCONNECTED' });
    await client.idle();
    assert.deepEqual(client.received, []);
    twin.trySend(
      encodeMessage({ id: 1, command: COMMAND.REGION_READ, flags: 0, error: 0, payload: new Uint8Array(16) }),
    );
    await reading; // a command of the client there ends the connection
    await settle();
    client.pump();
    assert.ok(client.eof);
    twin.close();
    await client.close();
    await world.end();
  });

  test('that cannot be made (no free descriptor) is a VERSION that failed: the client is told, and the connection ends', async () => {
    const sys = new FaultySys(new FakeSys());
    const world = await World.start({ sys });
    const client = await world.client(false);
    sys.fail('socketPair', 1, 'EMFILE');
    const reply = await client.version({ twinSocket: asks });
    assert.deepEqual([reply.flags, reply.error], [0x21, 24]);
    await client.session.done;
    assert.equal(client.session.client, undefined);
    await client.close();
    await world.end();
  });

  test('that is closed or broken ends the connection', async () => {
    for (const breakIt of [
      (twin: UnixSocket) => twin.close(),
      (twin: UnixSocket) => void twin.trySend(new Uint8Array(16)),
    ]) {
      const world = await World.start();
      const client = await world.client(false);
      const { fds } = await client.version({ twinSocket: asks });
      const twin = new UnixSocket(fds[0] as Fd); // why: the test before has shown that there is one
      breakIt(twin);
      await client.idle();
      assert.ok(client.eof);
      twin.close();
      await client.close();
      await world.end();
    }
  });

  const ANSWERS: readonly (readonly [what: string, index: number, fds: 'none' | 'memory'])[] = [
    ['is not there', 0, 'none'],
    ['has another index', 1, 'memory'],
    ['is no socket', 0, 'memory'],
  ];
  for (const [what, fdIndex, kind] of ANSWERS) {
    test(`that ${what} is refused by the client, and nothing is left open`, async () => {
      const world = await World.start();
      const [ours, theirs] = UnixSocket.pair(world.sys);
      const connecting = assert.rejects(
        Client.connect({ transport: new SocketTransport(ours), clock: world.clock, twinSocket: true }),
        { name: 'VFIOUSER_BAD_VERSION' },
      );
      const capabilities = { maxMsgFds: 1, maxDataXferSize: 4096, maxDmaMaps: 1, pgsizes: 4096, writeMultiple: false };
      const payload = encodeVersion({
        major: 0,
        minor: 0,
        capabilities: { ...capabilities, twinSocket: { supported: true, fdIndex } },
      });
      const file = createMemfd(world.sys, 'no socket', 0x1000n);
      theirs.trySend(
        encodeMessage({ id: 0, command: COMMAND.VERSION, flags: 1, error: 0, payload }),
        kind === 'none' ? [] : [file],
      );
      await connecting;
      file.close();
      theirs.close();
      await world.end();
    });
  }
});
