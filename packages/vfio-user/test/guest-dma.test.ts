import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { GuestMemory } from '@pinion/core';
import {
  COMMAND,
  decodeDmaAccess,
  encodeDmaAccess,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeMessage,
  encodeRegionAccess,
  encodeVersion,
  HEADER_FLAG,
  type Message,
} from '@pinion/vfio-user';
import { type RawClient, World, type WorldOptions } from './world.js';

const none = new Uint8Array(0);
const XFER = 1 << 20;
const unmap = (address: bigint, size: bigint): Uint8Array => encodeDmaUnmap({ flags: 0, address, size });
const map = (address: bigint, size: bigint, flags = 3): Uint8Array =>
  encodeDmaMap({ flags, offset: 0n, address, size });

interface Rig {
  readonly world: World;
  readonly client: RawClient;
  /** The device's way to the client's memory. */
  readonly memory: GuestMemory;
  /** Takes the next DMA message that the server sent. */
  next(command: number): Promise<Message>;
  reply(to: Message, payload: Uint8Array, more?: { flags?: number; error?: number }): void;
}

async function withDma(body: (rig: Rig) => Promise<void>, options: WorldOptions = {}, xfer = XFER): Promise<void> {
  const world = await World.start(options);
  const client = await world.client(false);
  await client.version({ maxDataXferSize: xfer });
  await body({
    world,
    client,
    memory: client.session.dma,
    next: async (command) => {
      await client.idle();
      const index = client.received.findIndex((message) => message.command === command && message.flags === 0);
      const [message] = client.received.splice(index, 1);
      assert.ok(index >= 0 && message, 'no DMA message came');
      return message;
    },
    reply: ({ id, command }, payload, { flags = HEADER_FLAG.REPLY, error = 0 } = {}) =>
      client.raw(encodeMessage({ id, command, flags, error, payload })),
  });
  await client.close();
  await world.end();
}

describe('DMA to the memory of a client', () => {
  test('goes straight where it was mapped with a descriptor', () =>
    withDma(async ({ client, memory }) => {
      const fd = client.memory(2);
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x2000n), [fd]);
      await memory.write(0xfffn, Uint8Array.of(1, 2, 3));
      const seen = new Uint8Array(3);
      client.sys.pread(fd.number, seen, 0xfffn);
      assert.deepEqual([...seen], [1, 2, 3]);
      const back = new Uint8Array(2);
      await memory.read(0x1000n, back);
      assert.deepEqual([...back], [2, 3]);
      assert.deepEqual(client.received, []);
      fd.close();
    }));

  test('goes by messages where it was not: 16 bytes ask, the answer has the data', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x2000n));
      const bytes = new Uint8Array(4);
      const reading = memory.read(0x10n, bytes);
      const asked = await next(COMMAND.DMA_READ);
      assert.deepEqual(asked.payload, encodeDmaAccess(0x10n, 4));
      reply(asked, encodeDmaAccess(0x10n, 4, Uint8Array.of(1, 2, 3, 4)));
      await reading;
      assert.deepEqual([...bytes], [1, 2, 3, 4]);
      const writing = memory.write(0x20n, Uint8Array.of(5, 6));
      const told = await next(COMMAND.DMA_WRITE);
      assert.deepEqual(told.payload, encodeDmaAccess(0x20n, 2, Uint8Array.of(5, 6)));
      reply(told, encodeDmaAccess(0x20n, 2));
      await writing;
    }));

  test('is cut to what the client takes, and at the borders of mappings', () =>
    withDma(
      async ({ client, memory, next, reply }) => {
        await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
        const fd = client.memory(1);
        await client.errno(COMMAND.DMA_MAP, map(0x1000n, 0x1000n), [fd]);
        fd.close();
        const bytes = new Uint8Array(0x40).map((_, n) => n);
        const writing = memory.write(0xfdcn, bytes);
        const pieces: (readonly [bigint, number])[] = [];
        for (let n = 0; n < 3; n += 1) {
          const told = await next(COMMAND.DMA_WRITE);
          const { address, data } = decodeDmaAccess(COMMAND.DMA_WRITE, told.payload, true, XFER);
          pieces.push([address, data.length]);
          reply(told, encodeDmaAccess(address, data.length));
        }
        await writing;
        assert.deepEqual(pieces, [
          [0xfdcn, 16],
          [0xfecn, 16],
          [0xffcn, 4],
        ]);
        const back = new Uint8Array(4);
        await memory.read(0x1000n, back);
        assert.deepEqual([...back], [36, 37, 38, 39]);
      },
      {},
      16,
    ));

  test('asks for no more than 64 KiB at a time: a client may not have room for more in its socket', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x20_0000n));
      const [large, small, last] = [new Uint8Array(150_000), new Uint8Array(40_000), new Uint8Array(10)];
      const reading = Promise.all([
        memory.read(0n, large),
        memory.read(0x10_0000n, small),
        memory.read(0x1f_0000n, last),
      ]);
      const asked: (readonly [bigint, bigint])[] = [];
      let left = 5;
      const answer = async (): Promise<void> => {
        const message = await next(COMMAND.DMA_READ);
        const of = ({ payload }: Message): ReturnType<typeof decodeDmaAccess> =>
          decodeDmaAccess(COMMAND.DMA_READ, payload, false, XFER);
        const { address, count } = of(message);
        const others = client.received.reduce((sum, other) => sum + of(other).count, 0n);
        assert.ok(count + others <= 65_536n, `${count} and ${others} more`);
        asked.push([address, count]);
        const data = new Uint8Array(Number(count)).fill(Number(address >> 16n) + 1);
        reply(message, encodeDmaAccess(address, Number(count), data));
      };
      while (left > 0) {
        await answer();
        left -= 1;
      }
      await reading;
      assert.deepEqual(asked, [
        [0n, 65_536n],
        [0x10_0000n, 40_000n],
        [0x1f_0000n, 10n],
        [65_536n, 65_536n],
        [131_072n, 18_928n],
      ]);
      assert.deepEqual(
        [large[0], large[65_535], large[65_536], large[149_999], small[39_999], last[9]],
        [1, 1, 2, 3, 17, 32],
      );
    }));

  test('that waits for its turn while its mapping goes is not asked for any more', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1_0000n));
      await client.errno(COMMAND.DMA_MAP, map(0x10_0000n, 0x1000n));
      const first = memory.read(0n, new Uint8Array(65_536));
      const second = assert.rejects(memory.read(0x10_0000n, new Uint8Array(8)), { name: 'VFIOUSER_NO_DMA' });
      const asked = await next(COMMAND.DMA_READ);
      await client.errno(COMMAND.DMA_UNMAP, unmap(0x10_0000n, 0x1000n));
      reply(asked, encodeDmaAccess(0n, 65_536, new Uint8Array(65_536)));
      await Promise.all([first, second]);
      const third = memory.read(0n, new Uint8Array(65_536));
      const again = await next(COMMAND.DMA_READ);
      reply(again, encodeDmaAccess(0n, 65_536, new Uint8Array(65_536)));
      await third;
    }));

  test('is answered while the client’s own requests wait and cross it', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
      const bytes = new Uint8Array(1);
      const reading = memory.read(0n, bytes);
      const asked = await next(COMMAND.DMA_READ);
      const read = encodeRegionAccess({ offset: 0n, region: 0, count: 1 });
      assert.equal(await client.errno(COMMAND.REGION_READ, read), 0);
      reply(asked, encodeDmaAccess(0n, 1, Uint8Array.of(9)));
      assert.equal(await client.errno(COMMAND.REGION_READ, read), 0);
      await reading;
      assert.equal(bytes[0], 9);
    }));

  test('inside a request that the client waits for is refused at once instead of after five seconds', () => {
    let device: GuestMemory | undefined;
    return withDma(
      async ({ client }) => {
        await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
        const read = encodeRegionAccess({ offset: 0n, region: 0, count: 1 });
        assert.equal(await client.errno(COMMAND.REGION_READ, read), 35);
        assert.deepEqual(client.received, []);
      },
      {
        serve: (plain) => ({
          ...plain,
          setGuestMemory: (memory) => {
            device = memory;
          },
          readRegion: (_index, _offset, bytes) => device?.read(0n, bytes),
        }),
      },
    );
  });

  test('inside a posted write is fine, and what comes behind it waits', () => {
    let device: GuestMemory | undefined;
    return withDma(
      async ({ client, next, reply }) => {
        await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
        const doorbell = encodeRegionAccess({ offset: 0n, region: 0, count: 1 }, Uint8Array.of(1));
        client.send(COMMAND.REGION_WRITE, doorbell, { noReply: true });
        const after = client.send(COMMAND.REGION_READ, encodeRegionAccess({ offset: 0n, region: 0, count: 1 }));
        const asked = await next(COMMAND.DMA_READ);
        assert.deepEqual(client.received, []);
        reply(asked, encodeDmaAccess(0n, 4, Uint8Array.of(1, 2, 3, 4)));
        await client.idle();
        assert.deepEqual(
          client.received.map(({ id }) => id),
          [after],
        );
      },
      {
        serve: (plain) => ({
          ...plain,
          setGuestMemory: (memory) => {
            device = memory;
          },
          writeRegion: () => device?.read(0n, new Uint8Array(4)),
        }),
      },
    );
  });

  test('ends with the unmap of its range: the client serves nothing until that is answered', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
      const reading = assert.rejects(memory.read(0n, new Uint8Array(4)), { name: 'VFIOUSER_NO_DMA' });
      const asked = await next(COMMAND.DMA_READ);
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0n, size: 0x1000n })), 0);
      await reading;
      reply(asked, encodeDmaAccess(0n, 4, Uint8Array.of(1, 2, 3, 4)));
      assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 0);
    }));

  test('goes on when the client unmaps over its range what is no mapping', () =>
    withDma(async ({ client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
      const bytes = new Uint8Array(4);
      const reading = memory.read(0n, bytes);
      const asked = await next(COMMAND.DMA_READ);
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(0n, 0x2000n)), 2);
      reply(asked, encodeDmaAccess(0n, 4, Uint8Array.of(1, 2, 3, 4)));
      await reading;
      assert.deepEqual([...bytes], [1, 2, 3, 4]);
    }));

  test('ends when the client takes too long; its late answer is passed over', () =>
    withDma(async ({ world, client, memory, next, reply }) => {
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
      const reading = assert.rejects(memory.read(0n, new Uint8Array(4)), { name: 'VFIOUSER_TIMEOUT' });
      const asked = await next(COMMAND.DMA_READ);
      world.clock.advance(5000);
      await reading;
      reply(asked, encodeDmaAccess(0n, 4, Uint8Array.of(1, 2, 3, 4)));
      assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 0);
    }));

  test('ends with the connection', async () => {
    const world = await World.start();
    const client = await world.client();
    await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
    const reading = assert.rejects(client.session.dma.read(0n, new Uint8Array(4)), { name: 'VFIOUSER_DISCONNECTED' });
    await client.idle();
    await client.close();
    await reading;
    await world.end();
  });

  const REFUSED: readonly (readonly [what: string, address: bigint, size: number, write: boolean])[] = [
    ['where nothing is mapped', 0x8000n, 1, false],
    ['over the end of a mapping into nothing', 0x6000n, 0x1001, false],
    ['a write to what may only be read', 0x4000n, 1, true],
    ['a read of what may only be written', 0x5000n, 1, false],
    ['at 2^64-1', 2n ** 64n - 1n, 2, false],
    ['of a length that escapes the mapping', 0x3ff0n, 0x2000, false],
  ];
  for (const [what, address, size, write] of REFUSED) {
    test(`is refused ${what}`, () =>
      withDma(async ({ client, memory }) => {
        const fd = client.memory(1);
        await client.errno(COMMAND.DMA_MAP, map(0x3000n, 0x1000n), [fd]);
        await client.errno(COMMAND.DMA_MAP, map(0x6000n, 0x1000n), [fd]);
        await client.errno(COMMAND.DMA_MAP, map(0x4000n, 0x1000n, 1));
        await client.errno(COMMAND.DMA_MAP, map(0x5000n, 0x1000n, 2));
        fd.close();
        const bytes = new Uint8Array(size);
        // a length that reaches into 0x4000 would need a message there; it must not be sent for the part that is not reached
        const done = write ? memory.write(address, bytes) : memory.read(address, bytes);
        const answering = answerReads(client);
        await assert.rejects(done, { name: 'VFIOUSER_NO_DMA', errno: 'EFAULT' });
        await answering;
      }));
  }

  async function answerReads(client: RawClient): Promise<void> {
    await client.idle();
    for (const { id, command, payload } of client.received.splice(0)) {
      const { address, count } = decodeDmaAccess(command, payload, false, XFER);
      const data = encodeDmaAccess(address, Number(count), new Uint8Array(Number(count)));
      client.raw(encodeMessage({ id, command, flags: HEADER_FLAG.REPLY, error: 0, payload: data }));
    }
  }

  const ANSWERS: readonly (readonly [what: string, payload: Uint8Array, flags: number, error: number, name: string])[] =
    [
      ['with an error', none, HEADER_FLAG.REPLY | HEADER_FLAG.ERROR, 19, 'VFIOUSER_REFUSED'],
      ['with an unknown error', none, HEADER_FLAG.REPLY | HEADER_FLAG.ERROR, 9999, 'VFIOUSER_REFUSED'],
      ['about another address', encodeDmaAccess(1n, 4, new Uint8Array(4)), 1, 0, 'VFIOUSER_DMA_REFUSED'],
      ['with less than was asked', encodeDmaAccess(0n, 3, new Uint8Array(3)), 1, 0, 'VFIOUSER_DMA_REFUSED'],
      ['with more than was asked', encodeDmaAccess(0n, 5, new Uint8Array(5)), 1, 0, 'VFIOUSER_DMA_REFUSED'],
      ['with less than it says', encodeDmaAccess(0n, 4, new Uint8Array(3)), 1, 0, 'VFIOUSER_BAD_SIZE'],
      ['with nothing', none, 1, 0, 'VFIOUSER_BAD_SIZE'],
      ['with a count of 32 bits, as QEMU before 11.1', new Uint8Array(16), 1, 0, 'VFIOUSER_DMA_REFUSED'],
    ];
  for (const [what, payload, flags, error, name] of ANSWERS) {
    test(`fails when the client answers ${what}; the connection goes on`, () =>
      withDma(async ({ client, memory, next, reply }) => {
        await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
        const bytes = new Uint8Array(4).fill(0xaa);
        const reading = assert.rejects(memory.read(0n, bytes), { name });
        reply(await next(COMMAND.DMA_READ), payload, { flags, error });
        await reading;
        assert.deepEqual([...bytes], [0xaa, 0xaa, 0xaa, 0xaa]);
        assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 0);
      }));
  }

  const UNASKED: readonly (readonly [what: string, id: number, command: number])[] = [
    ['another id', 99, COMMAND.DMA_READ],
    ['another command', 0, COMMAND.DMA_WRITE],
    ['a command of the client’s own', 0, COMMAND.REGION_READ],
  ];
  for (const [what, id, command] of UNASKED) {
    test(`a reply that nobody asked for (${what}) closes the connection`, async () => {
      const world = await World.start();
      const client = await world.client();
      await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n));
      const reading = assert.rejects(client.session.dma.read(0n, new Uint8Array(1)), { name: 'VFIOUSER_DISCONNECTED' });
      await client.idle();
      client.raw(encodeMessage({ id, command, flags: HEADER_FLAG.REPLY, error: 0, payload: none }));
      await reading;
      await client.idle();
      assert.ok(client.eof);
      await client.close();
      await world.end();
    });
  }

  test('a client that says it takes nothing is refused: no message would ever advance', async () => {
    const world = await World.start();
    const client = await world.client(false);
    const capabilities = { maxMsgFds: 1, maxDataXferSize: 0, maxDmaMaps: 1, pgsizes: 4096, writeMultiple: false };
    assert.equal(await client.errno(COMMAND.VERSION, encodeVersion({ major: 0, minor: 0, capabilities })), 22);
    await client.close();
    await world.end();
  });
});
