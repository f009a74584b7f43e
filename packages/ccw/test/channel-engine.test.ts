import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandOrb, ORB } from '@pinion/ccw';
import { patternDisk, ScriptedUnit } from './fake-disk.js';
import { FakeGuest } from './fake-guest.js';
import { AT, openSubchannel } from './subchannel.js';

/** Word 0, device status, channel status, residual count, offset of the CPA in the page of the CCWs. */
type Status = readonly [word0: number, deviceStatus: number, channelStatus: number, count: number, cpa: number];
const NORMAL = 0x0080_4007;
const ALERT = 0x0080_4017;

async function run(unit: ScriptedUnit, ccws: string, cpa: number = AT.ccws): Promise<Status> {
  const { guest, device, interrupts } = openSubchannel(unit);
  guest.pokeHex(AT.ccws, ccws);
  device.start(commandOrb(cpa));
  assert.deepEqual([unit.commands, interrupts], [[], []], 'a start returns before its program runs');
  await device.whenIdle();
  assert.equal(guest.pinned, 0);
  assert.deepEqual(guest.warnings, []);
  const irb = interrupts.at(-1)?.irb ?? device.irb;
  return [irb.word0, irb.deviceStatus, irb.channelStatus, irb.count, irb.cpa - AT.ccws];
}

const unitWith = (what: Partial<Pick<ScriptedUnit, 'wants' | 'greedy' | 'status' | 'next'>>): ScriptedUnit =>
  Object.assign(new ScriptedUnit(), what);

const NOP = '03 40 0001 00000000 ';
const LAST = '03 00 0001 00000000 ';
const programChecks: readonly (readonly [what: string, ccws: string, cpa: number])[] = [
  ['command 00', '00 00 0001 10010000', 0x08],
  ['a command ending in 0', 'f0 00 0001 10010000', 0x08],
  ['18 is no TIC in format 1', '18 00 0000 10010000', 0x08],
  ['a TIC with a flag', `${NOP} 08 20 0000 10000020 ${LAST}`, 0x10],
  ['a TIC with CC', `${NOP} 08 40 0000 10000020 ${LAST}`, 0x10],
  ['a TIC with a count', `${NOP} 08 00 0001 10000020 ${LAST}`, 0x10],
  ['TIC to TIC', `${NOP} 08 00 0000 10000020 ${LAST} ${LAST} 08 00 0000 10000000`, 0x28],
  ['TIC to itself, first', `08 00 0000 10000000 ${LAST}`, 0x08],
  ['TIC to itself, second', `${NOP} 08 00 0000 10000008 ${LAST}`, 0x10],
  ['TIC between two CCWs', `${NOP} 08 00 0000 10000004 ${LAST}`, 0x0c],
  ['suspend without ORB.S', '02 22 0020 10010000', 0x08],
  ['a MIDA', '02 01 0020 10010000', 0x08],
  ['a chain that ends in zeros', '02 40 0001 10010000', 0x10],
  ['an IDAW off its border', '02 24 2000 10001000', 0x08],
];
for (const [what, ccws, cpa] of programChecks)
  test(`program check: ${what}`, async () => {
    const unit = unitWith({ wants: 1 });
    if (what.includes('IDAW')) unit.wants = 0x2000;
    const { guest, device, interrupts } = openSubchannel(unit);
    guest.pokeHex(AT.idal, '0000000010012004 0000000010013004 0000000010014000');
    guest.pokeHex(AT.ccws, ccws);
    device.start(commandOrb(AT.ccws));
    await device.whenIdle();
    const irb = interrupts.at(-1)?.irb;
    assert.deepEqual([irb?.word0, irb?.deviceStatus, irb?.channelStatus, irb?.count], [ALERT, 0, 0x20, 0]);
    assert.equal((irb?.cpa ?? 0) - AT.ccws, cpa);
    assert.equal(guest.pinned, 0);
  });

const ends: readonly (readonly [what: string, unit: Parameters<typeof unitWith>[0], ccws: string, end: Status])[] = [
  ['a normal end', { wants: 8 }, '02 00 0008 10010000', [NORMAL, 0x0c, 0, 0, 8]],
  ['a short record', { wants: 5 }, '02 00 0008 10010000', [ALERT, 0x0c, 0x40, 3, 8]],
  ['a short record, suppressed', { wants: 5 }, '02 20 0008 10010000', [NORMAL, 0x0c, 0, 3, 8]],
  ['a short record ends the chain', { wants: 5 }, `02 40 0008 10010000 ${LAST}`, [ALERT, 0x0c, 0x40, 3, 8]],
  ['suppressed, it goes on', { wants: 5 }, '02 60 0008 10010000 02 20 0007 10010000', [NORMAL, 0x0c, 0, 2, 16]],
  ['a long record', { wants: 9 }, '02 00 0008 10010000', [ALERT, 0x0c, 0x40, 0, 8]],
  ['a long record, suppressed', { wants: 9 }, '02 20 0008 10010000', [NORMAL, 0x0c, 0, 0, 8]],
  [
    'a record that ends inside a data chain',
    { wants: 5 },
    '02 a0 0008 10010000 00 20 0008 10010000',
    [ALERT, 0x0c, 0x40, 3, 8],
  ],
  [
    'a record that ends between two CCWs of it',
    { wants: 8 },
    '02 80 0008 10010000 00 20 0006 10010000',
    [NORMAL, 0x0c, 0, 6, 16],
  ],
  ['a record over a data chain', { wants: 14 }, '02 80 0008 10010000 00 00 0006 10010000', [NORMAL, 0x0c, 0, 0, 16]],
  ['a command that moves no data has no length', {}, '03 00 0010 10010000', [NORMAL, 0x0c, 0, 16, 8]],
  [
    'CD and CC together: CC does not count',
    { wants: 8 },
    '02 c0 0008 10010000 00 00 0000 10010000',
    [NORMAL, 0x0c, 0, 0, 16],
  ],
  ['unit exception ends the chain', { next: [0x0d] }, `${NOP}${LAST}`, [ALERT, 0x0d, 0, 1, 8]],
  ['busy', { status: 0x10 }, LAST, [ALERT, 0x10, 0, 1, 8]],
  ['a status modifier skips one CCW', { next: [0x4c] }, `${NOP} ff 40 0001 10010000 ${LAST}`, [NORMAL, 0x0c, 0, 1, 24]],
  ['a program that begins with a TIC', {}, `08 00 0000 10000010 ${LAST} ${LAST}`, [NORMAL, 0x0c, 0, 1, 24]],
];
for (const [what, script, ccws, end] of ends)
  test(`ends: ${what}`, async () => {
    assert.deepEqual(await run(unitWith(script), ccws), end);
  });

test('a unit check carries the sense bytes and ends the chain', async () => {
  const { guest, device, interrupts } = openSubchannel(unitWith({ status: 0x0e }));
  guest.pokeHex(AT.ccws, NOP + LAST);
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(interrupts[0]?.irb.word0, 0x0082_4017);
  assert.equal(interrupts[0]?.irb.sense?.[0], 0x40);
  assert.equal(interrupts[0]?.irb.cpa, AT.ccws + 8);
});

test('a search loop: the modifier leaves it', async () => {
  const unit = unitWith({ next: [0x0c, 0x0c, 0x4c] });
  const end = await run(unit, `31 40 0001 10010000 | 08 00 0000 10000000 | ${LAST}`);
  assert.deepEqual(end, [NORMAL, 0x0c, 0, 1, 24]);
  assert.deepEqual(unit.commands, [0x31, 0x31, 0x31, 0x03]);
});

test('two chains that jump to each other end with a program check', async () => {
  const unit = unitWith({});
  const { guest, device, interrupts } = openSubchannel(unit);
  guest.pokeHex(AT.ccws, `${NOP} 08 00 0000 10000100`);
  guest.pokeHex(AT.ccws + 0x100, `${NOP} 08 00 0000 10000000`);
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(interrupts.at(-1)?.irb.channelStatus, 0x20);
  assert.equal(unit.commands.length, 32_768);
});

test('a data chain of empty CCWs in a circle ends too', async () => {
  const end = await run(unitWith({ wants: 8 }), '02 80 0000 10010000 | 08 00 0000 10000000 | 00 80 0000 10010000');
  assert.deepEqual(end.slice(0, 4), [ALERT, 0, 0x20, 0]);
});

test('format-0 CCWs run from the lowest 16 MiB, in 2 KiB blocks', async () => {
  const { guest, device, interrupts } = openSubchannel(unitWith({ wants: 2 }), {}, new FakeGuest(0, 64));
  guest.pokeHex(0x100, '02004fff 40000002 | 78000200 ffffffff');
  guest.pokeHex(0x200, '02006000 00000002');
  device.start({ intparm: 0, word1: ORB.PREFETCH, cpa: 0x100 });
  assert.deepEqual(guest.pinCalls, ['4/1', '5/1', '6/1']);
  await device.whenIdle();
  assert.deepEqual([guest.peekHex(0x4ffe, 4), guest.peekHex(0x6000, 3)], ['005a5a00', '5a5a00']);
  assert.deepEqual([interrupts.length, interrupts[0]?.irb.word0, interrupts[0]?.irb.cpa], [1, NORMAL, 0x208]);
  assert.equal(guest.pinned, 0);
});

test('PCI interrupts come while the program runs and keeps its pages', async () => {
  const { guest, device, interrupts } = openSubchannel(unitWith({ wants: 4 }));
  const pinned: number[] = [];
  device.setIrqSink(() => {
    interrupts.push({ index: 0, irb: device.irb });
    pinned.push(guest.pinned);
  });
  guest.pokeHex(AT.ccws, '02 48 0004 10010000 | 02 88 0002 10011000 | 00 08 0002 10012000');
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  const told = interrupts.map(({ irb }) => [irb.word0, irb.channelStatus, irb.cpa - AT.ccws]);
  assert.deepEqual(told, [
    [0x0080_40c9, 0x80, 8],
    [0x0080_40c9, 0x80, 16],
    [0x0080_40c9, 0x80, 24],
    [NORMAL, 0, 24],
  ]);
  assert.deepEqual(pinned, [3, 3, 3, 0]);
});

test('a unit that throws is an interface control check', async () => {
  const unit = patternDisk(4);
  const { guest, device, interrupts } = openSubchannel({
    ...{ name: 'thrower', sense: unit.sense, begin: () => {}, reset: () => {} },
    execute: () => {
      throw new RangeError('broken unit');
    },
  });
  guest.pokeHex(AT.ccws, '02 00 0004 10010000');
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(interrupts[0]?.irb.channelStatus, 0x02);
  assert.equal(guest.warnings.length, 1);
  assert.equal(guest.pinned, 0);
});

test('a unit that takes the bytes of a NOP gets a protection check, not memory', async () => {
  const end = await run(unitWith({ wants: 1, greedy: true }), '03 00 0008 10010000');
  assert.deepEqual(end, [ALERT, 0, 0x10, 0, 8]);
});
