// Several sockets of one VM are recognised by the memory that they map.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMediator, iovaFrame, PROT_RW } from '@pinion/core';
import { createMemfd, FakeSys, type Fd, UnixSocket } from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import {
  Client,
  ClientPages,
  type PooledSeat,
  Server,
  type Session,
  SocketTransport,
  servedDevice,
  VmPool,
} from '@pinion/vfio-user';
import { failing, type TestDevice, testPlugin } from './world.js';

const SIZE = 0x10000n;
const RAM = { address: 0n, size: SIZE };
const uuid = (n: number): string => `00000000-0000-4000-8000-0000000000${n.toString(16).padStart(2, '0')}`;

/** One served device. */
class Socket {
  readonly device: TestDevice;
  readonly seat: PooledSeat;
  readonly #server: Server;
  readonly #rig: Rig;
  #client: Client | undefined;
  #session: Session | undefined;

  constructor(rig: Rig, device: TestDevice, seat: PooledSeat) {
    this.#rig = rig;
    this.device = device;
    this.seat = seat;
    this.#server = new Server({
      device: servedDevice(seat),
      space: seat,
      clock: rig.clock,
      reopen: () => seat.reopen(),
    });
  }

  get client(): Client {
    assert.ok(this.#client);
    return this.#client;
  }

  async connect(): Promise<Client> {
    const [ours, theirs] = UnixSocket.pair(this.#rig.sys);
    this.#session = this.#server.accept(new SocketTransport(theirs));
    this.#client = await Client.connect({ transport: new SocketTransport(ours), clock: this.#rig.clock });
    return this.#client;
  }

  async hangUp(): Promise<void> {
    this.#client?.close();
    await this.#session?.done;
  }

  async end(): Promise<void> {
    await this.hangUp();
    await this.#server.close();
  }
}

interface Rig {
  readonly sys: FakeSys;
  readonly clock: FakeClock;
  readonly pages: ClientPages;
  readonly pool: VmPool;
  readonly said: string[];
  readonly sockets: readonly Socket[];
  ram(): Fd;
}

/** `count` devices in one pool, each with a client that has mapped nothing. Ends with nothing left. */
async function withPool(count: number, body: (rig: Rig, ...sockets: Socket[]) => Promise<void>): Promise<void> {
  const sys = new FakeSys();
  const clock = new FakeClock();
  const pages = new ClientPages();
  const devices: TestDevice[] = [];
  const plugin = testPlugin(devices);
  const mediator = await createMediator({ memory: pages, clock, plugins: [type1(), plugin] });
  const parent = mediator.registerParent('hardware', 'test');
  const said: string[] = [];
  const note = (text: string): void => void said.push(text);
  const pool = new VmPool({ mediator, pages, name: 'vm', log: { info: note, warn: note } });
  const files: Fd[] = [];
  const ram = (): Fd => {
    const file = createMemfd(sys, 'ram', 2n * SIZE);
    files.push(file);
    return file;
  };
  const sockets: Socket[] = [];
  const rig: Rig = { sys, clock, pages, pool, said, sockets, ram };
  for (let n = 0; n < count; n += 1) {
    const seat = await pool.seat((await parent.create('only', uuid(n))).group, uuid(n));
    const device = devices[n];
    assert.ok(device);
    const socket = new Socket(rig, device, seat);
    sockets.push(socket);
    await socket.connect();
  }
  await body(rig, ...sockets);
  for (const socket of sockets) await socket.end();
  for (const file of files) file.close();
  assert.deepEqual([pages.pieces, pages.references], [0, 0]);
  await pool.close();
  await mediator.close();
  assert.deepEqual(sys.ledger.labels(), []);
}

const mapped = (pool: VmPool): number[] => pool.vms.map(({ container }) => container.stats.mappings);

describe('sockets whose clients map', () => {
  test('the same memory are of one VM: one container, one mapping, pages counted once', () =>
    withPool(2, async ({ pool, ram, said }, a, b) => {
      const fd = ram();
      await a?.client.mapDma({ ...RAM, fd });
      assert.equal(pool.vms.length, 2);
      await b?.client.mapDma({ ...RAM, fd });
      assert.deepEqual(mapped(pool), [1]);
      assert.equal(a?.seat.vm, b?.seat.vm);
      a?.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      b?.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      assert.equal(pool.vms[0]?.task.mm.lockedPages, 1);
      assert.equal(b?.device.opens, 2, 'opened anew in the other container');
      assert.equal(a?.device.opens, 1);
      assert.deepEqual(said, [`${uuid(1)} belongs to vm 1`]);
      await a?.client.unmapDma(RAM);
      assert.deepEqual([mapped(pool), b?.device.unmapped], [[1], []], 'the other one still has it');
      await b?.client.unmapDma(RAM);
      assert.deepEqual([a?.device.unmapped, b?.device.unmapped], [[[0n, 16]], [[0n, 16]]]);
    }));

  test('different memory are of two VMs, at the same addresses', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      await a?.client.mapDma({ ...RAM, fd: ram() });
      await b?.client.mapDma({ ...RAM, fd: ram() });
      assert.deepEqual(mapped(pool), [1, 1]);
      assert.notEqual(a?.seat.vm, b?.seat.vm);
      assert.deepEqual([a?.device.opens, b?.device.opens], [1, 1]);
    }));

  test('mixed: two of one VM and two of another, in any order', () =>
    withPool(4, async ({ pool, ram }, a, b, c, d) => {
      const [one, other] = [ram(), ram()];
      await a?.client.mapDma({ ...RAM, fd: one });
      await c?.client.mapDma({ ...RAM, fd: other });
      await d?.client.mapDma({ ...RAM, fd: other });
      await b?.client.mapDma({ ...RAM, fd: one });
      assert.deepEqual(mapped(pool), [1, 1]);
      assert.deepEqual(
        [a?.seat.vm === b?.seat.vm, c?.seat.vm === d?.seat.vm, a?.seat.vm === c?.seat.vm],
        [true, true, false],
      );
    }));

  test('at the same time', () =>
    withPool(3, async ({ pool, ram }, ...sockets) => {
      const fd = ram();
      await Promise.all(sockets.map(({ client }) => client.mapDma({ ...RAM, fd })));
      assert.deepEqual(mapped(pool), [1]);
    }));

  const OTHERS = [
    ['another place', { address: SIZE, size: SIZE, offset: 0n }],
    ['another part', { address: 0n, size: SIZE, offset: SIZE }],
    ['another size', { address: 0n, size: 0x1000n, offset: 0n }],
    ['other rights', { address: 0n, size: SIZE, offset: 0n, prot: 1 }],
  ] as const;
  for (const [what, request] of OTHERS) {
    test(`the same file, but ${what}, are not taken for one VM`, () =>
      withPool(2, async ({ pool, ram }, a, b) => {
        const fd = ram();
        await a?.client.mapDma({ ...RAM, fd });
        await b?.client.mapDma({ ...request, fd });
        assert.deepEqual(mapped(pool), [1, 1]);
      }));
  }

  test('memory without a descriptor first take it along', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      const fd = ram();
      for (const socket of [a, b]) {
        await socket?.client.mapDma({ address: 0x100_0000n, size: 0x1000n });
        await socket?.client.mapDma({ ...RAM, fd });
      }
      assert.deepEqual(mapped(pool), [2]);
      assert.deepEqual(
        pool.vms[0]?.dma.entries.map(({ owners }) => owners.size),
        [2, 2],
      );
    }));

  test('nothing but memory without descriptors stay by themselves', () =>
    withPool(2, async ({ pool }, a, b) => {
      for (const socket of [a, b]) await socket?.client.mapDma(RAM);
      assert.deepEqual(mapped(pool), [1, 1]);
    }));
});

describe('a socket of a VM with two', () => {
  test('whose client goes first leaves the other one everything', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      const fd = ram();
      for (const socket of [a, b]) await socket?.client.mapDma({ ...RAM, fd });
      b?.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      await a?.hangUp();
      assert.deepEqual([mapped(pool), pool.vms[0]?.task.mm.lockedPages], [[1], 1]);
      await b?.hangUp();
      assert.deepEqual([mapped(pool), pool.vms[0]?.task.mm.lockedPages], [[0], 0]);
    }));

  test('whose client comes back with the same memory finds the others, and its device as it was', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      const fd = ram();
      for (const socket of [a, b]) await socket?.client.mapDma({ ...RAM, fd });
      await a?.hangUp();
      const client = await a?.connect();
      await client?.mapDma({ ...RAM, fd });
      assert.deepEqual([mapped(pool), a?.device.opens], [[1], 1]);
      assert.equal(pool.vms[0]?.dma.entries[0]?.owners.size, 2);
    }));

  test('whose next client is of another VM moves out', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      const fd = ram();
      for (const socket of [a, b]) await socket?.client.mapDma({ ...RAM, fd });
      await b?.hangUp();
      const client = await b?.connect();
      await client?.mapDma({ address: 0x100_0000n, size: 0x1000n });
      await client?.mapDma({ ...RAM, fd: ram() });
      assert.deepEqual(mapped(pool), [1, 2]);
      assert.notEqual(a?.seat.vm, b?.seat.vm);
    }));

  test('whose next client has memory without descriptors where the others have theirs moves out too', () =>
    withPool(2, async ({ pool, ram }, a, b) => {
      const fd = ram();
      for (const socket of [a, b]) await socket?.client.mapDma({ ...RAM, fd });
      await b?.hangUp();
      await (await b?.connect())?.mapDma({ address: 0x1000n, size: 0x1000n });
      assert.deepEqual(mapped(pool), [1, 1]);
    }));
});

describe('a device that cannot be opened anew', () => {
  test('because its client has changed it stays where it is, and works', () =>
    withPool(2, async ({ pool, ram, said }, a, b) => {
      const fd = ram();
      await a?.client.mapDma({ ...RAM, fd });
      await b?.client.writeRegion(0, 0n, Uint8Array.of(1));
      await b?.client.mapDma({ ...RAM, fd });
      assert.deepEqual([mapped(pool), b?.device.opens], [[1, 1], 1]);
      assert.match(said.join(), /its client changed it before it mapped memory/);
      b?.device.pins.pin(iovaFrame(0n), 1, PROT_RW).unpin();
    }));

  test('because its driver fails stays where it is, and works', () =>
    withPool(2, async ({ pool, ram, said }, a, b) => {
      const fd = ram();
      await a?.client.mapDma({ ...RAM, fd });
      let opens = 0;
      assert.ok(b);
      b.device.open = () => {
        opens += 1;
        if (opens === 1) throw failing;
      };
      await b.client.mapDma({ ...RAM, fd });
      assert.deepEqual([mapped(pool), opens], [[1, 1], 2]);
      assert.match(said.join(), /could not be moved/);
      b.device.pins.pin(iovaFrame(0n), 1, PROT_RW).unpin();
    }));

  test('because its driver fails keeps what its client has mapped without descriptors', () =>
    withPool(2, async ({ pool, ram, said }, a, b) => {
      const fd = ram();
      await a?.client.mapDma({ ...RAM, fd });
      assert.ok(b);
      let opens = 0;
      b.device.open = () => {
        opens += 1;
        if (opens === 1) throw failing;
      };
      await b.client.mapDma({ address: 0x100_0000n, size: 0x1000n });
      await b.client.mapDma({ ...RAM, fd });
      assert.deepEqual(mapped(pool), [1, 2]);
      assert.match(said.join(), /could not be moved/);
      await b.client.unmapDma({ address: 0x100_0000n, size: 0x1000n });
    }));
});
