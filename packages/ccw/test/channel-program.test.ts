import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChannelProgram, commandOrb, directIdal, idawCount, ORB, type Orb, readChains } from '@pinion/ccw';
import { PinionError } from '@pinion/core';
import fc from 'fast-check';
import { FakeGuest, framesOf } from './fake-guest.js';
import { AT } from './subchannel.js';

const BASE = AT.ccws;
const newGuest = (): FakeGuest => new FakeGuest(0x10000, 64);
const word = (value: number): string => value.toString(16).padStart(8, '0');
const NARROW: Orb = { intparm: 0, word1: ORB.FORMAT1, cpa: BASE };
const errno = (wanted: string) => (error: unknown) => error instanceof PinionError && error.errno === wanted;

/** Prefetches the program at BASE and gives it back. @returns pin calls. */
function prefetch(guest: FakeGuest, orb: Orb = commandOrb(BASE)): string[] {
  const program = ChannelProgram.init(guest.dma, orb);
  program.prefetch(guest.dma, guest.pins);
  assert.equal(program.pages, guest.pinned);
  program.free();
  program.free();
  assert.equal(guest.pinned, 0);
  return guest.pinCalls;
}

test('G.6: 5000 bytes at 0x10000f00 as 4 KiB and as 2 KiB lists', () => {
  assert.deepEqual(directIdal(0x1000_0f00n, 5000, 4096), [0x1000_0f00n, 0x1000_1000n, 0x1000_2000n]);
  assert.deepEqual(directIdal(0x1000_0f00n, 5000, 2048), [0x1000_0f00n, 0x1000_1000n, 0x1000_1800n, 0x1000_2000n]);
  const guest = newGuest();
  guest.pokeHex(BASE, '01 00 1388 10000f00');
  assert.deepEqual(prefetch(guest), ['10000/1', '10001/2']);
  guest.pinCalls.length = 0;
  assert.deepEqual(prefetch(guest, NARROW), ['10000/1', '10001/1', '10001/1', '10002/1']);
});

test('the longest count needs 17 words of 4 KiB or 33 of 2 KiB; a count of 0 counts as 1', () => {
  assert.equal(idawCount(0xfffn, 65_535, 4096), 17);
  assert.equal(idawCount(0x7ffn, 65_535, 2048), 33);
  assert.equal(idawCount(0x5000n, 0, 4096), 1);
});

const lists: readonly (readonly [what: string, list: string, ccw: string, orb: Orb, pins: readonly string[]])[] = [
  [
    'neighbours are one pin',
    '0000000010010000 0000000010011000 0000000010012000',
    '02 04 3000',
    commandOrb(BASE),
    ['10010/3'],
  ],
  [
    'an unaligned first word stands alone',
    '0000000010010800 0000000010011000',
    '02 04 1800',
    commandOrb(BASE),
    ['10010/1', '10011/1'],
  ],
  [
    'a gap and backwards',
    '0000000010010000 0000000010012000 0000000010011000',
    '02 04 3000',
    commandOrb(BASE),
    ['10010/1', '10012/1', '10011/1'],
  ],
  ['unaligned neighbours too', '0000000010012004 0000000010013004', '02 04 1ffc', commandOrb(BASE), ['10012/2']],
  [
    '2 KiB lists also when words are a page apart',
    '0000000010010000 0000000010011000',
    '02 04 1000',
    commandOrb(BASE, ORB.BLOCKS_2K),
    ['10010/1', '10011/1'],
  ],
  [
    '2 KiB lists word by word',
    '0000000010010000 0000000010010800',
    '02 04 1000',
    commandOrb(BASE, ORB.BLOCKS_2K),
    ['10010/1', '10010/1'],
  ],
  ['32-bit words', '100107e0 10012800', '02 04 003c', NARROW, ['10010/1', '10012/1']],
  ['NOP: read, nothing pinned', '0000000010010000', '03 04 0001', commandOrb(BASE), []],
  ['SKIP: read, nothing pinned', '0000000010010000', '02 14 0800', commandOrb(BASE), []],
  ['count 0: read, nothing pinned', '0000000099990000', '02 04 0000', commandOrb(BASE), []],
];
for (const [what, list, ccw, orb, pins] of lists)
  test(`an indirect list: ${what}`, () => {
    const guest = newGuest();
    guest.pokeHex(AT.idal, list);
    guest.pokeHex(BASE, `${ccw} ${word(AT.idal)}`);
    assert.deepEqual(prefetch(guest, orb), pins);
  });

test('a list of 32-bit words at the end of memory is not read past its last word', () => {
  const guest = newGuest();
  const end = BASE + 64 * 4096;
  guest.pokeHex(end - 4, '10010000');
  guest.pokeHex(BASE, `02 04 0004 ${word(end - 4)}`);
  assert.deepEqual(prefetch(guest, NARROW), ['10010/1']);
});

const NOP = '03 40 0001 00000000';
const LAST = '03 00 0001 00000000';
const chains: readonly (readonly [what: string, ccws: string, lengths: readonly number[]])[] = [
  ['G.6: CD, CC, none', `02 80 0001 10010000 00 40 0001 10011000 ${LAST}`, [3]],
  ['G.6: a TIC back keeps counting', `31 40 0005 10010000 08 00 0000 10000000 06 00 0008 10011000`, [3]],
  ['G.6: a TIC elsewhere ends its chain', `${NOP} 08 00 0000 10000100 ${NOP}`, [2, 1]],
  ['TIC to itself', '08 00 0000 10000000', [2]],
  ['a TIC with CC counts on', `${NOP} 08 40 0000 10000200 ${LAST}`, [3, 1]],
  ['a TIC one past its chain opens another', `${NOP} 08 00 0000 10000010 ${LAST}`, [2, 1]],
  ['a TIC back between two CCWs counts as one back', `${NOP} ${NOP} 08 00 0000 10000004`, [4]],
  ['a TIC to zeroed memory', `${NOP} 08 00 0000 10003000`, [2, 1]],
];
for (const [what, ccws, lengths] of chains)
  test(`chains: ${what}`, () => {
    const guest = newGuest();
    guest.pokeHex(BASE, ccws);
    const found = readChains(guest.dma, commandOrb(BASE)).map((chain) => chain.ccws.length);
    assert.deepEqual(found, lengths);
  });

test('two chains that jump to each other are two chains', () => {
  const guest = newGuest();
  guest.pokeHex(BASE, `${NOP} 08 00 0000 10000100`);
  guest.pokeHex(BASE + 0x100, `${NOP} 08 00 0000 10000000`);
  assert.deepEqual(
    readChains(guest.dma, commandOrb(BASE)).map((chain) => chain.head),
    [BASE, BASE + 0x100],
  );
});

test('256 CCWs are a chain, 257 and an endless one are EINVAL', () => {
  const guest = newGuest();
  guest.pokeHex(BASE, NOP.repeat(255) + LAST);
  assert.equal(readChains(guest.dma, commandOrb(BASE))[0]?.ccws.length, 256);
  guest.pokeHex(BASE, NOP.repeat(256) + LAST);
  assert.throws(() => readChains(guest.dma, commandOrb(BASE)), { name: 'CCW_CHAIN_TOO_LONG', errno: 'EINVAL' });
  guest.pokeHex(BASE, NOP.repeat(1024));
  assert.throws(() => readChains(guest.dma, commandOrb(BASE)), { name: 'CCW_CHAIN_TOO_LONG' });
});

test('256 chains are a program, 257 are EINVAL', () => {
  const guest = newGuest();
  const tics = (count: number): void => {
    for (let at = 0; at < count; at += 1) guest.pokeHex(BASE + at * 16, `08 00 0000 ${word(BASE + (at + 1) * 16)}`);
    guest.pokeHex(BASE + count * 16, LAST);
  };
  tics(255);
  assert.equal(readChains(guest.dma, commandOrb(BASE)).length, 256);
  tics(256);
  assert.throws(() => readChains(guest.dma, commandOrb(BASE)), { name: 'CCW_TOO_MANY_CHAINS', errno: 'EINVAL' });
});

test('a short program may stand at the end of a mapping, a longer one runs into the hole', () => {
  const guest = newGuest();
  const end = BASE + 64 * 4096;
  guest.pokeHex(end - 8, LAST);
  assert.equal(readChains(guest.dma, commandOrb(end - 8)).length, 1);
  guest.pokeHex(end - 8, NOP);
  assert.throws(() => readChains(guest.dma, commandOrb(end - 8)), errno('EINVAL'));
});

const malformed: readonly (readonly [what: string, ccws: string, cpa: number])[] = [
  ['CPA not mapped', LAST, 0x2000_0000],
  ['CPA with bit 0', LAST, 0x9000_0000],
  ['TIC target not mapped', `${NOP} 08 00 0000 20000000`, BASE],
  ['data not mapped', '02 00 0001 20000000', BASE],
  ['second page of data not mapped', '02 00 1001 1003f000', BASE],
  ['list not mapped', '02 04 0001 20000000', BASE],
  ['list of a NOP not mapped', '03 04 0001 20000000', BASE],
  ['list of a count of 0 not mapped', '02 04 0000 20000000', BASE],
  ['rest of a list not mapped', '02 04 1001 1003fff8', BASE],
  ['an IDAW not mapped', `02 04 0001 ${word(AT.idal)}`, BASE],
  ['data of a second chain not mapped', '02 40 0001 10010000 08 00 0000 10000100', BASE],
];
for (const [what, ccws, cpa] of malformed)
  test(`malformed: ${what} is EINVAL, and nothing stays pinned`, () => {
    const guest = newGuest();
    guest.pokeHex(AT.idal, '0000000020000000');
    guest.pokeHex(BASE + 0x100, '02 00 0001 20000000');
    guest.pokeHex(BASE, ccws);
    assert.throws(
      () => ChannelProgram.init(guest.dma, commandOrb(cpa)).prefetch(guest.dma, guest.pins),
      errno('EINVAL'),
    );
    assert.equal(guest.pinned, 0);
  });

test('a pin that fails at place k gives back the k-1 before it, for every k', () => {
  const guest = newGuest();
  guest.pokeHex(AT.idal, '0000000010010000 0000000010012000 0000000010014000');
  guest.pokeHex(BASE, `02 40 2000 10020f00 02 44 3000 ${word(AT.idal)} 01 00 0010 10030000`);
  const calls = prefetch(guest).length;
  assert.equal(calls, 6);
  for (let k = 1; k <= calls; k += 1) {
    const program = ChannelProgram.init(guest.dma, commandOrb(BASE));
    const before = guest.pinCalls.length;
    let left = k;
    guest.onPin = () => {
      left -= 1;
      if (left === 0) throw new PinionError('GUEST_LIMIT', 'ENOMEM', 'no more locked pages');
    };
    assert.throws(() => program.prefetch(guest.dma, guest.pins), { name: 'GUEST_LIMIT', errno: 'ENOMEM' });
    assert.equal(guest.pinCalls.length - before, k - 1);
    assert.equal(guest.pinned, 0);
    assert.equal(program.pages, 0);
  }
});

test('G.7: the edges of the range test', () => {
  const guest = new FakeGuest(0x10000, 256);
  guest.pokeHex(BASE, '02 00 0020 10042000');
  const program = ChannelProgram.init(guest.dma, commandOrb(BASE));
  program.prefetch(guest.dma, guest.pins);
  assert.equal(program.overlaps(framesOf(0x1004_2fff, 1)), true);
  assert.equal(program.overlaps(framesOf(0x1004_3000, 0x1000)), false);
  assert.equal(program.overlaps(framesOf(0x1004_1000, 0x1000)), false);
  assert.equal(program.overlaps(framesOf(0x1000_0000, 0x10_0000)), true);
  assert.equal(program.overlaps(framesOf(BASE, 0x1000)), false, 'the page of the CCWs is a copy');
  program.free();
  assert.equal(program.overlaps(framesOf(0x1004_2000, 0x1000)), false);
  assert.equal(guest.pinned, 0);
});

test('whatever bytes a guest starts, nothing stays pinned after free', () => {
  const program = fc.uint8Array({ minLength: 8, maxLength: 96 });
  fc.assert(
    fc.property(program, fc.integer({ min: 0, max: 0xffff_ffff }), (bytes, word1) => {
      const guest = newGuest();
      guest.poke(BASE, bytes);
      for (let at = 4; at < bytes.length; at += 8) guest.pokeHex(BASE + at, '1000');
      try {
        prefetch(guest, { intparm: 0, word1, cpa: BASE });
      } catch (failure) {
        assert.ok(errno('EINVAL')(failure), String(failure));
      }
      assert.equal(guest.pinned, 0);
    }),
    { numRuns: 200 },
  );
});
