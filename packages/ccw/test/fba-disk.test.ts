import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { commandOrb, type DiskImage, FbaDisk, memoryImage, openFileImage } from '@pinion/ccw';
import fc from 'fast-check';
import { patternImage } from './fake-disk.js';
import { AT, fbaProgram, openSubchannel, type Subchannel } from './subchannel.js';

/**
 * Runs the program at AT.ccws to its end. @returns device status, channel status, residual count, sense bytes 0 and 1.
 */
async function run({ device, guest, interrupts }: Subchannel, cpa: number = AT.ccws): Promise<readonly unknown[]> {
  device.start(commandOrb(cpa));
  await device.whenIdle();
  assert.equal(guest.pinned, 0);
  const irb = interrupts.at(-1)?.irb;
  return [
    irb?.deviceStatus,
    irb?.channelStatus,
    irb?.count,
    Buffer.from(irb?.sense?.subarray(0, 2) ?? []).toString('hex'),
  ];
}
const OK = [0x0c, 0, 0, ''];

async function withFile(bytes: Uint8Array, use: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'pinion-ccw-'));
  try {
    await writeFile(join(folder, 'disk'), bytes);
    await use(join(folder, 'disk'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('G.8: 8 blocks from block 100 of a real file, in place of the guest memory they were asked into', () =>
  withFile(patternImage(200).bytes, async (path) => {
    const image = await openFileImage(path, { readOnly: true });
    const subchannel = openSubchannel(new FbaDisk(image));
    fbaProgram(subchannel.guest, { write: false, block: 100, count: 8, data: AT.data + 0x123 });
    assert.deepEqual(await run(subchannel), OK);
    const wanted = patternImage(200).bytes.subarray(100 * 512, 108 * 512);
    assert.deepEqual(subchannel.guest.peek(AT.data + 0x123, 4096), Uint8Array.from(wanted));
    assert.equal(subchannel.guest.peekHex(AT.data + 0x122, 1), '00');
    assert.equal(subchannel.guest.peekHex(AT.data + 0x1123, 1), '00');
    assert.equal(subchannel.interrupts.at(-1)?.irb.cpa, AT.ccws + 24);
    assert.equal(subchannel.interrupts.length, 1);
    await subchannel.device.close();
    await image.close();
    await image.close();
  }));

test('what is written is in the file, and nothing beside it', () =>
  withFile(new Uint8Array(64 * 512), async (path) => {
    const image = await openFileImage(path);
    const subchannel = openSubchannel(new FbaDisk(image));
    fbaProgram(subchannel.guest, { write: true, block: 7, count: 9, data: AT.data });
    subchannel.guest.poke(AT.data, new Uint8Array(9 * 512).fill(0xa5));
    assert.deepEqual(await run(subchannel), OK);
    await image.close();
    const found = await readFile(path);
    assert.deepEqual([...new Set(found.subarray(0, 7 * 512))], [0]);
    assert.deepEqual([...new Set(found.subarray(7 * 512, 16 * 512))], [0xa5]);
    assert.deepEqual([...new Set(found.subarray(16 * 512))], [0]);
  }));

test('one transfer over data chaining, skipping and an indirect list', async () => {
  const { image, bytes } = patternImage(16);
  const subchannel = openSubchannel(new FbaDisk(image));
  const { guest } = subchannel;
  fbaProgram(guest, { write: false, block: 2, count: 3, data: 0 });
  guest.pokeHex(AT.idal, '0000000010013f80 0000000010011000');
  guest.pokeHex(AT.ccws + 16, `42 80 0100 10010010 | 00 90 0200 10012000 | 08 00 0000 10000040`);
  guest.pokeHex(AT.ccws + 0x40, '00 84 0100 10001000 | 00 00 0200 10015ff0');
  assert.deepEqual(await run(subchannel), OK);
  const data = bytes.subarray(2 * 512, 5 * 512);
  const hex = (from: number, to: number): string => Buffer.from(data.subarray(from, to)).toString('hex');
  assert.equal(guest.peekHex(0x1001_0010, 0x100), hex(0, 0x100));
  assert.equal(guest.peekHex(0x1001_2000, 0x200), '00'.repeat(0x200), 'skipped');
  assert.equal(guest.peekHex(0x1001_3f80, 0x80), hex(0x300, 0x380));
  assert.equal(guest.peekHex(0x1001_1000, 0x80), hex(0x380, 0x400));
  assert.equal(guest.peekHex(0x1001_5ff0, 0x200), hex(0x400, 0x600));
});

test('a block that a program gives only in part is filled with zeros', async () => {
  const { image, bytes } = patternImage(4);
  const subchannel = openSubchannel(new FbaDisk(image));
  fbaProgram(subchannel.guest, { write: true, block: 1, count: 1, data: AT.data });
  subchannel.guest.poke(AT.data, new Uint8Array(512).fill(0xa5));
  subchannel.guest.pokeHex(AT.ccws + 16, '41 20 0100 10010000');
  assert.deepEqual(await run(subchannel), OK);
  assert.deepEqual([...new Set(bytes.subarray(512, 768))], [0xa5]);
  assert.deepEqual([...new Set(bytes.subarray(768, 1024))], [0]);
  assert.notEqual(bytes[1025], 0);
});

test('sense ID, device characteristics and NOP', async () => {
  const subchannel = openSubchannel(new FbaDisk(patternImage(1000).image));
  const { guest } = subchannel;
  guest.pokeHex(AT.ccws, 'e4 40 0008 10010000 | 64 40 0020 10010100 | 03 00 0001 10010200');
  assert.deepEqual(await run(subchannel), [0x0c, 0, 1, '']);
  assert.equal(guest.peekHex(AT.data, 8), 'ff63108093361000');
  assert.equal(
    guest.peekHex(0x1001_0100, 32),
    '30002111020000 00003f 0000013b 000003e8'.replaceAll(' ', '').padEnd(64, '0'),
  );
});

const DE = '40 00 0200 00000000 00000000 00000007';
const LO = '06 00 0001 00000000';
const LINK = '63 40 0010 10002000 | 43 40 0008 10002010 | ';
/** What is wrong; DEFINE EXTENT, LOCATE; the CCWs; sense bytes 0 and 1. */
const checks: readonly (readonly [what: string, parameters: string, ccws: string, sense: string])[] = [
  ['a command nobody knows', '', '07 00 0001 10010000', '8000'],
  ['locate without an extent', LO, '43 20 0008 10002000', '8000'],
  ['read without a locate', DE, '63 40 0010 10002000 | 42 20 0200 10010000', '8000'],
  ['a second extent in one program', DE, '63 40 0010 10002000 | 63 20 0010 10002000', '8000'],
  ['a short extent', DE, '63 20 000f 10002000', '8000'],
  ['a short locate', DE + LO, '63 40 0010 10002000 | 43 20 0007 10002010', '8000'],
  ['another block size', '40 00 1000 00000000 00000000 00000000', '63 20 0010 10002000', '8000'],
  ['an extent that ends before it begins', '40 00 0200 00000000 00000007 00000006', '63 20 0010 10002000', '8000'],
  ['an extent one block too long', '40 00 0200 00000001 00000000 0000000f', '63 20 0010 10002000', '8000'],
  ['an extent at the end of 32 bits', '40 00 0200 ffffffff 00000000 ffffffff', '63 20 0010 10002000', '8000'],
  ['an operation nobody knows', `${DE} 03 00 0001 00000000`, `${LINK} 42 20 0200 10010000`, '8000'],
  ['no blocks', `${DE} 06 00 0000 00000000`, `${LINK} 42 20 0200 10010000`, '8000'],
  ['a block behind the extent', `${DE} 06 00 0001 00000008`, `${LINK} 42 20 0200 10010000`, '0004'],
  ['a run that leaves the extent', `${DE} 06 00 0002 00000007`, `${LINK} 42 20 0200 10010000`, '0004'],
  [
    'a block before the extent',
    '40 00 0200 00000000 00000004 00000007 06 00 0001 00000003',
    `${LINK} 42 20 0200 10010000`,
    '0004',
  ],
  ['a write located for reading', DE + LO, `${LINK} 41 20 0200 10010000`, '8000'],
  ['a read located for writing', `00 ${DE.slice(2)} 05 00 0001 00000000`, `${LINK} 42 20 0200 10010000`, '8000'],
  ['a second read for one locate', DE + LO, `${LINK} 42 40 0200 10010000 | 42 20 0200 10010000`, '8000'],
  ['a write in a read-only extent', `${DE} 05 00 0001 00000000`, `${LINK} 41 20 0200 10010000`, '8002'],
  ['a write in an extent without data', `80 ${DE.slice(2)} 05 00 0001 00000000`, `${LINK} 41 20 0200 10010000`, '8002'],
];
for (const [what, parameters, ccws, sense] of checks)
  test(`unit check: ${what}; basic sense then tells once`, async () => {
    const { image, bytes } = patternImage(16);
    const before = bytes.slice();
    const subchannel = openSubchannel(new FbaDisk(image));
    subchannel.guest.pokeHex(AT.parameters, parameters);
    subchannel.guest.pokeHex(AT.ccws, ccws);
    const [deviceStatus, channelStatus, , found] = await run(subchannel);
    assert.deepEqual([deviceStatus, channelStatus, found], [0x0e, 0, sense]);
    assert.equal(subchannel.interrupts.at(-1)?.irb.word0, 0x0082_4017);
    assert.deepEqual(bytes, before);
    subchannel.guest.pokeHex(AT.ccws, '04 40 0020 10010000 | 04 00 0020 10010100');
    assert.deepEqual(await run(subchannel), OK);
    assert.equal(subchannel.guest.peekHex(AT.data, 32), sense.padEnd(64, '0'));
    assert.equal(subchannel.guest.peekHex(AT.data + 0x100, 32), '0'.repeat(64));
  });

test('a read-only image inhibits writes that the extent permits, and keeps its bytes', async () => {
  const { image, bytes } = patternImage(16, { readOnly: true });
  const before = bytes.slice();
  const subchannel = openSubchannel(new FbaDisk(image));
  fbaProgram(subchannel.guest, { write: true, block: 1, count: 1, data: AT.data });
  assert.deepEqual((await run(subchannel)).slice(3), ['8002']);
  assert.deepEqual(bytes, before);
});

test('an image that fails is an equipment check, and the next program works', async () => {
  let broken = true;
  const good = patternImage(16).image;
  const image: DiskImage = {
    ...{ name: 'broken', size: good.size, readOnly: false, write: good.write, close: good.close },
    read: async (position, pieces) => {
      if (broken) throw new RangeError('the host disk died');
      await good.read(position, pieces);
    },
  };
  const subchannel = openSubchannel(new FbaDisk(image));
  fbaProgram(subchannel.guest, { write: false, block: 1, count: 1, data: AT.data });
  assert.deepEqual((await run(subchannel)).slice(3), ['1080']);
  broken = false;
  assert.deepEqual(await run(subchannel), OK);
});

test('an image that fails at every Nth operation: that program alone is checked, every other block is as written', async () => {
  const PROGRAMS = 6;
  for (let fails = 1; fails <= PROGRAMS + 1; fails += 1) {
    const { image: good, bytes } = patternImage(16);
    const before = bytes.slice();
    let calls = 0;
    const guarded =
      (move: DiskImage['read']): DiskImage['read'] =>
      async (position, pieces) => {
        calls += 1;
        if (calls === fails) throw new RangeError('EIO');
        await move.call(good, position, pieces);
      };
    const image = { ...good, name: 'failing', size: good.size, readOnly: false, close: good.close };
    const disk = new FbaDisk({ ...image, read: guarded(good.read), write: guarded(good.write) });
    const subchannel = openSubchannel(disk);
    for (let block = 0; block < PROGRAMS; block += 1) {
      const write = block % 2 === 0;
      subchannel.guest.poke(AT.data, new Uint8Array(512).fill(0xe0 + block));
      fbaProgram(subchannel.guest, { write, block, count: 1, data: AT.data });
      const outcome = await run(subchannel);
      const failed = block + 1 === fails;
      assert.deepEqual(outcome.slice(3), [failed ? '1080' : '']);
      const stored = bytes.subarray(block * 512, block * 512 + 512);
      const old = before.subarray(block * 512, block * 512 + 512);
      assert.deepEqual(stored, write && !failed ? new Uint8Array(512).fill(0xe0 + block) : old);
      if (!write && !failed) assert.deepEqual(subchannel.guest.peek(AT.data, 512), old);
    }
  }
});

test('what a disk cannot stand on is refused', async () => {
  for (const size of [0, 511, 513])
    assert.throws(() => new FbaDisk(memoryImage(new Uint8Array(size))), { name: 'CCW_BAD_IMAGE', errno: 'EINVAL' });
  await assert.rejects(openFileImage(join(tmpdir(), 'pinion-ccw-no-such-file')), { name: 'CCW_BAD_IMAGE' });
  await assert.rejects(openFileImage(tmpdir(), { readOnly: true }), { name: 'CCW_BAD_IMAGE' });
});

test('images refuse what is outside of them, writes when read-only, and use after close', () =>
  withFile(new Uint8Array(1024), async (path) => {
    const file = await openFileImage(path);
    const images = [file, memoryImage(new Uint8Array(1024))];
    const piece = [new Uint8Array(512)];
    for (const image of images)
      for (const position of [-1, 0.5, 513, 1024])
        await assert.rejects(image.read(position, piece), { name: 'CCW_IMAGE_RANGE', errno: 'ERANGE' });
    const locked = [
      await openFileImage(path, { readOnly: true }),
      memoryImage(new Uint8Array(1024), { readOnly: true }),
    ];
    for (const image of locked)
      await assert.rejects(image.write(0, piece), { name: 'CCW_IMAGE_READ_ONLY', errno: 'EACCES' });
    await writeFile(path, new Uint8Array(100));
    await assert.rejects(file.read(512, piece), { name: 'CCW_IMAGE_SHORT', errno: 'EIO' });
    for (const image of [...images, ...locked]) await image.close();
    await assert.rejects(file.read(0, piece), { name: 'CCW_BAD_IMAGE' });
  }));

test('a file takes more pieces than one system call does', () =>
  withFile(
    Uint8Array.from({ length: 4096 }, (_, at) => at % 253),
    async (path) => {
      const image = await openFileImage(path);
      const pieces = Array.from({ length: 2048 }, () => new Uint8Array(2));
      await image.read(0, pieces);
      await image.close();
      assert.deepEqual(new Uint8Array(Buffer.concat(pieces)), new Uint8Array(await readFile(path)));
    },
  ));

test('what is written by one program is read by another, wherever its data lies', async () => {
  const place = fc.integer({ min: 0, max: 0x8000 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 28 }), fc.integer({ min: 1, max: 4 }), place, place, async (...at) => {
      const [block, count, from, to] = at;
      const subchannel = openSubchannel(new FbaDisk(patternImage(32).image));
      const sent = Uint8Array.from({ length: count * 512 }, (_, index) => (index * 31 + block) % 256);
      subchannel.guest.poke(AT.data + from, sent);
      fbaProgram(subchannel.guest, { write: true, block, count, data: AT.data + from });
      assert.deepEqual(await run(subchannel), OK);
      fbaProgram(subchannel.guest, { write: false, block, count, data: AT.data + 0x10000 + to });
      assert.deepEqual(await run(subchannel), OK);
      assert.deepEqual(subchannel.guest.peek(AT.data + 0x10000 + to, sent.length), sent);
    }),
    { numRuns: 50 },
  );
});
