import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_RW } from '@pinion/core';
import {
  COMMAND,
  decodeDeviceInfo,
  decodeIoFds,
  decodeIrqInfo,
  decodeRegionInfo,
  decodeVersion,
  decodeWriteMultiReply,
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeIoFdsRequest,
  encodeIrqInfo,
  encodeRegionAccess,
  encodeRegionInfoRequest,
  encodeWriteMulti,
  HEADER_FLAG,
  REGION_FLAG,
  type ServedDevice,
} from '@pinion/vfio-user';
import { failing, type RawClient, settle, World } from './world.js';

const none = new Uint8Array(0);
const MiB = 0x10_0000n;
const map = (address: bigint, size: bigint, offset = 0n, flags = 3): Uint8Array =>
  encodeDmaMap({ flags, offset, address, size });
const unmap = (address: bigint, size: bigint, flags = 0): Uint8Array => encodeDmaUnmap({ flags, address, size });
const read = (region: number, offset: bigint, count: number): Uint8Array =>
  encodeRegionAccess({ offset, region, count });
const write = (region: number, offset: bigint, data: readonly number[]): Uint8Array =>
  encodeRegionAccess({ offset, region, count: data.length }, Uint8Array.from(data));

async function withClient(world: World, body: (client: RawClient) => Promise<void>): Promise<void> {
  const client = await world.client();
  await body(client);
  await client.close();
  await world.end();
}

describe('VERSION', () => {
  test('is answered in less room than QEMU has, with minor 0 for a client of minor 0', async () => {
    const world = await World.start();
    const client = await world.client(false);
    const reply = await client.version();
    assert.ok(reply.payload.length - 4 <= 193);
    assert.deepEqual(decodeVersion(reply.payload), {
      major: 0,
      minor: 0,
      capabilities: {
        maxMsgFds: 16,
        maxDataXferSize: 1 << 20,
        maxDmaMaps: 65535,
        pgsizes: 4096,
        writeMultiple: true,
      },
    });
    await client.close();
    await world.end();
  });

  test('never answers with more than was proposed', async () => {
    for (const [proposed, agreed] of [
      [0, 0],
      [1, 1],
      [9, 1],
    ] as const) {
      const world = await World.start();
      const client = await world.client(false);
      const reply = await client.call(COMMAND.VERSION, Uint8Array.of(0, 0, proposed, 0));
      const { minor, capabilities } = decodeVersion(reply.payload);
      assert.deepEqual([minor, capabilities.writeMultiple], [agreed, false]);
      await client.close();
      await world.end();
    }
  });

  test('of another major is refused, and the connection closed', async () => {
    const world = await World.start();
    const client = await world.client(false);
    assert.equal(await client.errno(COMMAND.VERSION, Uint8Array.of(1, 0, 0, 0)), 22);
    await client.idle();
    assert.ok(client.eof);
    await client.close();
    await world.end();
  });

  test('may come once', async () => {
    await withClient(await World.start(), async (client) => {
      assert.equal(await client.errno(COMMAND.VERSION, Uint8Array.of(0, 0, 0, 0)), 22);
      assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 0);
    });
  });

  test('must come first', async () => {
    const world = await World.start();
    const client = await world.client(false);
    assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 22);
    await client.idle();
    assert.ok(client.eof);
    assert.equal(world.device.resets, 0);
    await client.close();
    await world.end();
  });
});

describe('what a server says of its device', () => {
  test('a PCI device has nine regions and five interrupt indices', async () => {
    await withClient(await World.start(), async (client) => {
      const reply = await client.call(COMMAND.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }));
      assert.deepEqual(decodeDeviceInfo(reply.payload), { argsz: 16, flags: 3, regions: 9, irqs: 5 });
    });
  });

  test('regions: rights and sizes, nothing for those it does not have, EINVAL beyond', async () => {
    await withClient(await World.start(), async (client) => {
      const about = async (index: number): Promise<unknown> => {
        const reply = await client.call(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(index, 32));
        const { flags, size } = decodeRegionInfo(reply.payload);
        return [flags, size];
      };
      assert.deepEqual(await about(0), [REGION_FLAG.READ | REGION_FLAG.WRITE, 0x1000n]);
      assert.deepEqual(await about(1), [REGION_FLAG.READ, 0x10n]);
      assert.deepEqual(await about(2), [REGION_FLAG.WRITE, 0x10n]);
      assert.deepEqual(await about(7), [REGION_FLAG.READ | REGION_FLAG.WRITE, 0x100n]);
      assert.deepEqual(await about(8), [0, 0n]);
      assert.equal(await client.errno(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(9, 32)), 22);
    });
  });
});

describe('interrupt information', () => {
  test('says what each index can do', async () => {
    await withClient(await World.start(), async (client) => {
      const about = async (index: number): Promise<unknown> => {
        const reply = await client.call(COMMAND.DEVICE_GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index, count: 0 }));
        const { flags, count } = decodeIrqInfo(reply.payload);
        return [flags, count];
      };
      assert.deepEqual(await about(0), [7, 1]);
      assert.deepEqual(await about(1), [3, 1]);
      assert.deepEqual(await about(2), [3, 8]);
      assert.deepEqual(await about(3), [9, 1]);
      assert.deepEqual(await about(4), [9, 1]);
      assert.equal(
        await client.errno(COMMAND.DEVICE_GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: 5, count: 0 })),
        22,
      );
    });
  });
});

describe('regions', () => {
  test('are read and written, and the reply says what was done', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const written = await client.call(COMMAND.REGION_WRITE, write(0, 0x10n, [1, 2, 3, 4]));
      assert.deepEqual(written.payload, encodeRegionAccess({ offset: 0x10n, region: 0, count: 4 }));
      const reply = await client.call(COMMAND.REGION_READ, read(0, 0x0en, 4));
      assert.deepEqual(reply.payload, write(0, 0x0en, [0, 0, 1, 2]));
      assert.deepEqual(world.device.writes, ['0+16=01020304']);
    });
  });

  test('an access of no bytes is answered and does nothing', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      assert.deepEqual((await client.call(COMMAND.REGION_READ, read(0, 0n, 0))).payload, read(0, 0n, 0));
      assert.equal(await client.errno(COMMAND.REGION_WRITE, write(0, 0x1000n, [])), 0);
      assert.deepEqual(world.device.writes, []);
    });
  });

  const REJECTS: readonly (readonly [what: string, command: number, payload: Uint8Array])[] = [
    ['a read over the end', COMMAND.REGION_READ, read(0, 0xfffn, 2)],
    ['a read at 2^64-1', COMMAND.REGION_READ, read(0, 2n ** 64n - 1n, 2)],
    ['a read of a region that is not there', COMMAND.REGION_READ, read(3, 0n, 1)],
    ['a read of region 2^32-1', COMMAND.REGION_READ, read(0xffffffff, 0n, 1)],
    ['a read of what can only be written', COMMAND.REGION_READ, read(2, 0n, 1)],
    ['a write to what can only be read', COMMAND.REGION_WRITE, write(1, 0n, [1])],
    ['a write over the end', COMMAND.REGION_WRITE, write(7, 0xffn, [1, 2])],
    ['many writes of which one is over the end', COMMAND.REGION_WRITE_MULTI, multi([0, 0n], [0, 0xfffn])],
    ['many writes of which one may not be', COMMAND.REGION_WRITE_MULTI, multi([0, 0n], [1, 0n])],
  ];
  function multi(...at: (readonly [number, bigint])[]): Uint8Array {
    return encodeWriteMulti(at.map(([region, offset]) => ({ region, offset, data: Uint8Array.of(7, 8) })));
  }
  for (const [what, command, payload] of REJECTS) {
    test(`refuse ${what} with EINVAL, and nothing has happened`, async () => {
      const world = await World.start();
      await withClient(world, async (client) => {
        assert.equal(await client.errno(command, payload), 22);
        assert.deepEqual(world.device.writes, []);
      });
    });
  }

  test('answer with the errno of the device, and with EIO for what is no error of ours', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      world.device.fail = failing;
      assert.equal(await client.errno(COMMAND.REGION_READ, read(0, 0n, 4)), 28);
      world.device.fail = new TypeError('a defect');
      assert.equal(await client.errno(COMMAND.REGION_WRITE, write(0, 0n, [1])), 5);
      world.device.fail = undefined;
      assert.equal(await client.errno(COMMAND.REGION_READ, read(0, 0n, 4)), 0);
      assert.equal(world.warnings.length, 2);
    });
  });

  test('a posted write is never answered, not even when it fails; what follows is', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      client.send(COMMAND.REGION_WRITE, write(0, 0n, [1]), { noReply: true });
      client.send(COMMAND.REGION_WRITE, write(0, 0x1000n, [2]), { noReply: true });
      client.send(COMMAND.REGION_WRITE, none, { noReply: true });
      client.send(99, none, { noReply: true });
      const reply = await client.call(COMMAND.REGION_READ, read(0, 0n, 1));
      assert.equal(reply.payload[16], 1);
      assert.deepEqual(client.received, []);
      assert.deepEqual(world.device.writes, ['0+0=01']);
    });
  });

  test('many writes come in one message, in order', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const reply = await client.call(COMMAND.REGION_WRITE_MULTI, multi([0, 0n], [7, 4n], [0, 2n]));
      assert.equal(decodeWriteMultiReply(reply.payload), 3n);
      client.send(COMMAND.REGION_WRITE_MULTI, multi([0, 8n]), { noReply: true });
      await client.idle();
      assert.deepEqual(client.received, []);
      assert.deepEqual(world.device.writes, ['0+0=0708', '7+4=0708', '0+2=0708', '0+8=0708']);
    });
  });

  test('of a whole megabyte, more than any socket takes at once', async () => {
    const size = 1 << 20;
    const big = new Uint8Array(size).map((_, n) => n * 7);
    const memory = new Uint8Array(size);
    const world = await World.start({
      serve: (device): ServedDevice => ({
        ...device,
        regions: [{ index: 0, name: 'BAR0', size, readable: true, writable: true }],
        readRegion: (_index, offset, bytes) => bytes.set(memory.subarray(offset, offset + bytes.length)),
        writeRegion: (_index, offset, bytes) => memory.set(bytes, offset),
      }),
    });
    await withClient(world, async (client) => {
      const message = encodeRegionAccess({ offset: 0n, region: 0, count: size }, big);
      await client.sendSlowly(COMMAND.REGION_WRITE, message);
      const reply = await client.call(COMMAND.REGION_READ, read(0, 0n, size));
      assert.ok(Buffer.from(reply.payload.subarray(16)).equals(Buffer.from(big)));
      assert.equal(await client.errno(COMMAND.REGION_READ, read(0, 0n, size + 1)), 7);
    });
  });

  test('a failed read is answered with all-ones to a client that cannot read errors', async () => {
    const world = await World.start({ readsNeverFail: true });
    await withClient(world, async (client) => {
      world.device.fail = failing;
      assert.deepEqual((await client.call(COMMAND.REGION_READ, read(0, 0n, 2))).payload, write(0, 0n, [255, 255]));
      const gone = await client.call(COMMAND.DMA_UNMAP, unmap(MiB, MiB));
      assert.deepEqual([gone.flags, gone.payload], [HEADER_FLAG.REPLY, unmap(MiB, MiB)]);
      assert.equal(world.warnings.length, 2);
    });
  });
});

describe('commands that are not served', () => {
  for (const command of [0, 11, 12, 14, 19, 0xffff]) {
    test(`${command} is answered with EINVAL`, async () => {
      await withClient(await World.start(), async (client) => {
        assert.equal(await client.errno(command, none), 22);
      });
    });
  }

  test('a reset of a device that has none', async () => {
    const world = await World.start({ serve: (device) => ({ ...device, resettable: false }) });
    await withClient(world, async (client) => {
      assert.equal(await client.errno(COMMAND.DEVICE_RESET, none), 22);
      const reply = await client.call(COMMAND.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }));
      assert.equal(decodeDeviceInfo(reply.payload).flags, 2);
    });
  });
});

describe('descriptors where none belong', () => {
  const COMMANDS: readonly (readonly [number, Uint8Array])[] = [
    [COMMAND.DMA_UNMAP, unmap(0n, 0x1000n)],
    [COMMAND.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })],
    [COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(0, 32)],
    [COMMAND.DEVICE_GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: 0, count: 0 })],
    [COMMAND.REGION_READ, read(0, 0n, 1)],
    [COMMAND.REGION_WRITE, write(0, 0n, [1])],
    [COMMAND.DEVICE_RESET, none],
    [COMMAND.REGION_WRITE_MULTI, encodeWriteMulti([])],
    [COMMAND.VERSION, Uint8Array.of(0, 0, 0, 0)],
    [99, none],
  ];
  for (const [command, payload] of COMMANDS) {
    test(`command ${command}: EINVAL, and they are closed`, async () => {
      const world = await World.start();
      await withClient(world, async (client) => {
        const fd = client.memory(1);
        assert.equal(await client.errno(command, payload, [fd]), 22);
        fd.close();
        assert.deepEqual([world.device.writes, world.device.resets], [[], 0]);
      });
    });
  }
});

describe('DMA_MAP and DMA_UNMAP', () => {
  test('are mappings of the container: pins, dmaUnmap, accounting', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(16);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(MiB, 0x10000n), [fd]), 0);
      assert.equal(world.space.container.stats.mappings, 1);
      const pins = world.device.pins.pin(iovaFrame(MiB + 0x3000n), 2, PROT_RW);
      pins.write(0x10, Uint8Array.of(1, 2, 3));
      assert.equal(world.space.task.mm.lockedPages, 2);
      const seen = new Uint8Array(3);
      client.sys.pread(fd.number, seen, 0x3010n);
      assert.deepEqual([...seen], [1, 2, 3]);
      fd.close();
      const gone = await client.call(COMMAND.DMA_UNMAP, unmap(MiB, 0x10000n));
      assert.deepEqual(gone.payload, unmap(MiB, 0x10000n));
      assert.deepEqual(world.device.unmapped, [[MiB, 16]]);
      assert.throws(() => pins.views(), { name: 'CORE_PINS_RELEASED' });
      assert.deepEqual([world.space.task.mm.lockedPages, world.pages.pieces], [0, 0]);
    });
  });

  test('memory without a seal against truncation is copied and never mapped', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(2, false);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x2000n), [fd]), 0);
      assert.throws(() => world.device.pins.pin(iovaFrame(0n), 1, PROT_RW), { name: 'VFIOUSER_NO_SHARED_MEMORY' });
      world.space.container.dmaRw(0x10n, Uint8Array.of(9), true);
      client.sys.truncate(fd.number, 0n);
      const bytes = new Uint8Array(1);
      assert.throws(() => world.space.container.dmaRw(0x10n, bytes, false), { errno: 'EFAULT' });
      fd.close();
    });
  });

  test('the client may say how its file is reached: FILE_IO is copied and never mapped, MMAP is mapped', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(2);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n, 0n, 3 | 8), [fd]), 0);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0x1000n, 0x1000n, 0x1000n, 3 | 4), [fd]), 0);
      fd.close();
      assert.throws(() => world.device.pins.pin(iovaFrame(0n), 1, PROT_RW), { name: 'VFIOUSER_NO_SHARED_MEMORY' });
      world.device.pins.pin(iovaFrame(0x1000n), 1, PROT_RW).unpin();
      const bytes = new Uint8Array(2);
      world.space.container.dmaRw(0xfffn, Uint8Array.of(7, 8), true);
      world.space.container.dmaRw(0xfffn, bytes, false);
      assert.deepEqual([...bytes], [7, 8]);
    });
  });

  test('a burst of maps and unmaps before GET_INFO is answered in order', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(64);
      const ids: number[] = [];
      for (let n = 0n; n < 8n; n += 1n) {
        const fds = n % 2n === 0n ? [fd] : [];
        ids.push(client.send(COMMAND.DMA_MAP, map(n * MiB, 0x1000n, n % 2n === 0n ? n * 0x1000n : 0n), { fds }));
      }
      for (let n = 0n; n < 8n; n += 1n) ids.push(client.send(COMMAND.DMA_UNMAP, unmap(n * MiB, 0x1000n)));
      ids.push(client.send(COMMAND.DEVICE_GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })));
      await client.idle();
      assert.deepEqual(
        client.received.map(({ id, flags }) => [id, flags]),
        ids.map((id) => [id, HEADER_FLAG.REPLY]),
      );
      fd.close();
    });
  });

  const BAD: readonly (readonly [what: string, payload: Uint8Array, fds: number, errno: number])[] = [
    ['no bytes', map(0n, 0n), 1, 22],
    ['part of a page', map(0n, 0x800n), 1, 22],
    ['an unaligned address', map(0x800n, 0x1000n), 1, 22],
    ['an unaligned offset', map(0n, 0x1000n, 0x800n), 1, 22],
    ['a range past 2^64', map(2n ** 64n - 0x1000n, 0x2000n), 1, 22],
    ['all of 2^64', map(0n, 2n ** 64n - 0x1000n), 0, 22],
    ['an offset past 2^64', map(0n, 0x2000n, 2n ** 64n - 0x1000n), 1, 22],
    ['more than the file has', map(0n, 0x5000n), 1, 22],
    ['a part behind the end of the file', map(0n, 0x1000n, 0x4000n), 1, 22],
    ['an offset without a file', map(0n, 0x1000n, 0x1000n), 0, 22],
    ['neither read nor write', map(0n, 0x1000n, 0n, 0), 1, 22],
    ['a flag of the future', map(0n, 0x1000n, 0n, 19), 1, 22],
    ['a file to map, without one', map(0n, 0x1000n, 0n, 7), 0, 22],
    ['a file to read, without one', map(0n, 0x1000n, 0n, 11), 0, 22],
    ['both ways to reach a file', map(0n, 0x1000n, 0n, 15), 1, 22],
    ['no rights, but a way to reach the file', map(0n, 0x1000n, 0n, 4), 1, 22],
    ['FILE_IO of more than the file has', map(0n, 0x5000n, 0n, 11), 1, 22],
    ['two descriptors', map(0n, 0x1000n), 2, 22],
    ['seventeen descriptors', map(0n, 0x1000n), 17, 22],
  ];
  for (const [what, payload, fds, errno] of BAD) {
    test(`a map of ${what} is refused; nothing is left of it`, async () => {
      const world = await World.start();
      await withClient(world, async (client) => {
        const fd = client.memory(4);
        assert.equal(await client.errno(COMMAND.DMA_MAP, payload, Array(fds).fill(fd)), errno);
        assert.deepEqual([world.pages.pieces, world.space.container.stats.mappings], [0, 0]);
        assert.deepEqual(world.space.dma.entries, []);
        fd.close();
      });
    });
  }

  test('a map whose descriptor is no memory is refused', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n), [client.socket.fd]), 22);
    });
  });

  const OVERLAPS: readonly (readonly [what: string, address: bigint, size: bigint])[] = [
    ['the same', 2n * MiB, 0x4000n],
    ['its first page', 2n * MiB, 0x1000n],
    ['its last page', 2n * MiB + 0x3000n, 0x1000n],
    ['more on both sides', 2n * MiB - 0x1000n, 0x6000n],
    ['its end and beyond', 2n * MiB + 0x3000n, 0x2000n],
  ];
  for (const [what, address, size] of OVERLAPS) {
    test(`a map over a mapping (${what}) is EEXIST, and the mapping stays`, async () => {
      const world = await World.start();
      await withClient(world, async (client) => {
        const fd = client.memory(16);
        assert.equal(await client.errno(COMMAND.DMA_MAP, map(2n * MiB, 0x4000n), [fd]), 0);
        assert.equal(await client.errno(COMMAND.DMA_MAP, map(address, size), [fd]), 17);
        assert.equal(world.pages.pieces, 1);
        assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(2n * MiB, 0x4000n)), 0);
        fd.close();
      });
    });
  }

  const NOT_EXACT: readonly (readonly [what: string, address: bigint, size: bigint, flags: number, errno: number])[] = [
    ['never mapped', 0n, 0x1000n, 0, 2],
    ['a part', MiB, 0x1000n, 0, 2],
    ['the end', MiB + 0x1000n, 0x1000n, 0, 2],
    ['more', MiB, 0x3000n, 0, 2],
    ['nothing', MiB, 0n, 0, 2],
    ['past 2^64', 2n ** 64n - 0x1000n, 0x2000n, 0, 2],
    ['everything and more', 0n, 2n ** 64n - 1n, 0, 2],
    ['a flag of the future', MiB, 0x2000n, 4, 22],
    ['dirty pages while their log is off', MiB, 0x2000n, 1, 22],
  ];
  for (const [what, address, size, flags, errno] of NOT_EXACT) {
    test(`an unmap of ${what} is errno ${errno}, and the mapping stays`, async () => {
      const world = await World.start();
      await withClient(world, async (client) => {
        assert.equal(await client.errno(COMMAND.DMA_MAP, map(MiB, 0x2000n)), 0);
        const bitmap = flags === 1 ? { bitmap: { pgsize: 4096n, size: 8n } } : {};
        const request = encodeDmaUnmap({ flags, address, size, ...bitmap });
        assert.equal(await client.errno(COMMAND.DMA_UNMAP, request), errno);
        assert.equal(world.space.dma.entries.length, 1);
        assert.deepEqual(world.device.unmapped, []);
      });
    });
  }

  test('unmap of all: ascending, and a second time nothing', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      for (const address of [3n * MiB, MiB, 2n * MiB]) {
        const fd = client.memory(1);
        assert.equal(await client.errno(COMMAND.DMA_MAP, map(address, 0x1000n), [fd]), 0);
        fd.close();
        world.device.pins.pin(iovaFrame(address), 1, PROT_RW);
      }
      const all = await client.call(COMMAND.DMA_UNMAP, unmap(0n, 0n, 2));
      assert.deepEqual(all.payload, unmap(0n, 0n, 2));
      assert.deepEqual(
        world.device.unmapped.map(([address]) => address),
        [MiB, 2n * MiB, 3n * MiB],
      );
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(0n, 0n, 2)), 0);
    });
  });

  test('the page at the end of 2^64 is an ordinary page', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(1);
      const last = 2n ** 64n - 0x1000n;
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(last, 0x1000n), [fd]), 0);
      world.device.pins.pin(iovaFrame(last), 1, PROT_RW).write(0xfff, Uint8Array.of(7));
      const seen = new Uint8Array(1);
      client.sys.pread(fd.number, seen, 0xfffn);
      assert.equal(seen[0], 7);
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(last, 0x1000n)), 0);
      fd.close();
    });
  });

  test('the reply to an unmap waits for the device; what comes behind it waits too', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(1);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n), [fd]), 0);
      fd.close();
      world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      const { promise, resolve } = gate();
      world.device.unmapping = (range) => promise.then(() => world.device.giveBack(range));
      const first = client.send(COMMAND.DMA_UNMAP, unmap(0n, 0x1000n));
      const second = client.send(COMMAND.REGION_READ, read(0, 0n, 1));
      await client.idle();
      assert.deepEqual(client.received, []);
      resolve();
      await client.idle();
      assert.deepEqual(
        client.received.map(({ id }) => id),
        [first, second],
      );
    });
  });

  test('an unmap that the device fails is an error, and the mapping stays until the device can', async () => {
    const world = await World.start();
    await withClient(world, async (client) => {
      const fd = client.memory(1);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x1000n), [fd]), 0);
      fd.close();
      world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
      world.device.unmapping = () => {
        throw failing;
      };
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(0n, 0x1000n)), 5);
      assert.equal(world.space.dma.entries.length, 1);
      world.device.unmapping = (range) => world.device.giveBack(range);
      assert.equal(await client.errno(COMMAND.DMA_UNMAP, unmap(0n, 0x1000n)), 0);
    });
  });

  test('a limit on locked pages is the VM’s own', async () => {
    const world = await World.start({ lockLimit: 1 });
    await withClient(world, async (client) => {
      const fd = client.memory(4);
      assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n, 0x4000n), [fd]), 0);
      assert.throws(() => world.device.pins.pin(iovaFrame(0n), 2, PROT_RW), { errno: 'ENOMEM' });
      fd.close();
    });
  });
});

describe('slow handlers', () => {
  test('replies keep the order of requests', async () => {
    const gates = [gate(), gate()];
    let calls = 0;
    const world = await World.start({
      serve: (device) => ({
        ...device,
        readRegion: async (_index, _offset, bytes) => {
          const mine = calls;
          calls += 1;
          await gates[mine]?.promise;
          bytes.fill(mine);
        },
      }),
    });
    await withClient(world, async (client) => {
      const ids = [0, 1].map(() => client.send(COMMAND.REGION_READ, read(0, 0n, 1)));
      ids.push(client.send(COMMAND.REGION_WRITE, write(0, 0n, [1])));
      gates[1]?.resolve();
      await client.idle();
      assert.deepEqual([client.received, calls], [[], 1]);
      gates[0]?.resolve();
      await client.idle();
      assert.deepEqual(
        client.received.map(({ id, payload }) => [id, payload[16]]),
        [
          [ids[0], 0],
          [ids[1], 1],
          [ids[2], undefined],
        ],
      );
    });
  });

  test('are named in the log well before QEMU gives up, and once', async () => {
    const { promise, resolve } = gate();
    const world = await World.start({ ops: { reset: () => promise } });
    await withClient(world, async (client) => {
      client.send(COMMAND.DEVICE_RESET, none);
      await client.idle();
      world.clock.advance(1999);
      assert.deepEqual(world.warnings, []);
      world.clock.advance(3000);
      assert.equal(world.warnings.length, 1);
      assert.match(String(world.warnings[0]), /DEVICE_RESET is not through after 2000 ms/);
      resolve();
      await client.idle();
      assert.equal(client.received.length, 1);
      world.clock.advance(10_000);
      assert.equal(world.warnings.length, 1);
    });
  });
});

test('a handler that blocks the whole process is named afterwards', async () => {
  const world = await World.start({
    serve: (device) => ({ ...device, writeRegion: (_index, offset) => world.clock.advance(offset) }),
  });
  await withClient(world, async (client) => {
    assert.equal(await client.errno(COMMAND.REGION_WRITE, write(0, 100n, [1])), 0);
    assert.deepEqual(world.warnings, []);
    assert.equal(await client.errno(COMMAND.REGION_WRITE, write(0, 3000n, [1])), 0);
    assert.match(String(world.warnings[0]), /REGION_WRITE blocked everything for 3000 ms/);
  });
});

function gate(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let open = (): void => {};
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, resolve: () => open() };
}

describe('the end of a connection', () => {
  test('gives back everything; the device keeps its state for the next client', async () => {
    const world = await World.start();
    const first = await world.client();
    const fd = first.memory(4);
    await first.errno(COMMAND.DMA_MAP, map(0n, 0x4000n), [fd]);
    fd.close();
    world.device.pins.pin(iovaFrame(0n), 4, PROT_RW);
    await first.errno(COMMAND.REGION_WRITE, write(0, 0n, [0x55]));
    await first.close();
    assert.deepEqual([world.pages.pieces, world.device.unmapped.length, world.device.sink], [0, 1, undefined]);
    const second = await world.client();
    assert.equal((await second.call(COMMAND.REGION_READ, read(0, 0n, 1))).payload[16], 0x55);
    assert.equal(world.device.opens, 1);
    await second.close();
    await world.end();
  });

  test('waits for the handler that runs', async () => {
    const { promise, resolve } = gate();
    const world = await World.start({ ops: { reset: () => promise } });
    const client = await world.client();
    client.send(COMMAND.DEVICE_RESET, none);
    await client.idle();
    client.socket.close();
    await settle();
    assert.ok(world.server.session);
    resolve();
    await client.close();
    assert.equal(world.server.session, undefined);
    await world.end();
  });

  test('a device that keeps pages is opened anew, so that the next client finds nothing mapped', async () => {
    const world = await World.start();
    const first = await world.client();
    const fd = first.memory(1);
    await first.errno(COMMAND.DMA_MAP, map(0n, 0x1000n), [fd]);
    world.device.pins.pin(iovaFrame(0n), 1, PROT_RW);
    world.device.unmapping = () => {};
    await first.close();
    assert.equal(world.device.opens, 2);
    const second = await world.client();
    assert.equal(await second.errno(COMMAND.DMA_MAP, map(0n, 0x1000n), [fd]), 0);
    fd.close();
    await second.close();
    await world.end();
  });

  test('a second client is turned away while the first is there', async () => {
    const world = await World.start();
    const first = await world.client();
    await assert.rejects(() => world.client(), { name: 'VFIOUSER_BUSY', errno: 'EBUSY' });
    assert.equal(await first.errno(COMMAND.DEVICE_RESET, none), 0);
    await first.close();
    await world.end();
  });

  test('a server that was closed takes nobody', async () => {
    const world = await World.start();
    const client = await world.client();
    await world.server.close();
    await client.idle();
    assert.ok(client.eof);
    await client.close();
    await assert.rejects(() => world.client(), { name: 'VFIOUSER_DISCONNECTED' });
    await world.end();
  });
});

describe('files of regions', () => {
  test('areas to map: first how much room they need, then they and one descriptor', async () => {
    const areas = [
      { offset: 0n, size: 0x1000n },
      { offset: 0x2000n, size: 0x1000n },
    ];
    const about = { index: 4, name: 'BAR4', size: 0x4000, readable: true, writable: true };
    const world = await World.start({
      regions: (fd) => [{ ...about, mapping: { fd, offset: 0x8000n, areas } }],
    });
    await withClient(world, async (client) => {
      const short = await client.call(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(4, 32));
      const { argsz, areas: left } = decodeRegionInfo(short.payload);
      assert.deepEqual([short.payload.length, argsz, left, short.fds], [32, 80, undefined, []]);
      const long = await client.call(COMMAND.DEVICE_GET_REGION_INFO, encodeRegionInfoRequest(4, argsz));
      assert.deepEqual(decodeRegionInfo(long.payload), {
        argsz: 80,
        index: 4,
        flags: 7,
        size: 0x4000n,
        offset: 0x8000n,
        areas,
      });
      assert.equal(long.fds.length, 1);
      for (const fd of long.fds) fd.close();
    });
  });

  test('io descriptors: first how much room they need, then the entries and the descriptors', async () => {
    const entry = { offset: 0x40n, size: 4n, fdIndex: 0, type: 0, flags: 0, data: 0n };
    const about = { index: 0, name: 'BAR0', size: 0x1000, readable: true, writable: true };
    const world = await World.start({
      regions: (fd) => [{ ...about, io: { entries: [entry, { ...entry, offset: 0x44n }], fds: [fd] } }],
    });
    await withClient(world, async (client) => {
      const short = await client.call(COMMAND.DEVICE_GET_REGION_IO_FDS, encodeIoFdsRequest(0, 16));
      const { argsz, count } = decodeIoFds(short.payload);
      assert.deepEqual([argsz, count, short.fds], [96, 2, []]);
      const long = await client.call(COMMAND.DEVICE_GET_REGION_IO_FDS, encodeIoFdsRequest(0, argsz));
      assert.deepEqual(decodeIoFds(long.payload).fds, [entry, { ...entry, offset: 0x44n }]);
      assert.equal(long.fds.length, 1);
      for (const fd of long.fds) fd.close();
      const other = await client.call(COMMAND.DEVICE_GET_REGION_IO_FDS, encodeIoFdsRequest(1, 16));
      assert.deepEqual(decodeIoFds(other.payload), { argsz: 16, count: 0, fds: [] });
    });
  });
});
