import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { closeAll, createMemfd, FaultySys, UnixSocket } from '@pinion/sys';
import {
  Client,
  type ClientOptions,
  COMMAND,
  encodeDmaAccess,
  encodeMessage,
  encodeVersion,
  Framer,
  HEADER_FLAG,
  type Message,
  type Receiver,
  RemoteDevice,
  type SmallWrite,
  SocketTransport,
  type Transport,
} from '@pinion/vfio-user';
import { failing, settle, World, type WorldOptions } from './world.js';

const none = new Uint8Array(0);

interface Rig {
  readonly world: World;
  readonly client: Client;
}

/** A client and a server of ours, connected. */
async function withBoth(
  body: (rig: Rig) => Promise<void>,
  { options = {}, more = {} }: { options?: WorldOptions; more?: Partial<ClientOptions> } = {},
): Promise<void> {
  const world = await World.start(options);
  const [ours, theirs] = UnixSocket.pair(world.sys);
  const session = world.server.accept(new SocketTransport(theirs));
  const client = await Client.connect({ transport: new SocketTransport(ours), clock: world.clock, ...more });
  await body({ world, client });
  client.close();
  await session.done;
  await world.end();
}

describe('a client of ours with a server of ours', () => {
  test('sees the device', () =>
    withBoth(async ({ client }) => {
      assert.deepEqual(await client.deviceInfo(), { resettable: true, pci: true, regions: 9, irqs: 5 });
      assert.deepEqual((await client.regionInfo(7)).info, { argsz: 32, index: 7, flags: 3, size: 0x100n, offset: 0n });
      assert.deepEqual(await client.irqInfo(2), { flags: 3, count: 8 });
      assert.deepEqual(await client.regionIoFds(0), { entries: [], files: [] });
    }));

  test('reads and writes registers, one by one, posted, and several at once', () =>
    withBoth(async ({ world, client }) => {
      await client.writeRegion(0, 4n, Uint8Array.of(1, 2));
      await client.writeRegion(0, 6n, Uint8Array.of(3), { posted: true });
      const many: SmallWrite[] = [7n, 8n].map((offset) => ({ region: 0, offset, data: Uint8Array.of(Number(offset)) }));
      assert.equal(await client.writeMany(many), 2);
      assert.equal(await client.writeMany(many, { posted: true }), 2);
      const bytes = new Uint8Array(5);
      await client.readRegion(0, 4n, bytes);
      assert.deepEqual([...bytes], [1, 2, 3, 7, 8]);
      assert.equal(world.device.writes.length, 6);
    }));

  test('gives memory, and takes it back', () =>
    withBoth(async ({ world, client }) => {
      const fd = createMemfd(world.sys, 'ram', 0x4000n);
      await client.mapDma({ address: 0x1000n, size: 0x2000n, fd, offset: 0x2000n });
      await client.mapDma({ address: 0x10000n, size: 0x1000n });
      fd.close();
      world.device.pins.pin(iovaFrame(0x1000n), 2, PROT_RW);
      await client.unmapDma({ address: 0x1000n, size: 0x2000n });
      assert.deepEqual(world.device.unmapped, [[0x1000n, 2]]);
      await client.unmapAll();
      assert.equal(world.pages.pieces, 0);
    }));

  test('hears the server’s errno by name', () =>
    withBoth(async ({ world, client }) => {
      await assert.rejects(client.unmapDma({ address: 0n, size: 0x1000n }), {
        name: 'VFIOUSER_REFUSED',
        errno: 'ENOENT',
      });
      world.device.fail = failing;
      await assert.rejects(client.readRegion(0, 0n, new Uint8Array(1)), { errno: 'ENOSPC' });
      await assert.rejects(client.regionInfo(9), { errno: 'EINVAL' });
    }));

  test('serves the server’s DMA messages, full duplex', () => {
    const ram = new Uint8Array(0x1000);
    return withBoth(
      async ({ world, client }) => {
        await client.mapDma({ address: 0n, size: 0x1000n });
        const dma = world.server.session?.dma;
        const written = dma?.write(0x10n, Uint8Array.of(1, 2, 3));
        const register = new Uint8Array(1);
        await Promise.all([written, client.readRegion(0, 0n, register), client.writeRegion(0, 0n, register)]);
        assert.deepEqual([...ram.subarray(0x10, 0x13)], [1, 2, 3]);
        const back = new Uint8Array(2);
        await dma?.read(0x11n, back);
        assert.deepEqual([...back], [2, 3]);
      },
      {
        more: {
          memory: {
            read: (address, bytes) => bytes.set(ram.subarray(Number(address), Number(address) + bytes.length)),
            write: (address, bytes) => ram.set(bytes, Number(address)),
          },
        },
      },
    );
  });

  test('without memory refuses DMA messages, and what its memory throws is the errno', async () => {
    await withBoth(async ({ world, client }) => {
      await client.mapDma({ address: 0n, size: 0x1000n });
      const dma = world.server.session?.dma;
      await assert.rejects(async () => dma?.read(0n, new Uint8Array(1)), { name: 'VFIOUSER_REFUSED', errno: 'EFAULT' });
    });
    const refuse = (): never => {
      throw failing;
    };
    await withBoth(
      async ({ world, client }) => {
        await client.mapDma({ address: 0n, size: 0x1000n });
        const dma = world.server.session?.dma;
        await assert.rejects(async () => dma?.write(0n, new Uint8Array(1)), { errno: 'ENOSPC' });
      },
      { more: { memory: { read: refuse, write: refuse } } },
    );
  });

  test('a call that is not answered in time fails; a late answer is passed over', () => {
    const held: (() => void)[] = [];
    const reset = (): Promise<void> => new Promise((resolve) => held.push(resolve));
    return withBoth(
      async ({ world, client }) => {
        const failed = assert.rejects(client.reset(), { name: 'VFIOUSER_TIMEOUT', errno: 'ETIMEDOUT' });
        await settle();
        world.clock.advance(5000);
        await failed;
        for (const release of held) release();
        assert.equal((await client.deviceInfo()).pci, true);
      },
      { options: { ops: { reset } } },
    );
  });

  test('calls fail when the server goes, and so do later ones', () =>
    withBoth(async ({ world, client }) => {
      const waiting = assert.rejects(client.reset(), { name: 'VFIOUSER_DISCONNECTED', errno: 'ENODEV' });
      world.server.session?.close();
      await waiting;
      await assert.rejects(client.reset(), { name: 'VFIOUSER_DISCONNECTED' });
      assert.equal(await client.done, undefined);
    }));
});

describe('a remote device', () => {
  test('interrupts that are taken away, or a device that is closed, while they are connected: no line is left', () =>
    withBoth(async ({ world, client }) => {
      const device = await RemoteDevice.open(client, world.sys, 'far');
      const lines = (): number => world.sys.ledger.labels().filter((label) => label.startsWith('interrupt')).length;
      const connecting = device.connectIrqs(() => {});
      await device.connectIrqs(undefined);
      await connecting;
      assert.equal(lines(), 0);
      const again = device.connectIrqs(() => {});
      device.close();
      await again;
      assert.equal(lines(), 0);
    }));

  test('an interrupt line that cannot be watched is closed', () =>
    withBoth(async ({ world, client }) => {
      const sys = new FaultySys(world.sys);
      const device = await RemoteDevice.open(client, sys, 'far');
      sys.fail('watch', 2, 'EMFILE');
      await assert.rejects(
        device.connectIrqs(() => {}),
        { errno: 'EMFILE' },
      );
      device.close();
    }));

  test('has the shape of a device: registers, reset, interrupts', () =>
    withBoth(async ({ world, client }) => {
      const device = await RemoteDevice.open(client, world.sys, 'far');
      assert.deepEqual(
        device.regions.map(({ index, size, readable, writable }) => [index, size, readable, writable]),
        [
          [0, 0x1000, true, true],
          [1, 0x10, true, false],
          [2, 0x10, false, true],
          [7, 0x100, true, true],
        ],
      );
      assert.deepEqual(
        device.irqs.map(({ index, count }) => [index, count]),
        [
          [0, 1],
          [1, 1],
          [2, 8],
          [3, 1],
          [4, 1],
        ],
      );
      await device.writeRegion(7, 0, Uint8Array.of(0x34));
      const bytes = new Uint8Array(1);
      await device.readRegion(7, 0, bytes);
      await device.reset();
      assert.deepEqual([bytes[0], world.device.resets], [0x34, 1]);

      const raised: string[] = [];
      await device.connectIrqs((index, vector) => raised.push(`${index}.${vector}`));
      world.device.sink?.(2, 7);
      world.device.sink?.(0, 0);
      world.device.sink?.(0, 0);
      await settle();
      assert.deepEqual(raised.sort(), ['0.0', '2.7']);
      await device.unmask(0);
      await settle();
      assert.deepEqual(raised, ['0.0', '2.7', '0.0']);
      await device.connectIrqs(undefined);
      world.device.sink?.(2, 7);
      await settle();
      assert.equal(raised.length, 3);
      device.close();
    }));

  test('brings the files of its regions', () => {
    const about = { index: 4, name: 'BAR4', size: 0x4000, readable: true, writable: true };
    const areas = [{ offset: 0x1000n, size: 0x1000n }];
    return withBoth(
      async ({ world, client }) => {
        const device = await RemoteDevice.open(client, world.sys, 'far');
        const [region] = device.regions;
        assert.deepEqual([region?.mapping?.areas, region?.mapping?.offset], [areas, 0x8000n]);
        const bytes = Uint8Array.of(1);
        if (region?.mapping !== undefined) world.sys.pwrite(region.mapping.fd.number, bytes, 0x9000n);
        const seen = new Uint8Array(1);
        if (world.file !== undefined) world.sys.pread(world.file.number, seen, 0x9000n);
        assert.equal(seen[0], 1);
        device.close();
      },
      { options: { regions: (fd) => [{ ...about, mapping: { fd, offset: 0x8000n, areas } }] } },
    );
  });
});

/** A server that says what a test wants. */
class ScriptedTransport implements Transport {
  waiting = 0;
  paused = false;
  readonly sent: Message[] = [];
  closed = false;
  #receiver: Receiver | undefined;
  readonly #framer = new Framer(1 << 21, closeAll);
  readonly #answer: (message: Message) => Uint8Array | undefined;

  constructor(answer: (message: Message) => Uint8Array | undefined) {
    this.#answer = answer;
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
  }
  send(bytes: Uint8Array): void {
    this.#framer.push(bytes, [], (message) => {
      this.sent.push(message);
      const answer = this.#answer(message);
      if (answer !== undefined) this.#receiver?.received(answer, []);
    });
  }
  say(bytes: Uint8Array): void {
    this.#receiver?.received(bytes, []);
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  drain(): void {
    this.waiting = 0;
    this.#receiver?.drained();
  }
  close(): void {
    this.closed = true;
  }
}

const reply = ({ id, command }: Message, payload: Uint8Array, error = 0): Uint8Array =>
  encodeMessage({ id, command, flags: error === 0 ? 1 : 0x21, error, payload });
const capabilities = { maxMsgFds: 1, maxDataXferSize: 4096, maxDmaMaps: 1, pgsizes: 4096, writeMultiple: false };
const good = encodeVersion({ major: 0, minor: 0, capabilities });

describe('a client and a server that misbehaves', () => {
  const VERSIONS: readonly (readonly [what: string, payload: Uint8Array, error: number, name: string])[] = [
    ['an error', none, 22, 'VFIOUSER_REFUSED'],
    ['nothing', none, 0, 'VFIOUSER_BAD_SIZE'],
    ['another major', Uint8Array.of(1, 0, 0, 0), 0, 'VFIOUSER_BAD_VERSION'],
    ['a higher minor', Uint8Array.of(0, 0, 2, 0), 0, 'VFIOUSER_BAD_VERSION'],
    ['broken JSON', Uint8Array.of(0, 0, 0, 0, 0x7b, 0), 0, 'VFIOUSER_BAD_VERSION'],
  ];
  for (const [what, payload, error, name] of VERSIONS) {
    test(`VERSION answered with ${what} ends the connection`, async () => {
      const transport = new ScriptedTransport((message) => reply(message, payload, error));
      await assert.rejects(Client.connect({ transport }), { name });
      assert.ok(transport.closed);
    });
  }

  async function scripted(answer: (message: Message) => Uint8Array | undefined): Promise<[Client, ScriptedTransport]> {
    const transport = new ScriptedTransport((message) =>
      message.command === COMMAND.VERSION ? reply(message, good) : answer(message),
    );
    return [await Client.connect({ transport, limit: 0 }), transport];
  }

  const region = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replace(/\s/g, ''), 'hex'));
  const CALLS: readonly (readonly [
    what: string,
    payload: Uint8Array,
    call: (client: Client) => Promise<unknown>,
    name: string,
  ])[] = [
    [
      'a short read',
      region('0000000000000000 00000000 01000000 aa'),
      (c) => c.readRegion(0, 0n, new Uint8Array(2)),
      'BAD_SIZE',
    ],
    [
      'a long read',
      region('0000000000000000 00000000 03000000 aabbcc'),
      (c) => c.readRegion(0, 0n, new Uint8Array(2)),
      'TOO_LARGE',
    ],
    [
      'a read that lies',
      region('0000000000000000 00000000 02000000 aa'),
      (c) => c.readRegion(0, 0n, new Uint8Array(2)),
      'BAD_SIZE',
    ],
    ['an unmap without its payload', none, (c) => c.unmapDma({ address: 0n, size: 0x1000n }), 'BAD_SIZE'],
    ['half a device', region('10000000'), (c) => c.deviceInfo(), 'BAD_SIZE'],
    [
      'a region with a chain that goes nowhere',
      region(`20000000 0f000000 00000000 ffffffff${'00'.repeat(16)}`),
      (c) => c.regionInfo(0),
      'BAD_SIZE',
    ],
    ['half an interrupt', none, (c) => c.irqInfo(0), 'BAD_SIZE'],
    [
      'a feature of nothing',
      none,
      (c) => c.feature({ feature: 1, get: true, set: false, probe: false, data: none }),
      'BAD_SIZE',
    ],
  ];
  for (const [what, payload, call, name] of CALLS) {
    test(`${what} is an error, and the connection goes on`, async () => {
      const [client, transport] = await scripted((message) => reply(message, payload));
      await assert.rejects(call(client), { name: `VFIOUSER_${name}` });
      assert.equal(transport.closed, false);
      client.close();
    });
  }

  test('a server that asks for more room for ever is asked twice', async () => {
    const [client, transport] = await scripted((message) => reply(message, region(`50000000${'00'.repeat(28)}`)));
    assert.equal((await client.regionInfo(0)).info.argsz, 80);
    assert.equal(transport.sent.length, 3);
    client.close();
  });

  const BREAKS: readonly (readonly [what: string, bytes: Uint8Array])[] = [
    ['a reply to nothing', encodeMessage({ id: 77, command: 9, flags: 1, error: 0, payload: none })],
    ['a header of size 0', new Uint8Array(16)],
    ['a message of 4 GiB', Uint8Array.from([0, 0, 9, 0, 255, 255, 255, 255, ...new Uint8Array(8)])],
  ];
  for (const [what, bytes] of BREAKS) {
    test(`${what} ends the connection`, async () => {
      const [client, transport] = await scripted(() => undefined);
      const waiting = assert.rejects(client.reset(), { name: 'VFIOUSER_DISCONNECTED' });
      transport.say(bytes);
      await waiting;
      assert.ok(transport.closed);
      assert.match(String(await client.done), /VFIOUSER_BAD_MESSAGE/);
    });
  }

  const COMMANDS: readonly (readonly [what: string, command: number, payload: Uint8Array, error: number])[] = [
    ['a command that is not the server’s', COMMAND.REGION_READ, none, 22],
    ['an unknown command', 99, none, 22],
    ['half a DMA_READ', COMMAND.DMA_READ, none, 22],
    ['a DMA_READ of 1 EiB', COMMAND.DMA_READ, encodeDmaAccess(0n, 2 ** 60), 7],
    ['a DMA_WRITE that lies', COMMAND.DMA_WRITE, encodeDmaAccess(0n, 8, new Uint8Array(4)), 22],
  ];
  for (const [what, command, payload, error] of COMMANDS) {
    test(`${what} is answered with errno ${error}`, async () => {
      const [client, transport] = await scripted(() => undefined);
      transport.say(encodeMessage({ id: 5, command, flags: 0, error: 0, payload }));
      transport.say(encodeMessage({ id: 6, command, flags: HEADER_FLAG.NO_REPLY, error: 0, payload }));
      await settle(2);
      const answers = transport.sent.slice(1).map(({ id, flags, error: code }) => [id, flags, code]);
      assert.deepEqual(answers, [[5, 0x21, error]]);
      client.close();
    });
  }

  test('a server that leaves 65536 commands unanswered is sent no further one, except such as nobody answers', async () => {
    const [client, transport] = await scripted(() => undefined);
    const unanswered = Array.from({ length: 65_536 }, () => client.call(COMMAND.DEVICE_RESET, none));
    await assert.rejects(client.reset(), { name: 'VFIOUSER_UNANSWERED', errno: 'EBUSY' });
    await client.writeRegion(0, 0n, Uint8Array.of(1), { posted: true });
    assert.equal(transport.sent.length, 1 + 65_536 + 1);
    transport.say(encodeMessage({ id: 3, command: COMMAND.DEVICE_RESET, flags: 1, error: 0, payload: none }));
    const again = client.reset();
    assert.equal(transport.sent.at(-1)?.id, 3);
    client.close();
    await assert.rejects(again, { name: 'VFIOUSER_DISCONNECTED' });
    assert.equal((await Promise.allSettled(unanswered)).filter(({ status }) => status === 'fulfilled').length, 1);
  });

  test('a server that asks for memory without end gets it as fast as it takes it', async () => {
    let asked = 0;
    let go = (): void => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const memory = {
      read: () => {
        asked += 1;
        return held;
      },
      write: () => {},
    };
    const transport = new ScriptedTransport((message) =>
      message.command === COMMAND.VERSION ? reply(message, good) : undefined,
    );
    const client = await Client.connect({ transport, limit: 0, memory });
    const ask = { id: 1, command: COMMAND.DMA_READ, flags: 0, error: 0, payload: encodeDmaAccess(0n, 1 << 20) };
    const say = (times: number): void => {
      for (let n = 0; n < times; n += 1) transport.say(encodeMessage(ask));
    };
    say(300);
    assert.deepEqual([asked, transport.paused], [16, true]);
    transport.waiting = 3 << 20;
    go();
    await settle(3);
    assert.deepEqual(
      [asked, transport.sent.length],
      [16, 1 + 16],
      'what was begun is answered, and nothing more is begun',
    );
    transport.drain();
    await settle(3);
    assert.deepEqual([asked, transport.sent.length, transport.paused], [300, 1 + 300, false]);
    transport.waiting = 3 << 20;
    say(2);
    client.close();
    transport.drain();
    assert.equal(asked, 300);
  });

  test('a server that takes no small writes is not sent any', async () => {
    const [client, transport] = await scripted(() => undefined);
    await assert.rejects(client.writeMany([]), { name: 'VFIOUSER_NOT_SUPPORTED' });
    assert.equal(transport.sent.length, 1);
    client.close();
  });

  test('what is larger than the server takes is cut', async () => {
    const [client, transport] = await scripted((message) => reply(message, message.payload.subarray(0, 16)));
    await client.writeRegion(0, 0n, new Uint8Array(10_000));
    assert.deepEqual(
      transport.sent.slice(1).map(({ payload }) => payload.length - 16),
      [4096, 4096, 1808],
    );
    client.close();
  });
});
