import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  createMediator,
  defineDriver,
  definePlugin,
  iovaFrame,
  type Mediator,
  type PinnedPages,
  PROT_RW,
  rangesOverlap,
} from '@pinion/core';
import { createMemfd, linuxSys, type Sys, UnixSocket } from '@pinion/sys';
import { type1 } from '@pinion/type1';
import { Client, ClientPages, SocketTransport } from '@pinion/vfio-user';
import { ServedDevices, type ServedDevicesOptions } from '@pinion/vm';

/** Register 0: the page at this address is pinned; 0 lets go. */
const driver = defineDriver({
  name: 'pinner',
  deviceApi: 'vfio-pci',
  types: [{ id: 'one' }],
  pins: true,
  create({ pins }) {
    let page: PinnedPages | undefined;
    const drop = (): void => {
      page?.unpin();
      page = undefined;
    };
    return {
      regions: [{ index: 0, name: 'bar0', size: 8, readable: false, writable: true }],
      writeRegion(_index, _offset, bytes) {
        drop();
        const iova = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0, true);
        if (iova !== 0n) page = pins.pin(iovaFrame(iova), 1, PROT_RW);
      },
      dmaUnmap(range) {
        if (page !== undefined && rangesOverlap(page.range, range)) drop();
      },
      close: drop,
    };
  },
});
const plugin = definePlugin({ name: 'pinner', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });

interface House {
  readonly sys: Sys;
  readonly served: ServedDevices;
  readonly mediator: Mediator;
  readonly told: readonly string[];
  path(name: string): string;
}

/** Devices `a` and `b` of VM `one`, and `c` of VM `two`, each at its socket. */
async function serve(
  t: TestContext,
  options: Partial<ServedDevicesOptions> = {},
  { named = true } = {},
): Promise<House> {
  const folder = mkdtempSync(join(tmpdir(), 'pinion-served-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const sys = linuxSys();
  const pages = new ClientPages();
  const mediator = await createMediator({ memory: pages, plugins: [type1(), plugin] });
  const told: string[] = [];
  const served = new ServedDevices({
    sys,
    mediator,
    pages,
    connected: (device, client) => told.push(`${device} +${client}`),
    disconnected: (device, client) => told.push(`${device} -${client}`),
    ...options,
  });
  const parent = mediator.registerParent('hardware', 'pinner');
  const path = (name: string): string => join(folder, `${name}.sock`);
  for (const [index, name] of ['a', 'b', 'c'].entries()) {
    const mdev = await parent.create('one', `00000000-0000-4000-8000-00000000000${index}`);
    await served.add({ name, mdev, ...(named ? { vm: name === 'c' ? 'two' : 'one' } : {}) });
  }
  for (const name of ['a', 'b', 'c']) served.listen(name, { path: path(name) });
  return { sys, served, mediator, told, path };
}

const connect = (house: House, name: string): Promise<Client> =>
  Client.connect({ transport: new SocketTransport(UnixSocket.connect(house.sys, house.path(name))) });

const pin = (client: Client, address: bigint): Promise<void> => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, address, true);
  return client.writeRegion(0, 0n, bytes);
};

async function end({ served, mediator, sys }: House): Promise<void> {
  await served.close();
  await mediator.close();
  assert.deepEqual(served.leftovers, { mappings: 0, pins: 0, lockedPages: 0, open: [] });
  assert.deepEqual(sys.ledger.labels(), []);
}

describe('served devices', () => {
  test('devices of one VM share mappings and account, those of another do not', async (t) => {
    const house = await serve(t);
    const { served, sys } = house;
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => connect(house, name)));
    assert.ok(a && b && c);
    const ram = createMemfd(sys, 'ram', 0x10_0000n);
    for (const client of [a, b, c]) await client.mapDma({ address: 0n, size: 0x10_0000n, fd: ram });
    ram.close();
    await pin(a, 0x1000n);
    await pin(b, 0x1000n);
    await pin(c, 0x2000n);
    const one = served.accounting('one');
    assert.deepEqual([one.mappings, one.mappedBytes, one.lockedPages], [1, 0x10_0000n, 1]);
    assert.deepEqual(
      [...one.pinnedPages],
      [
        ['a', 1],
        ['b', 1],
      ],
    );
    assert.deepEqual([...served.accounting('two').pinnedPages], [['c', 1]]);
    assert.deepEqual([served.leftovers.mappings, served.accounting('none').mappings], [2, 0]);
    a.close();
    await served.disconnected('a');
    assert.deepEqual(
      [...served.accounting('one').pinnedPages],
      [['b', 1]],
      'the mapping is also of b; the device without a client holds nothing all the same',
    );
    b.close();
    await served.disconnected('b');
    assert.deepEqual(served.accounting('one').pinnedPages.size + served.accounting('one').mappings, 0);
    c.close();
    await end(house);
  });

  test('devices whose VM nobody named find each other by the memory of their clients', async (t) => {
    const house = await serve(t, {}, { named: false });
    const { served, sys } = house;
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => connect(house, name)));
    assert.ok(a && b && c);
    const [ram, other] = [createMemfd(sys, 'ram', 0x10_0000n), createMemfd(sys, 'other', 0x10_0000n)];
    await a.mapDma({ address: 0n, size: 0x10_0000n, fd: ram });
    await b.mapDma({ address: 0n, size: 0x10_0000n, fd: ram });
    await c.mapDma({ address: 0n, size: 0x10_0000n, fd: other });
    ram.close();
    other.close();
    assert.equal(served.leftovers.mappings, 2, 'a and b share one');
    await pin(a, 0x1000n);
    await pin(b, 0x1000n);
    assert.deepEqual([served.leftovers.pins, served.leftovers.lockedPages], [1, 1], 'one page, held and charged once');
    for (const client of [a, b, c]) client.close();
    await Promise.all(['a', 'b', 'c'].map((name) => served.disconnected(name)));
    await end(house);
  });

  test('clients are told of with their number, and the next one is let in', async (t) => {
    const house = await serve(t);
    for (let round = 0; round < 2; round += 1) {
      const client = await connect(house, 'a');
      client.close();
      await house.served.disconnected('a');
    }
    await end(house);
    assert.deepEqual(house.told, ['a +1', 'a -1', 'a +2', 'a -2']);
  });

  test('one client each and no more, when so wanted', async (t) => {
    const house = await serve(t, { once: true });
    for (const name of ['a', 'b', 'c']) (await connect(house, name)).close();
    await house.served.done;
    await end(house);
  });

  test('a client that is there at the end is ended; a limit of locked pages holds', async (t) => {
    const house = await serve(t, { vm: { lockLimit: 0 } });
    const client = await connect(house, 'a');
    const ram = createMemfd(house.sys, 'ram', 0x1000n);
    await client.mapDma({ address: 0n, size: 0x1000n, fd: ram });
    ram.close();
    await assert.rejects(pin(client, 0n + 0x800n), { errno: 'ENOMEM' });
    const ended = client.done;
    await house.served.close();
    await ended;
    client.close();
    await end(house);
  });

  test('a device that was not added cannot be listened for', async (t) => {
    const house = await serve(t);
    assert.throws(() => house.served.listen('d', { path: house.path('d') }), { name: 'VM_NO_DEVICE' });
    await assert.rejects(house.served.disconnected('d'), { name: 'VM_NO_DEVICE', errno: 'ENODEV' });
    assert.throws(() => house.served.listen('a', { path: house.path('b') }), { errno: 'EADDRINUSE' });
    await end(house);
  });
});
