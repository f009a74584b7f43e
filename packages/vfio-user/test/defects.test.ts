// Defects that other servers and clients had, or have, and where it is shown that ours have not. The table is looked at: a row whose test is gone fails.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMAND, encodeDmaMap, encodeDmaUnmap, encodeFeature, encodeLogging, encodeReport } from '@pinion/vfio-user';
import { World } from './world.js';

/** A defect, and the test against it: its file, and a piece of its title. */
type Row = readonly [defect: string, file: string, title: string];

const TABLE: readonly Row[] = [
  // Framing and headers
  [
    'a header or a body that comes in pieces ends the connection, or is misread',
    'framer',
    'gives the same messages however the stream is split',
  ],
  ['a size is believed, and allocated, before it is looked at', 'hostile', 'a size of 2^32-1'],
  ['descriptors of a message that takes none stay open', 'server', 'EINVAL, and they are closed'],
  [
    'descriptors go to the wrong one of two messages in one piece',
    'framer',
    'keeps descriptors apart when the message before ends in the same piece',
  ],
  ['an error without the reply bit is taken for a command', 'hostile', 'flags of a header from the future'],
  ['a command that wants no reply is answered', 'server', 'a posted write is never answered'],
  ['ids must be unique', 'hostile', 'message ids may repeat, also at the same time'],
  ['a write of more than 208 KiB desynchronises the stream', 'hostile', 'a write of 512 KiB does not desynchronise'],
  ['replies overtake each other', 'server', 'replies keep the order of requests'],
  // VERSION
  ['the reply is longer than QEMU has room for', 'server', 'is answered in less room than QEMU has'],
  [
    'a client that takes 0 bytes: messages that never advance',
    'guest-dma',
    'a client that says it takes nothing is refused',
  ],
  ['a second VERSION is taken', 'server', 'may come once'],
  ['a minor above the proposed one', 'server', 'never answers with more than was proposed'],
  ['JSON of the wrong shape ends the program', 'codec-rejects', 'refuses bytes that are no UTF-8'],
  // DMA_MAP and DMA_UNMAP
  ['a mapping of no bytes', 'server', "'no bytes', map"],
  ['a mapping that wraps past 2^64', 'server', "'a range past 2^64', map"],
  ['an unaligned address', 'server', "'an unaligned address', map"],
  [
    'an offset in the file that is no page border, and a tail beside the mapping',
    'hostile',
    'an offset in a file that is no page border is refused',
  ],
  ['a mapping over another is EINVAL, or succeeds', 'server', 'is EEXIST, and the mapping stays'],
  ['more than 16 mappings are too many', 'defects', 'thousands of mappings'],
  ['a descriptor stays open for every mapping', 'defects', 'mappings of one file hold one descriptor'],
  [
    'a file that its owner truncates kills the server',
    'real-system',
    'a client that truncates its memory causes an error and no signal',
  ],
  ['a part of a mapping can be unmapped', 'server', "'a part', MiB"],
  ['an unmap of what is not mapped ends the connection', 'server', "'never mapped', 0n"],
  ['the reply to an unmap has no payload', 'server', 'assert.deepEqual(gone.payload, unmap(MiB, 0x10000n))'],
  ['an unmap is answered before the device is through', 'server', 'the reply to an unmap waits for the device'],
  [
    'a device that cannot stop leaves its unmap without an answer',
    'server',
    'an unmap that the device fails is an error',
  ],
  ['maps before GET_INFO, many at once, are not expected', 'server', 'a burst of maps and unmaps before GET_INFO'],
  ['a mapping without a descriptor is NULL to a device that pins it', 'guest-dma', 'goes by messages where it was not'],
  [
    'a length that wraps escapes the mapping that was used last',
    'hostile',
    'a length that wraps inside a mapping that was just used',
  ],
  // Regions and interrupts
  ['a descriptor for each area of a region', 'server', 'first how much room they need, then they and one descriptor'],
  ['capabilities in a reply without room for them', 'server', 'areas to map: first how much room they need'],
  ['entries of 48 bytes where the specification has 40', 'golden-bytes', 'the wide entries of libvfio-user'],
  ['every index is said to have no masks', 'server', 'says what each index can do'],
  ['lines from the middle of an index cannot be taken away', 'irqs', 'also from the middle'],
  ['INTx and MSI-X share one table', 'irqs', 'what happens to INTx does not touch MSI-X'],
  [
    'a masked vector fires, or is forgotten',
    'irqs',
    'a masked vector is kept pending and fires once when it is unmasked',
  ],
  ['the resample descriptor is closed unused', 'irqs', 'the resample descriptor unmasks INTx'],
  ['ERR and REQ cannot be raised', 'irqs', 'ERR and REQ can be connected and triggered'],
  ['lines are de-assigned that never were: an error', 'irqs', 'also those that never were'],
  // DMA messages
  [
    'a DMA message inside a request freezes the guest for five seconds',
    'guest-dma',
    'is refused at once instead of after five seconds',
  ],
  ['a DMA message breaks when the client sends in between', 'guest-dma', 'requests wait and cross it'],
  ['the answer to a DMA message is believed whatever it is about', 'guest-dma', 'fails when the client answers'],
  ['a late answer ends the connection', 'guest-dma', 'its late answer is passed over'],
  [
    'an answer that the client’s socket has no room for is lost, and the disk hangs',
    'guest-dma',
    'asks for no more than 64 KiB at a time',
  ],
  ['an unmap waits for a DMA message that its client does not answer', 'guest-dma', 'ends with the unmap of its range'],
  // Cloud Hypervisor
  [
    'an error instead of a register value hangs a client that cannot read errors',
    'server',
    'a failed read is answered with all-ones',
  ],
  // Migration and dirty pages
  [
    'a report with another page size than the start spins for ever',
    'defects',
    'a report of 1024 pages in any page size',
  ],
  ['a report must begin where a mapping begins', 'dirty-log', 'any part, any page size'],
  ['the ranges of a log are ignored', 'dirty-log', 'says nothing outside the ranges'],
  ['memory without a descriptor has no log', 'dirty-log', 'knows of writes by messages too'],
  ['one bit counter for pages and bits', 'dirty-log', 'each page is told once, and none that was not written'],
  ['everything but a few commands is refused while a device is stopped', 'defects', 'a device that is stopped answers'],
  // The end
  ['a client that goes leaves mappings and descriptors', 'hostile', 'at every byte of'],
  ['a restart of the client kills the device', 'server', 'the device keeps its state for the next client'],
  ['a slow handler is found out after five seconds', 'server', 'are named in the log well before QEMU gives up'],
];

describe('a defect that others had', () => {
  for (const [defect, file, title] of TABLE) {
    test(`${defect}: see ${file}.test.ts`, () => {
      const path = fileURLToPath(new URL(`../../test/${file}.test.ts`, import.meta.url));
      const text = readFileSync(path, 'utf8');
      const rows = file === 'defects' ? text.slice(text.indexOf('\n];')) : text;
      assert.ok(rows.includes(title), `there is no test '${title}'`);
    });
  }
});

const map = (address: bigint, size = 0x1000n): Uint8Array => encodeDmaMap({ flags: 3, offset: 0n, address, size });

describe('what had no test of its own', () => {
  test('thousands of mappings: each is found, and each goes by itself', async () => {
    const world = await World.start();
    const client = await world.client();
    const fd = client.memory(1);
    const count = 3000n;
    for (let n = 0n; n < count; n += 1n) {
      client.send(COMMAND.DMA_MAP, map(n * 0x2000n), { fds: [fd] });
      if (n % 64n === 63n) await client.idle();
    }
    await client.idle();
    assert.ok(client.received.every(({ flags }) => flags === 1));
    assert.equal(world.space.container.stats.mappings, Number(count));
    world.space.container.dmaRw(0x2000n * 1234n + 5n, Uint8Array.of(9), true);
    assert.equal(
      await client.errno(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0x2000n * 77n, size: 0x1000n })),
      0,
    );
    assert.equal(world.space.dma.find(0x2000n * 77n), undefined);
    assert.ok(world.space.dma.find(0x2000n * 78n + 0xfffn));
    fd.close();
    await client.close();
    await world.end();
  });

  test('mappings of one file hold one descriptor: there may be more of them than a process may have open', async () => {
    const world = await World.start();
    const client = await world.client();
    const fd = client.memory(1);
    const before = world.sys.ledger.count('fd');
    for (let n = 0n; n < 50n; n += 1n) assert.equal(await client.errno(COMMAND.DMA_MAP, map(n * 0x1000n), [fd]), 0);
    assert.deepEqual([world.sys.ledger.count('fd'), world.pages.pieces], [before + 1, 50]);
    fd.close();
    await client.close();
    await world.end();
  });

  for (const pageSize of [0x1000n, 0x2000n, 0x10_0000n, 0x40_0000n]) {
    test(`a report of 1024 pages in any page size ends: ${pageSize} bytes`, async () => {
      const world = await World.start();
      const client = await world.client();
      const fd = client.memory(1024);
      const size = 0x40_0000n;
      await client.errno(COMMAND.DMA_MAP, map(0n, size), [fd]);
      fd.close();
      const start = encodeFeature({
        feature: 6,
        get: false,
        set: true,
        probe: false,
        data: encodeLogging({ pageSize: 4096n, ranges: [] }),
      });
      await client.errno(COMMAND.DEVICE_FEATURE, start);
      world.space.container.dmaRw(size - 1n, Uint8Array.of(1), true);
      const data = encodeReport({ iova: 0n, length: size, pageSize, bits: new Uint8Array(0) });
      const ask = encodeFeature({ feature: 8, get: true, set: false, probe: false, argsz: 4096, data });
      const { payload } = await client.call(COMMAND.DEVICE_FEATURE, ask);
      const bit = Number(size / pageSize) - 1;
      const bits = payload.subarray(32);
      assert.equal(bits.length, Math.ceil((bit + 1) / 64) * 8);
      assert.deepEqual([bits[bit >> 3], bits.reduce((sum, byte) => sum + byte, 0)], [1 << (bit & 7), 1 << (bit & 7)]);
      await client.close();
      await world.end();
    });
  }

  test('a device that is stopped answers every command as before', async () => {
    const world = await World.start({ ops: { migration: { enter: () => {}, read: () => 0, write: () => {} } } });
    const client = await world.client();
    await world.served.migration?.enter(1);
    assert.equal(await client.errno(COMMAND.DMA_MAP, map(0n)), 0);
    assert.equal(await client.errno(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, address: 0n, size: 0x1000n })), 0);
    assert.equal(await client.errno(COMMAND.DEVICE_RESET, new Uint8Array(0)), 0);
    await client.close();
    await world.end();
  });
});
