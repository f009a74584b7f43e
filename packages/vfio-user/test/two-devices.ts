import assert from 'node:assert/strict';
import { createMediator, type Mediator } from '@pinion/core';
import { createMemfd, FakeSys, type Fd, UnixSocket } from '@pinion/sys';
import { FakeClock } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { Client, ClientPages, Server, type Session, SocketTransport, servedDevice, VmSpace } from '@pinion/vfio-user';
import { type TestDevice, testPlugin } from './world.js';

const UUIDS = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'] as const;

/** One connection: client, server and device. */
export interface End {
  readonly client: Client;
  readonly session: Session;
  readonly device: TestDevice;
  readonly server: Server;
}

export interface TwoDevices {
  readonly sys: FakeSys;
  readonly clock: FakeClock;
  readonly mediator: Mediator;
  readonly pages: ClientPages;
  readonly vm: VmSpace;
  readonly ends: readonly End[];
  readonly ram: Fd;
  /** What the servers warned about. */
  readonly warnings: string[];
}

/** Two devices of one VM, each with a client. Ends with nothing left. */
export async function withTwo(body: (rig: TwoDevices, a: End, b: End) => Promise<void>): Promise<void> {
  const sys = new FakeSys();
  const clock = new FakeClock();
  const pages = new ClientPages();
  const devices: TestDevice[] = [];
  const plugin = testPlugin(devices);
  const mediator = await createMediator({ memory: pages, clock, plugins: [type1(), plugin] });
  const parent = mediator.registerParent('hardware', 'test');
  const vm = new VmSpace({ mediator, pages, name: 'vm' });
  const ends: End[] = [];
  const warnings: string[] = [];
  for (const [n, uuid] of UUIDS.entries()) {
    const seat = await vm.attach((await parent.create('only', uuid)).group, uuid);
    const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
    const server = new Server({ device: servedDevice(seat), space: vm.dma, clock, log });
    const [ours, theirs] = UnixSocket.pair(sys);
    const session = server.accept(new SocketTransport(theirs));
    const client = await Client.connect({ transport: new SocketTransport(ours), clock });
    const device = devices[n];
    assert.ok(device);
    ends.push({ client, session, device, server });
  }
  const ram = createMemfd(sys, 'ram', 0x10000n);
  const [a, b] = ends;
  assert.ok(a && b);
  await body({ sys, clock, mediator, pages, vm, ends, ram, warnings }, a, b);
  ram.close();
  for (const { client, server } of ends) {
    client.close();
    await server.close();
  }
  assert.deepEqual([pages.pieces, pages.references, vm.task.mm.lockedPages], [0, 0, 0]);
  await vm.close();
  await mediator.close();
  assert.deepEqual(sys.ledger.labels(), []);
}
