// A client that wants to do harm. Whatever it does: an errno or a closed connection, nothing changed, no descriptor left, and the
// next client is served.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import { EventFd, type Fd } from '@pinion/sys';
import {
  COMMAND,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeMessage,
  encodeRegionAccess,
  encodeSetIrqs,
  encodeVersion,
  encodeWriteMulti,
  HEADER,
} from '@pinion/vfio-user';
import fc from 'fast-check';
import { type RawClient, settle, World } from './world.js';

const none = new Uint8Array(0);
const capabilities = { maxMsgFds: 16, maxDataXferSize: 1 << 20, maxDmaMaps: 9, pgsizes: 4096, writeMultiple: true };
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
  const SET = { index: 2, start: 0, count: 2, data: 'eventfd', action: 'trigger', selected: none } as const;
  const MESSAGES: readonly (readonly [
    what: string,
    command: number,
    payload: Uint8Array,
    fds: 'memory' | 'events' | 'none',
  ])[] = [
    ['VERSION', COMMAND.VERSION, encodeVersion({ major: 0, minor: 0, capabilities }), 'none'],
    ['DMA_MAP', COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0x100000n, size: 0x1000n }), 'memory'],
    ['DMA_UNMAP', COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0n, size: 0x1000n }), 'none'],
    ['SET_IRQS', COMMAND.DEVICE_SET_IRQS, encodeSetIrqs(SET), 'events'],
    [
      'REGION_WRITE',
      COMMAND.REGION_WRITE,
      encodeRegionAccess({ offset: 0n, region: 0, count: 4 }, new Uint8Array(4)),
      'none',
    ],
    [
      'REGION_WRITE_MULTI',
      COMMAND.REGION_WRITE_MULTI,
      encodeWriteMulti([{ region: 0, offset: 0n, data: Uint8Array.of(1) }]),
      'none',
    ],
    ['DEVICE_RESET', COMMAND.DEVICE_RESET, none, 'none'],
  ];
  for (const [what, command, payload, kind] of MESSAGES) {
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

describe('a fuzzer', () => {
  const FDS = ['none', 'memory', 'event', 'socket', 'two'] as const;
  /** A message that is nearly right: a known command, sizes and numbers of the kind that hurt. */
  const number = fc.oneof(
    fc.constantFrom(0n, 1n, 4n, 16n, 0x1000n, 0x2000n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 0x1000n, 2n ** 64n - 1n),
    fc.bigInt(0n, 0x10_000n),
  );
  const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 16, 20, 24, 32, 0x24, 0x21, 0xffffffff), fc.nat(64));
  const fields = fc.array(
    fc.oneof(
      number.map((n) => [n, 8] as const),
      word.map((n) => [BigInt(n), 4] as const),
    ),
    { maxLength: 8 },
  );
  const payload = fields.map((all) => {
    const bytes: number[] = [];
    for (const [value, size] of all)
      for (let n = 0; n < size; n += 1) bytes.push(Number((value >> BigInt(n * 8)) & 255n));
    return Uint8Array.from(bytes);
  });
  const good = fc.oneof(
    fc
      .record({ address: fc.nat(15), pages: fc.integer({ min: 1, max: 4 }), flags: fc.integer({ min: 1, max: 3 }) })
      .map(({ address, pages, flags }) => ({
        command: COMMAND.DMA_MAP as number,
        payload: encodeDmaMap({
          flags,
          offset: 0n,
          address: BigInt(address) << 12n,
          size: BigInt(pages) << 12n,
        }) as Uint8Array,
        fds: 'memory' as (typeof FDS)[number],
        noReply: false,
      })),
    fc.record({ address: fc.nat(15), pages: fc.integer({ min: 1, max: 4 }) }).map(({ address, pages }) => ({
      command: COMMAND.DMA_UNMAP as number,
      payload: encodeDmaUnmap({ flags: 0, address: BigInt(address) << 12n, size: BigInt(pages) << 12n }) as Uint8Array,
      fds: 'none' as (typeof FDS)[number],
      noReply: false,
    })),
  );
  const bad = fc.record({
    command: fc.oneof(fc.integer({ min: 2, max: 19 }), fc.nat(0xffff)),
    payload,
    fds: fc.constantFrom(...FDS),
    noReply: fc.boolean(),
  });

  test('finds no message that hangs, leaks, is answered twice, or stops the next client', async () => {
    const world = await World.start();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(good, bad), { maxLength: 12 }), async (messages) => {
        const client = await world.client();
        const wanted: number[] = [];
        for (const { command, payload: body, fds, noReply } of messages) {
          const [memory, event] = [client.memory(4), EventFd.create(world.sys, 'fuzz')];
          const carried = {
            none: [],
            memory: [memory],
            event: [event.fd],
            socket: [client.socket.fd],
            two: [event.fd, event.fd],
          };
          const id = client.send(command, body, { fds: carried[fds], noReply });
          if (!noReply) wanted.push(id);
          memory.close();
          event.close();
          for (const { address } of world.space.dma.entries) {
            try {
              world.device.pins.pin(iovaFrame(address), 1, PROT_RW);
            } catch (error) {
              assert.match(String(error), /VFIOUSER_NO_SHARED_MEMORY|TYPE1_/);
            }
          }
        }
        await client.idle();
        assert.deepEqual(
          client.received.map(({ id }) => id),
          wanted,
        );
        await client.close();
        assert.deepEqual([world.pages.pieces, world.pages.references, world.space.task.mm.lockedPages], [0, 0, 0]);
      }),
      {
        numRuns: Number(process.env['PINION_FUZZ_RUNS'] ?? 80),
        seed: Number(process.env['PINION_FUZZ_SEED'] ?? 20261121),
      },
    );
    await servesTheNext(world);
  });
});
