// A client that wants to do harm. Whatever it does: an errno or a closed connection, nothing changed, no descriptor left, and the
// next client is served.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { EventFd, type Fd } from '@pinion/sys';
import { COMMAND, encodeDmaMap, encodeMessage, encodeRegionAccess, HEADER } from '@pinion/vfio-user';
import { fuzz } from './fuzzer.js';
import { MESSAGES, SHORTEST } from './messages.js';
import { type RawClient, settle, World } from './world.js';

const none = new Uint8Array(0);
const message = (command: number, payload: Uint8Array, flags = 0): Uint8Array =>
  encodeMessage({ id: 7, command, flags, error: 0, payload });
const header = (size: number, flags = 0): Uint8Array =>
  HEADER.encode({ id: 1, command: COMMAND.REGION_READ, size, flags, error: 0 });

/** A well-behaved client finds everything as it should be. */
async function servesTheNext(world: World): Promise<void> {
  assert.deepEqual([world.pages.pieces, world.space.container.stats.mappings], [0, 0]);
  const client = await world.client();
  const fd = client.memory(1);
  assert.equal(
    await client.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: 0x1000n }), [fd]),
    0,
  );
  fd.close();
  world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
  assert.equal(await client.errno(COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 })), 0);
  await client.close();
  await world.end();
}

describe('a client that hangs up', () => {
  for (const { what, command, payload, fds: kind } of MESSAGES) {
    test(`at every byte of ${what}`, async () => {
      const world = await World.start();
      const whole = message(command, payload);
      for (let cut = 0; cut <= whole.length; cut += 1) {
        const client = await world.client(command !== COMMAND.VERSION);
        const memory = client.memory(1);
        const events = [0, 1].map(() => EventFd.create(world.sys, 'irq'));
        if (command !== COMMAND.VERSION) {
          await client.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: 0x1000n }), [
            memory,
          ]);
          world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
        }
        const fds: Fd[] = kind === 'memory' ? [memory] : kind === 'events' ? events.map(({ fd }) => fd) : [];
        if (cut > 0) client.raw(whole.subarray(0, cut), fds);
        memory.close();
        for (const event of events) event.close();
        if (cut % 2 === 0) await settle(2);
        await client.close();
        assert.deepEqual([world.pages.pieces, world.pages.references], [0, 0]);
      }
      await servesTheNext(world);
    });
  }
});

describe('a message of the wrong size', () => {
  for (const [n, { what, command, payload, fds: kind }] of MESSAGES.entries()) {
    if (payload.length === 0) continue;
    test(`${what}: what is too short or lies is refused, and the connection goes on`, async () => {
      const world = await World.start({ ops: { migration } });
      const lengths = [...payload.keys(), payload.length + 1, payload.length + 4096];
      for (const length of lengths) {
        const client = await world.client(command !== COMMAND.VERSION);
        const [memory, events] = [client.memory(1), [0, 1].map(() => EventFd.create(world.sys, 'irq'))];
        const all = { none: [], memory: [memory], events: events.map(({ fd }) => fd) };
        if (command !== COMMAND.VERSION) await prepare(client, MESSAGES.slice(1, n));
        const before = state(world);
        const wrong = new Uint8Array(length);
        wrong.set(payload.subarray(0, length));
        const errno = await client.errno(command, wrong, all[kind]);
        const fits = length > payload.length ? LONGER.has(what) : length >= (SHORTEST.get(command) ?? payload.length);
        assert.equal(
          errno === 0,
          fits && !(command === COMMAND.VERSION && length > 4),
          `${length} bytes: errno ${errno}`,
        );
        if (errno !== 0) assert.deepEqual(state(world), before);
        if (errno !== 0 && command !== COMMAND.VERSION) {
          assert.equal(
            await client.errno(COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 4 })),
            0,
          );
        }
        memory.close();
        for (const event of events) event.close();
        await client.close();
      }
      await servesTheNext(world);
    });
  }

  /** Messages that say how much they hold: what follows is room for the reply, or from a newer client. */
  const LONGER: ReadonlySet<string> = new Set([
    'DMA_MAP',
    'GET_INFO',
    'REGION_INFO',
    'REGION_IO_FDS',
    'IRQ_INFO',
    'DMA_LOGGING_REPORT',
    'DMA_UNMAP with a bitmap',
    'DMA_UNMAP',
    'DMA_UNMAP of all',
    'MIG_DEVICE_STATE',
    'STOP_COPY',
    'MIG_DATA_WRITE',
  ]);
  const migration = { enter: () => {}, read: () => 0, write: () => {} };
  const state = (world: World): unknown => [
    world.device.writes.length,
    world.device.resets,
    world.space.dma.entries.map(({ address, size }) => [address, size]),
    world.space.dma.dirty.active,
    world.served.migration?.state(),
  ];

  /** Everything that comes before a message, so that it would succeed. */
  async function prepare(client: RawClient, before: typeof MESSAGES): Promise<void> {
    const memory = client.memory(1);
    const events = [0, 1].map(() => EventFd.create(client.sys, 'irq'));
    const all = { none: [], memory: [memory], events: events.map(({ fd }) => fd) };
    const page = encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: 0x1000n });
    await client.errno(COMMAND.DMA_MAP, page, [memory]);
    for (const { what, command, payload, fds } of before) {
      assert.equal(await client.errno(command, payload, all[fds]), 0, what);
    }
    memory.close();
    for (const event of events) event.close();
  }
});

describe('flags of a header from the future', () => {
  for (const flags of [0x20, 0x40, 0x80, 0x8000_0000, 0xffff_ffe0]) {
    test(`0x${flags.toString(16)}: EINVAL, and nothing is done`, async () => {
      const world = await World.start();
      const client = await world.client();
      client.raw(message(COMMAND.DEVICE_RESET, none, flags));
      await client.idle();
      const replies = client.received.map(({ flags: bits, error }) => [bits, error]);
      assert.deepEqual([replies, world.device.resets], [(flags & 0x10) === 0 ? [[0x21, 22]] : [], 0]);
      await client.close();
      await servesTheNext(world);
    });
  }
});

describe('a client that breaks the stream', () => {
  const STREAMS: readonly (readonly [what: string, bytes: Uint8Array])[] = [
    ['a size of 0', header(0)],
    ['a size of 15', header(15)],
    ['a size of 2^32-1', header(0xffffffff)],
    ['a size one above the most', header((1 << 20) + 64 + 1)],
    ['type 2', header(16, 2)],
    ['type 15', header(16, 15)],
    ['a reply to nothing', message(COMMAND.REGION_READ, none, 1)],
    ['an error reply to nothing', message(COMMAND.DMA_READ, none, 0x21)],
    ['a reply to nothing, and half a header', Uint8Array.from([...message(9, none, 1), ...header(64).subarray(0, 9)])],
    ['a reply to nothing, and half a message', Uint8Array.from([...message(9, none, 1), ...header(64), 1, 2, 3])],
    [
      'a good request and then noise',
      Uint8Array.from([...message(COMMAND.DEVICE_RESET, none), ...new Uint8Array(64).fill(255)]),
    ],
  ];
  for (const [what, bytes] of STREAMS) {
    for (const negotiated of [true, false]) {
      test(`${what}, ${negotiated ? 'after' : 'before'} VERSION: the connection is closed`, async () => {
        const world = await World.start();
        const client = await world.client(negotiated);
        const fd = client.memory(1);
        client.raw(bytes, [fd, fd]);
        fd.close();
        await client.idle();
        assert.ok(client.eof);
        await client.close();
        await servesTheNext(world);
      });
    }
  }

  test('descriptors in the middle of a message are closed, and the message is handled', async () => {
    const world = await World.start();
    const client = await world.client();
    const whole = message(
      COMMAND.REGION_WRITE,
      encodeRegionAccess({ offset: 0n, region: 0, count: 4 }, new Uint8Array(4)),
    );
    const fd = client.memory(1);
    for (const byte of whole.subarray(0, 20)) client.raw(Uint8Array.of(byte));
    await settle();
    client.raw(whole.subarray(20), [fd, fd, fd]);
    fd.close();
    await client.idle();
    assert.deepEqual(
      client.received.map(({ flags }) => flags),
      [1],
    );
    await client.close();
    await servesTheNext(world);
  });

  test('a message that is never finished waits for ever, and costs no more than was announced', async () => {
    const world = await World.start();
    const client = await world.client();
    client.raw(header((1 << 20) + 64).subarray(0, 16));
    await client.idle();
    world.clock.advance(3_600_000);
    await client.idle();
    assert.equal(client.eof, false);
    await client.close();
    await servesTheNext(world);
  });

  test('silence is no crime', async () => {
    const world = await World.start();
    const client = await world.client(false);
    world.clock.advance(3_600_000);
    await client.idle();
    assert.equal(client.eof, false);
    assert.equal((await client.version()).flags, 1);
    await client.close();
    await servesTheNext(world);
  });
});

describe('a client that floods', () => {
  /** Sends a message again and again until it must wait for long. @returns bytes that went. */
  async function flood(client: RawClient, bytes: Uint8Array, total: number): Promise<number> {
    let sent = 0;
    for (let idle = 0; sent < total && idle < 50; ) {
      const count = tryRaw(client, bytes.subarray(sent % bytes.length));
      sent += Math.max(count, 0);
      idle = count > 0 ? 0 : idle + 1;
      if (count <= 0) await settle(1);
    }
    return sent;
  }
  const tryRaw = (client: RawClient, bytes: Uint8Array): number => {
    try {
      return client.socket.trySend(bytes);
    } catch {
      return 0; // why: the server has hung up
    }
  };

  test('is not read any more while a handler takes its time, and is served when it is through', async () => {
    let go = (): void => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const world = await World.start({ ops: { reset: () => held }, floodLimit: 4 << 20 });
    const client = await world.client();
    client.send(COMMAND.DEVICE_RESET, none);
    const posted = message(COMMAND.REGION_WRITE, encodeRegionAccess({ offset: 0n, region: 0, count: 0 }, none), 0x10);
    const sent = await flood(client, posted, 8 << 20);
    assert.ok(sent < 4 << 20, `the sender had to stop, after ${sent} bytes`);
    go();
    await client.idle();
    assert.equal(client.received.length, 1);
    await client.close();
    await servesTheNext(world);
  });

  test('of descriptors holds some hundred of them open while a handler takes its time', async () => {
    let go = (): void => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const world = await World.start({ ops: { reset: () => held } });
    const client = await world.client();
    client.send(COMMAND.DEVICE_RESET, none);
    const fd = client.memory(1);
    const fds = Array.from({ length: 250 }, () => fd);
    const open = (): number => world.sys.ledger.count('fd');
    const before = open();
    for (let n = 0; n < 40; n += 1) client.send(COMMAND.DMA_MAP, none, { fds });
    await settle(60);
    assert.ok(open() - before <= 512 + 250, `${open() - before} descriptors are open`);
    go();
    await settle(60);
    await client.idle();
    assert.equal(client.received.length, 41);
    fd.close();
    await client.close();
    await servesTheNext(world);
  });

  test('and never reads: its requests are left alone until it does', async () => {
    const world = await World.start();
    const client = await world.client();
    const request = message(COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 0x1000 }));
    const sent = await flood(client, request, 4 << 20);
    assert.ok(sent < 4 << 20, `the sender had to stop, after ${sent} bytes`);
    await client.close();
    await servesTheNext(world);
  });
});

describe('defects that other servers had', () => {
  test('a length that wraps inside a mapping that was just used does not escape it', async () => {
    const world = await World.start();
    const client = await world.client();
    const fd = client.memory(1);
    await client.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0x10000n, size: 0x1000n }), [fd]);
    fd.close();
    await client.session.dma.write(0x10000n, Uint8Array.of(1)); // the mapping is the last one used
    const entry = world.space.dma.find(0x10fffn);
    assert.ok(entry);
    await assert.rejects(client.session.dma.write(0x10fffn, new Uint8Array(2)), { name: 'VFIOUSER_NO_DMA' });
    assert.throws(() => world.space.container.dmaRw(0x10fffn, new Uint8Array(2), true), { errno: 'EINVAL' });
    await client.close();
    await servesTheNext(world);
  });

  test('an offset in a file that is no page border is refused instead of mapped beside it', async () => {
    const world = await World.start();
    const client = await world.client();
    const fd = client.memory(2);
    const request = encodeDmaMap({ flags: 3, offset: 0x10n, address: 0n, size: 0x1000n });
    assert.equal(await client.errno(COMMAND.DMA_MAP, request, [fd]), 22);
    fd.close();
    await client.close();
    await servesTheNext(world);
  });

  test('a write of 512 KiB does not desynchronise', async () => {
    const size = 512 << 10;
    const world = await World.start({
      serve: (device) => ({
        ...device,
        regions: [{ index: 0, name: 'BAR0', size, readable: true, writable: true }],
        readRegion: () => {},
        writeRegion: () => {},
      }),
    });
    const client = await world.client();
    await client.sendSlowly(
      COMMAND.REGION_WRITE,
      encodeRegionAccess({ offset: 0n, region: 0, count: size }, new Uint8Array(size)),
    );
    assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 0);
    await client.close();
    await servesTheNext(world);
  });

  test('message ids may repeat, also at the same time', async () => {
    const world = await World.start();
    const client = await world.client();
    for (let n = 0; n < 3; n += 1) client.raw(message(COMMAND.DEVICE_RESET, none));
    await client.idle();
    assert.deepEqual(
      client.received.map(({ id }) => id),
      [7, 7, 7],
    );
    await client.close();
    await servesTheNext(world);
  });
});

test('a fuzzer finds no message that hangs, leaks, is answered twice, or stops the next client', async () => {
  assert.equal(await fuzz({ runs: 150, seed: 20261121 }), 150);
});
