// Every native call of the server fails once: whatever happens, nothing is left over and the next client is served.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { iovaFrame, PinionError, PROT_RW } from '@pinion/core';
import { closeAll, EventFd, FakeSys, FaultySys, Fd, SysError, UnixSocket } from '@pinion/sys';
import {
  COMMAND,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeRegionAccess,
  encodeSetIrqs,
  SocketTransport,
} from '@pinion/vfio-user';
import { RawClient, World } from './world.js';

const none = new Uint8Array(0);

/** A client whose server's end makes its calls through `faulty`. */
function connect(world: World, inner: FakeSys, faulty: FaultySys): RawClient {
  const [ours, theirs] = inner.socketPair();
  const session = world.server.accept(new SocketTransport(new UnixSocket(new Fd(faulty, theirs, 'server'))));
  return new RawClient(inner, new UnixSocket(new Fd(inner, ours, 'client')), session);
}

/** All kinds of things that a client does; goes as far as the connection does. */
async function scenario(world: World, client: RawClient): Promise<void> {
  const memory = client.memory(4);
  const unsealed = client.memory(1, false);
  const events = [0, 1].map(() => EventFd.create(client.sys, 'irq'));
  const irqs = { index: 2, start: 0, count: 2, data: 'eventfd', selected: none } as const;
  const map = (address: bigint, size: bigint): Uint8Array => encodeDmaMap({ flags: 3, offset: 0n, address, size });
  const fds = events.map(({ fd }) => fd);
  const twin: Fd[] = [];
  const calls: readonly (() => unknown)[] = [
    () => client.version({ twinSocket: { supported: true } }).then(({ fds: ends }) => twin.push(...ends)),
    () => client.call(COMMAND.DMA_MAP, map(0n, 0x4000n), [memory]),
    () => client.call(COMMAND.DMA_MAP, map(0x10000n, 0x1000n), [unsealed]),
    () => client.call(COMMAND.DEVICE_SET_IRQS, encodeSetIrqs({ ...irqs, action: 'trigger' }), fds),
    () => client.call(COMMAND.DEVICE_SET_IRQS, encodeSetIrqs({ ...irqs, action: 'unmask' }), fds),
    () => world.device.pins.pin(iovaFrame(0x1000n), 2, PROT_RW).write(0, Uint8Array.of(1)),
    () => world.space.container.dmaRw(0x10000n, Uint8Array.of(1), true),
    () => world.device.sink?.(2, 1),
    () => client.call(COMMAND.REGION_WRITE, encodeRegionAccess({ offset: 0n, region: 0, count: 4 }, new Uint8Array(4))),
    () => client.call(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0n, size: 0x4000n })),
  ];
  for (const call of calls) {
    if (client.eof) break;
    try {
      await call();
    } catch (error) {
      const known = error instanceof PinionError || error instanceof SysError || error instanceof assert.AssertionError;
      assert.ok(known, String(error)); // an AssertionError: the connection is over
    }
  }
  for (const message of client.received) closeAll(message.fds);
  closeAll([memory, unsealed, ...fds, ...twin]);
}

test('every native call may fail', async () => {
  let faults = 0;
  for (let nth = 1, struck = true; struck; nth += 1) {
    const inner = new FakeSys();
    const faulty = new FaultySys(inner);
    const world = await World.start({ sys: inner });
    faulty.failAny(nth, nth % 2 === 0 ? 'EMFILE' : 'EIO');
    const client = connect(world, inner, faulty);
    await scenario(world, client);
    await client.close();
    struck = faulty.pending === 0;
    if (struck) faults += 1;
    faulty.clear();
    assert.deepEqual([world.pages.pieces, world.pages.references], [0, 0], `call ${nth}`);
    const next = await world.client();
    assert.equal(await next.errno(COMMAND.DEVICE_RESET, none), 0, `call ${nth}`);
    await next.close();
    await world.end();
    assert.ok(nth < 400, 'the scenario ends');
  }
  assert.ok(faults > 40, `only ${faults} calls failed`);
});
