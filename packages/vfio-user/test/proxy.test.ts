import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { createMemfd, UnixSocket } from '@pinion/sys';
import {
  Client,
  COMMAND,
  commandName,
  type FaultRule,
  FaultRules,
  isReply,
  MessageProxy,
  type ProxyRecord,
  SocketTransport,
} from '@pinion/vfio-user';
import { settle, World } from './world.js';

interface Rig {
  readonly world: World;
  readonly client: Client;
  readonly records: readonly ProxyRecord[];
  readonly proxy: MessageProxy;
}

/** A client, a proxy and a server, connected. */
async function withProxy(rules: readonly FaultRule[], body: (rig: Rig) => Promise<void>): Promise<void> {
  const world = await World.start();
  const [clientEnd, proxyIn] = UnixSocket.pair(world.sys);
  const [proxyOut, serverEnd] = UnixSocket.pair(world.sys);
  const records: ProxyRecord[] = [];
  const session = world.server.accept(new SocketTransport(serverEnd));
  const proxy = new MessageProxy({
    client: new SocketTransport(proxyIn),
    server: new SocketTransport(proxyOut),
    clock: world.clock,
    rules,
    record: (record) => records.push(record),
  });
  proxy.start();
  const client = await Client.connect({ transport: new SocketTransport(clientEnd), clock: world.clock });
  await body({ world, client, records, proxy });
  client.close();
  await session.done;
  await proxy.done;
  await world.end();
}

const told = (records: readonly ProxyRecord[]): string[] =>
  records.map(
    ({ direction, message }) => `${direction} ${commandName(message.command)}${isReply(message) ? ' reply' : ''}`,
  );

describe('a proxy', () => {
  test('passes everything on, descriptors too, and records it', () =>
    withProxy([], async ({ world, client, records }) => {
      const fd = createMemfd(world.sys, 'ram', 0x1000n);
      await client.mapDma({ address: 0n, size: 0x1000n, fd });
      fd.close();
      world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      await client.writeRegion(0, 0n, Uint8Array.of(7), { posted: true });
      await client.unmapDma({ address: 0n, size: 0x1000n });
      assert.deepEqual(told(records), [
        'to-server VERSION',
        'to-client VERSION reply',
        'to-server DMA_MAP',
        'to-client DMA_MAP reply',
        'to-server REGION_WRITE',
        'to-server DMA_UNMAP',
        'to-client DMA_UNMAP reply',
      ]);
      assert.deepEqual([records[2]?.message.fds, world.device.bytes.get(0)?.[0]], [1, 7]);
    }));

  test('drops: the client gives up in its own time', () =>
    withProxy([{ command: COMMAND.DEVICE_RESET, fault: { kind: 'drop' } }], async ({ world, client }) => {
      const failed = assert.rejects(client.reset(), { name: 'VFIOUSER_TIMEOUT' });
      await settle();
      world.clock.advance(5000);
      await failed;
      assert.equal(world.device.resets, 0);
    }));

  test('delays a message, and holds back what comes behind it', () =>
    withProxy(
      [{ command: COMMAND.DEVICE_RESET, reply: false, fault: { kind: 'delay', milliseconds: 100 } }],
      async ({ world, client }) => {
        const order: string[] = [];
        const both = [client.reset().then(() => order.push('reset')), client.irqInfo(0).then(() => order.push('irq'))];
        await settle();
        assert.deepEqual([order, world.device.resets], [[], 0]);
        world.clock.advance(100);
        await Promise.all(both);
        assert.deepEqual(order, ['reset', 'irq']);
      },
    ));

  test('holds back no more than it has room for: behind a message that is delayed its sender has to wait', () =>
    withProxy(
      [{ command: COMMAND.DEVICE_RESET, reply: false, fault: { kind: 'delay', milliseconds: 100 } }],
      async ({ world, client }) => {
        const fd = createMemfd(world.sys, 'ram', 0x1000n);
        const fds = Array.from({ length: 250 }, () => fd);
        const reset = client.reset();
        const refused = Array.from({ length: 20 }, () =>
          assert.rejects(client.call(COMMAND.DMA_MAP, new Uint8Array(0), fds), { errno: 'EINVAL' }),
        );
        await settle(40);
        assert.ok(world.sys.ledger.count('fd') < 1000);
        world.clock.advance(100);
        await Promise.all([reset, ...refused]);
        fd.close();
      },
    ));

  test('answers with an error instead of the server, or turns its reply into one', () =>
    withProxy(
      [
        { command: COMMAND.DEVICE_RESET, reply: false, times: 1, fault: { kind: 'error', errno: 16 } },
        { command: COMMAND.DEVICE_RESET, reply: true, times: 1, fault: { kind: 'error', errno: 28 } },
      ],
      async ({ world, client }) => {
        await assert.rejects(client.reset(), { errno: 'EBUSY' });
        assert.equal(world.device.resets, 0);
        await assert.rejects(client.reset(), { errno: 'ENOSPC' });
        assert.equal(world.device.resets, 1);
        await client.reset();
      },
    ));

  test('never answers a posted write, whatever the rule', () =>
    withProxy([{ command: COMMAND.REGION_WRITE, fault: { kind: 'error', errno: 5 } }], async ({ world, client }) => {
      await client.writeRegion(0, 0n, Uint8Array.of(1), { posted: true });
      await client.reset();
      assert.deepEqual(world.device.writes, []);
    }));

  for (const [kind, reply] of [
    ['short', true],
    ['oversized', true],
    ['short', false],
    ['oversized', false],
  ] as const) {
    test(`makes a ${reply ? 'reply' : 'command'} ${kind}; both sides survive it`, () =>
      withProxy([{ command: COMMAND.REGION_READ, reply, times: 1, fault: { kind, bytes: 1 } }], async ({ client }) => {
        await assert.rejects(client.readRegion(0, 0n, new Uint8Array(4)), { errno: 'EINVAL' });
        await client.readRegion(0, 0n, new Uint8Array(4));
      }));
  }

  for (const fault of [{ kind: 'close' }, { kind: 'cut', bytes: 7 }, { kind: 'cut', bytes: 0 }] as const) {
    test(`ends both connections: ${JSON.stringify(fault)}`, () =>
      withProxy([{ command: COMMAND.DEVICE_GET_INFO, skip: 1, fault }], async ({ world, client, proxy }) => {
        const fd = createMemfd(world.sys, 'ram', 0x1000n);
        await client.mapDma({ address: 0n, size: 0x1000n, fd });
        fd.close();
        await assert.rejects(client.deviceInfo(), { name: 'VFIOUSER_DISCONNECTED' });
        await proxy.done;
        await world.server.session?.done;
        assert.equal(world.pages.pieces, 0);
      }));
  }

  test('counts: a rule skips some, then takes some', () =>
    withProxy(
      [{ command: COMMAND.DEVICE_RESET, reply: false, skip: 1, times: 2, fault: { kind: 'error', errno: 16 } }],
      async ({ world, client }) => {
        const outcomes: string[] = [];
        for (let n = 0; n < 5; n += 1)
          await client.reset().then(
            () => outcomes.push('ok'),
            () => outcomes.push('no'),
          );
        assert.deepEqual(outcomes, ['ok', 'no', 'no', 'ok', 'ok']);
        assert.equal(world.device.resets, 3);
      },
    ));

  test('that is closed while a message waits lets go of its descriptors', () =>
    withProxy(
      [{ command: COMMAND.DMA_MAP, fault: { kind: 'delay', milliseconds: 50 } }],
      async ({ world, client, proxy }) => {
        const fd = createMemfd(world.sys, 'ram', 0x1000n);
        const mapping = assert.rejects(client.mapDma({ address: 0n, size: 0x1000n, fd }), {
          name: 'VFIOUSER_DISCONNECTED',
        });
        fd.close();
        await settle();
        proxy.close();
        await mapping;
        world.clock.advance(100);
      },
    ));
});

describe('rules with a chance', () => {
  const message = { id: 1, command: COMMAND.REGION_READ, flags: 0, error: 0, payload: new Uint8Array(0), fds: [] };
  const FALLS: readonly (readonly [what: string, dice: number, decided: boolean])[] = [
    ['below it', 0.24, true],
    ['at it', 0.25, false],
    ['above it', 0.9, false],
  ];
  for (const [what, dice, decided] of FALLS) {
    test(`the dice fall ${what}`, () => {
      const rules = new FaultRules([{ chance: 0.25, fault: { kind: 'drop' } }], () => dice);
      assert.equal(rules.decide('to-server', message) !== undefined, decided);
    });
  }

  test('dice are thrown for messages of its window alone, and a message counts whether they fall or not', () => {
    let thrown = 0;
    const rules = new FaultRules([{ skip: 1, times: 2, chance: 1, fault: { kind: 'drop' } }], () => {
      thrown += 1;
      return 0.5;
    });
    const decided = [1, 2, 3, 4].map(() => rules.decide('to-server', message)?.kind);
    assert.deepEqual([decided, thrown], [[undefined, 'drop', 'drop', undefined], 2]);
  });
});
