// Reports of pages that devices wrote: DMA_LOGGING features and the bitmap of DMA_UNMAP.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { iovaFrame, PROT_READ, PROT_RW } from '@pinion/core';
import {
  COMMAND,
  decodeFeature,
  decodeReport,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeFeature,
  encodeLogging,
  encodeReport,
  RemoteDirtyLog,
} from '@pinion/vfio-user';
import fc from 'fast-check';
import { type End, type TwoDevices, withTwo } from './two-devices.js';
import { World } from './world.js';

const PAGE = 4096n;
const MiB = 0x10_0000n;
const none = new Uint8Array(0);

/** Numbers of the bits that are set. */
const bitsOf = (bits: Uint8Array): number[] =>
  [...bits].flatMap((byte, n) => [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => n * 8 + bit));

interface Logged {
  readonly log: RemoteDirtyLog;
  readonly other: RemoteDirtyLog;
  readonly a: End;
  readonly b: End;
  readonly rig: TwoDevices;
  /** What `log` says of the 16 pages of memory at 1 MiB. */
  report(): Promise<number[]>;
  /** The first device writes a byte by a copy. */
  write(address: bigint): Promise<void>;
}

/** Two devices with 16 pages of shared memory at 1 MiB and 4 pages without a descriptor at 2 MiB. */
async function withLogs(body: (it: Logged) => Promise<void>): Promise<void> {
  await withTwo(async (rig, a, b) => {
    for (const { client } of [a, b]) await client.mapDma({ address: MiB, size: 16n * PAGE, fd: rig.ram });
    await a.client.mapDma({ address: 2n * MiB, size: 4n * PAGE });
    const log = new RemoteDirtyLog(a.client);
    await body({
      log,
      other: new RemoteDirtyLog(b.client),
      a,
      b,
      rig,
      report: async () => bitsOf(await log.report({ iova: MiB, length: 16n * PAGE, pageSize: PAGE })),
      write: (address) => a.session.dma.write(address, Uint8Array.of(1)),
    });
  });
}

describe('the log of dirty pages', () => {
  test('has what was written since it began, and what was reported is forgotten', () =>
    withLogs(async ({ log, report, write }) => {
      await write(MiB);
      await log.start();
      await write(MiB + 3n * PAGE);
      await write(MiB + 9n * PAGE + 100n);
      assert.deepEqual(await report(), [3, 9]);
      assert.deepEqual(await report(), []);
      await write(MiB + 15n * PAGE);
      assert.deepEqual(await report(), [15]);
    }));

  test('reads dirty nothing; a page that is pinned for writing is dirty as long as it is', () =>
    withLogs(async ({ log, report, a }) => {
      await log.start();
      await a.session.dma.read(MiB, new Uint8Array(8));
      assert.deepEqual(await report(), []);
      const pins = a.device.pins.pin(iovaFrame(MiB + 2n * PAGE), 2, PROT_RW);
      assert.deepEqual(await report(), [2, 3]);
      assert.deepEqual(await report(), [2, 3]);
      pins.unpin();
      await report();
      assert.deepEqual(await report(), []);
      a.device.pins.pin(iovaFrame(MiB), 1, PROT_READ).unpin();
      await report();
    }));

  test('knows of writes by messages too', () =>
    withLogs(async ({ log, a, rig }) => {
      await log.start();
      await assert.rejects(a.session.dma.write(2n * MiB + PAGE, Uint8Array.of(1)), { errno: 'EFAULT' });
      const range = { iova: 2n * MiB, length: 4n * PAGE, pageSize: PAGE };
      assert.deepEqual(bitsOf(await log.report(range)), [], 'the client refused it: it has no memory');
      const entry = rig.vm.dma.find(2n * MiB);
      assert.ok(entry);
      rig.vm.dma.dirty.wrote(entry, 2n * MiB + PAGE + 4095n, 2);
      assert.deepEqual(bitsOf(await log.report(range)), [1, 2]);
    }));

  test('says what it is asked about: any part, any page size, also where nothing is mapped', () =>
    withLogs(async ({ log, write }) => {
      await log.start();
      const writeAll = async (): Promise<void> => {
        for (const page of [0n, 5n, 6n, 15n]) await write(MiB + page * PAGE);
      };
      await writeAll();
      const ask = async (iova: bigint, length: bigint, pageSize = PAGE): Promise<number[]> =>
        bitsOf(await log.report({ iova, length, pageSize }));
      assert.deepEqual(await ask(MiB + 5n * PAGE, PAGE), [0]);
      assert.deepEqual(await ask(MiB - 2n * PAGE, 20n * PAGE), [2, 8, 17]);
      await writeAll();
      assert.deepEqual(await ask(MiB, 16n * PAGE, 4n * PAGE), [0, 1, 3]);
      await writeAll();
      assert.deepEqual(await ask(0n, 3n * MiB, MiB), [1]);
      assert.deepEqual(await ask(0n, 1n << 40n, 1n << 20n), [], 'what was reported is forgotten');
      assert.deepEqual(await ask(2n ** 64n - PAGE, PAGE), []);
    }));

  test('says nothing outside the ranges it was asked for', () =>
    withLogs(async ({ log, report, write }) => {
      const ranges = [
        { iova: MiB + 8n * PAGE, length: 2n * PAGE },
        { iova: MiB, length: PAGE },
      ];
      await log.start({ ranges });
      for (const page of [0n, 1n, 7n, 8n, 9n, 10n]) await write(MiB + page * PAGE);
      assert.deepEqual(await report(), [0, 8, 9]);
    }));

  test('can be stopped and begun anew; each time a second time is nothing', () =>
    withLogs(async ({ log, report, write }) => {
      await log.stop();
      await log.start();
      await write(MiB);
      await log.start();
      assert.deepEqual(await report(), [0], 'a second start forgets nothing');
      await write(MiB);
      await log.stop();
      await log.stop();
      await assert.rejects(report(), { name: 'VFIOUSER_REFUSED', errno: 'EINVAL' });
      await write(MiB + PAGE);
      await log.start();
      assert.deepEqual(await report(), []);
    }));

  test('of one connection takes nothing from that of another', () =>
    withLogs(async ({ log, other, report, write }) => {
      await log.start();
      await write(MiB);
      await other.start();
      await write(MiB + PAGE);
      const theirs = async (): Promise<number[]> =>
        bitsOf(await other.report({ iova: MiB, length: 16n * PAGE, pageSize: PAGE }));
      assert.deepEqual(await theirs(), [1], 'from its start on');
      assert.deepEqual(await report(), [0, 1]);
      await write(MiB + 2n * PAGE);
      assert.deepEqual(await report(), [2]);
      await log.stop();
      assert.deepEqual(await theirs(), [2], 'also after the other one stopped');
    }));

  test('ends with the connection', () =>
    withLogs(async ({ log, a, rig }) => {
      await log.start();
      a.client.close();
      await a.session.done;
      assert.equal(rig.vm.dma.dirty.active, false);
    }));

  test('any writes, any parts: each page is told once, and none that was not written', () =>
    withLogs(async ({ log, write }) => {
      await log.start();
      const page = fc.nat(15);
      await fc.assert(
        fc.asyncProperty(
          fc.array(page, { maxLength: 6 }),
          fc.array(fc.tuple(page, fc.integer({ min: 1, max: 16 })), { maxLength: 4 }),
          async (writes, asks) => {
            for (const each of writes) await write(MiB + BigInt(each) * PAGE);
            const dirty = new Set(writes);
            for (const [first, count] of [...asks, [0, 16] as const]) {
              const last = Math.min(first + count, 16);
              const range = { iova: MiB + BigInt(first) * PAGE, length: BigInt(last - first) * PAGE, pageSize: PAGE };
              const told = bitsOf(await log.report(range)).map((bit) => bit + first);
              const expected = [...dirty].filter((each) => each >= first && each < last).sort((x, y) => x - y);
              assert.deepEqual(told, expected);
              for (const each of told) dirty.delete(each);
            }
          },
        ),
        { numRuns: 40 },
      );
    }));
});

describe('an unmap that asks for dirty pages', () => {
  test('says what was written up to its end', () =>
    withLogs(async ({ log, a, b, write }) => {
      await b.client.unmapDma({ address: MiB, size: 16n * PAGE });
      await log.start();
      await write(MiB + 4n * PAGE);
      a.device.pins.pin(iovaFrame(MiB + 7n * PAGE), 1, PROT_RW);
      assert.deepEqual(bitsOf(await log.unmap({ address: MiB, size: 16n * PAGE })), [4, 7]);
    }));

  test('of a mapping that another connection keeps says it all the same', () =>
    withLogs(async ({ log, other, write, rig }) => {
      await log.start();
      await other.start();
      await write(MiB + 4n * PAGE);
      assert.deepEqual(bitsOf(await log.unmap({ address: MiB, size: 16n * PAGE })), [4]);
      assert.equal(rig.vm.dma.find(MiB)?.owners.size, 1);
      assert.deepEqual(bitsOf(await other.unmap({ address: MiB, size: 16n * PAGE }, 8n * PAGE)), [0]);
      assert.equal(rig.vm.dma.find(MiB), undefined);
    }));

  test('an ordinary unmap while a log is on is one', () =>
    withLogs(async ({ log, a, b, report }) => {
      await log.start();
      for (const { client } of [a, b]) await client.unmapDma({ address: MiB, size: 16n * PAGE });
      assert.deepEqual(await report(), []);
    }));
});

describe('the log refuses', () => {
  const start = (pageSize: bigint, ranges: readonly { iova: bigint; length: bigint }[] = []): Uint8Array =>
    encodeFeature({ feature: 6, get: false, set: true, probe: false, data: encodeLogging({ pageSize, ranges }) });
  const ask = (iova: bigint, length: bigint, pageSize = PAGE, argsz = 1 << 21): Uint8Array =>
    encodeFeature({
      feature: 8,
      get: true,
      set: false,
      probe: false,
      argsz,
      data: encodeReport({ iova, length, pageSize, bits: none }),
    });
  const unmap = (size: bigint, pgsize: bigint, bytes: bigint): Uint8Array =>
    encodeDmaUnmap({ flags: 1, address: 0n, size, bitmap: { pgsize, size: bytes } });
  const { DEVICE_FEATURE: feature, DMA_UNMAP } = COMMAND;
  const BAD: readonly (readonly [what: string, on: boolean, command: number, payload: Uint8Array, errno: number])[] = [
    ['a start with pages of 0 bytes', false, feature, start(0n), 22],
    ['a start with pages of 2 KiB', false, feature, start(2048n), 22],
    ['a start with pages of 12 KiB', false, feature, start(12288n), 22],
    ['a start with another page size', true, feature, start(8192n), 22],
    ['a start with other ranges', true, feature, start(PAGE, [{ iova: 0n, length: PAGE }]), 22],
    ['an empty range', false, feature, start(PAGE, [{ iova: 0n, length: 0n }]), 22],
    ['a range that wraps', false, feature, start(PAGE, [{ iova: 2n ** 64n - PAGE, length: 2n * PAGE }]), 22],
    ['half a page', false, feature, start(PAGE, [{ iova: 0x800n, length: PAGE }]), 22],
    [
      'ranges over each other',
      false,
      feature,
      start(PAGE, [
        { iova: 0n, length: 2n * PAGE },
        { iova: PAGE, length: PAGE },
      ]),
      22,
    ],
    ['a count of ranges that lies', false, feature, start(PAGE).fill(0xff, 16, 20), 22],
    ['a report before the start', false, feature, ask(0n, PAGE), 22],
    ['a report of nothing', true, feature, ask(0n, 0n), 22],
    ['a report of a range that wraps', true, feature, ask(2n ** 64n - PAGE, 2n * PAGE), 22],
    ['a report of pages of 3 bytes', true, feature, ask(0n, PAGE, 3n), 22],
    ['a report of pages of 0 bytes', true, feature, ask(0n, PAGE, 0n), 22],
    ['a report from the middle of a page', true, feature, ask(0x800n, PAGE), 22],
    ['a report without room for it', true, feature, ask(0n, 65n * PAGE, PAGE, 8 + 24 + 15), 22],
    ['a report of 2^64 bytes', true, feature, ask(0n, 2n ** 64n - 1n), 7],
    ['a report of half its request', true, feature, ask(0n, PAGE).subarray(0, 20), 22],
    ['a bitmap before the start', false, DMA_UNMAP, unmap(PAGE, PAGE, 8n), 22],
    ['a bitmap with too few bits', true, DMA_UNMAP, unmap(0x10_0000n, PAGE, 31n), 22],
    ['a bitmap of pages of 3 bytes', true, DMA_UNMAP, unmap(0x10_0000n, 3n, 64n), 22],
    ['a bitmap of what is not mapped', true, DMA_UNMAP, unmap(PAGE, PAGE, 8n), 2],
  ];
  for (const [what, on, command, payload, errno] of BAD) {
    test(`${what} with errno ${errno}; nothing has changed`, async () => {
      const world = await World.start();
      const client = await world.client();
      const ram = client.memory(256);
      await client.call(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: 0n, size: MiB }), [ram]);
      ram.close();
      if (on) assert.equal(await client.errno(feature, start(PAGE)), 0);
      const wanted = what === 'a bitmap before the start' ? unmap(MiB, PAGE, 32n) : payload;
      assert.equal(await client.errno(command, wanted), errno);
      assert.deepEqual([world.space.dma.entries.length, world.space.dma.dirty.active], [1, on]);
      await client.close();
      await world.end();
    });
  }

  test('mappings of more than 8 TiB together while a log is on, and a log over more', async () => {
    const TiB = 1n << 40n;
    const world = await World.start();
    const client = await world.client();
    const map = (address: bigint, size: bigint): Promise<number> =>
      client.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address, size }));
    const set = (id: number, data: Uint8Array): Promise<number> =>
      client.errno(feature, encodeFeature({ feature: id, get: false, set: true, probe: false, data }));
    assert.deepEqual([await map(0n, 5n * TiB), await map(8n * TiB, 3n * TiB), await map(16n * TiB, PAGE)], [0, 0, 0]);
    assert.equal(await client.errno(feature, start(PAGE)), 22);
    assert.equal(await client.errno(DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 16n * TiB, size: PAGE })), 0);
    assert.equal(await client.errno(feature, start(PAGE)), 0);
    assert.equal(await map(16n * TiB, PAGE), 22);
    assert.equal(await set(7, none), 0);
    assert.equal(await map(16n * TiB, PAGE), 0);
    await client.close();
    await world.end();
  });

  test('pages at the very end of all addresses', async () => {
    const world = await World.start();
    const client = await world.client();
    const iova = 2n ** 64n - 8n * PAGE;
    const ram = client.memory(8);
    await client.call(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0n, address: iova, size: 8n * PAGE }), [ram]);
    ram.close();
    assert.equal(await client.errno(feature, start(PAGE)), 0);
    for (const page of [3n, 7n]) await client.session.dma.write(iova + page * PAGE, Uint8Array.of(1));
    const reply = await client.call(feature, ask(iova + 2n * PAGE, 6n * PAGE));
    assert.deepEqual(bitsOf(decodeReport(decodeFeature(reply.payload).data).bits), [1, 5]);
    await client.close();
    await world.end();
  });

  test('everything where the backend keeps no books', async () => {
    const world = await World.start();
    const client = await world.client();
    Object.defineProperty(world.space.container.backend, 'dirty', { value: undefined });
    assert.equal(await client.errno(feature, start(PAGE)), 25);
    assert.equal(await client.errno(feature, ask(0n, PAGE)), 25);
    await client.close();
    await world.end();
  });

  test('a reply that echoes what was asked: range, page size, bits in whole words', async () => {
    const world = await World.start();
    const client = await world.client();
    await client.errno(feature, start(PAGE));
    const reply = decodeFeature((await client.call(feature, ask(PAGE, 65n * PAGE))).payload);
    assert.deepEqual(decodeReport(reply.data), {
      iova: PAGE,
      length: 65n * PAGE,
      pageSize: PAGE,
      bits: new Uint8Array(16),
    });
    assert.equal(reply.argsz, 8 + 24 + 16);
    await client.close();
    await world.end();
  });
});
