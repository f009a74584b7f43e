import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeSys, UnixSocket } from '@pinion/sys';
import { COMMAND, encodeRegionAccess, type Receiver, ServerListener, SocketTransport } from '@pinion/vfio-user';
import { RawClient, settle, World } from './world.js';

/** A system whose other processes run when the CPU is yielded. */
class YieldingSys extends FakeSys {
  yields = 0;
  others: () => void = () => {};

  override yieldCpu(): void {
    this.yields += 1;
    this.others();
  }
}

interface Rig {
  readonly sys: YieldingSys;
  readonly far: UnixSocket;
  readonly got: string[];
  close(): void;
}

function rig(spin: number, receiver: Partial<Receiver> = {}): Rig {
  const sys = new YieldingSys();
  const [near, far] = UnixSocket.pair(sys);
  const got: string[] = [];
  const transport = new SocketTransport(near, { spin });
  transport.start({
    received: (bytes) => void got.push(Buffer.from(bytes).toString()),
    quiet: () => void got.push('.'),
    idle: () => true,
    drained: () => {},
    closed: () => {},
    ...receiver,
  });
  const close = (): void => {
    transport.close();
    far.close();
    assert.deepEqual(sys.ledger.labels(), []);
  };
  return { sys, far, got, close };
}

/** Says one letter at every yield, `count` of them. */
function sayAtYields({ sys, far }: Rig, count: number): void {
  let said = 0;
  sys.others = () => {
    if (said < count) far.trySend(Uint8Array.of(97 + (said % 26)));
    said += 1;
  };
}

/** Waits until the first bytes were taken, and no turn longer. */
async function firstTurn({ got }: Rig): Promise<void> {
  for (let turn = 0; got.length === 0 && turn < 20; turn += 1) await settle(1);
}

describe('a transport that spins', () => {
  test('takes what comes while it yields, without going back to the event loop', async () => {
    const it = rig(3);
    sayAtYields(it, 4);
    it.far.trySend(Uint8Array.of(65));
    await firstTurn(it);
    assert.equal(it.got.join(''), 'A.a.b.c.d.');
    assert.equal(it.sys.yields, 4 + 3, 'one for each message, then as many as it was told');
    it.close();
  });

  test('gives the event loop its turn after 32 messages in a row', async () => {
    const it = rig(3);
    sayAtYields(it, 100);
    it.far.trySend(Uint8Array.of(65));
    await firstTurn(it);
    assert.equal(it.sys.yields, 32);
    it.close();
  });

  const STILL: readonly (readonly [what: string, spin: number, receiver: Partial<Receiver>])[] = [
    ['it was not told to', 0, {}],
    ['its receiver is busy', 3, { idle: () => false }],
    ['its receiver does not say', 3, { idle: undefined as never }], // why: as a receiver that has no such method
  ];
  for (const [what, spin, receiver] of STILL) {
    test(`does not yield when ${what}`, async () => {
      const it = rig(spin, receiver);
      it.far.trySend(Uint8Array.of(65));
      await firstTurn(it);
      assert.equal(it.sys.yields, 0);
      it.close();
    });
  }

  test('stops when the peer has gone', async () => {
    const it = rig(3);
    it.sys.others = () => it.far.close();
    it.far.trySend(Uint8Array.of(65));
    await firstTurn(it);
    assert.deepEqual([it.got.join(''), it.sys.yields], ['A.', 1]);
    it.close();
  });

  test('serves requests, also those whose handlers take their time', async () => {
    const sys = new YieldingSys();
    const world = await World.start({ sys, ops: { reset: () => Promise.resolve() } });
    const listener = new ServerListener({ sys, server: world.server, on: { path: '/s' }, transport: { spin: 2 } });
    const far = UnixSocket.connect(sys, '/s');
    await settle();
    const session = world.server.session;
    assert.ok(session);
    const client = new RawClient(sys, far, session);
    await client.version();
    for (let n = 0; n < 3; n += 1) {
      assert.equal(await client.errno(COMMAND.DEVICE_RESET, new Uint8Array(0)), 0);
      assert.equal(await client.errno(COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 })), 0);
    }
    assert.ok(sys.yields > 0);
    await client.close();
    await listener.close();
    await world.end();
  });
});
