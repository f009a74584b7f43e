import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CCW_FLAG,
  ECKD_COMMAND as CMD,
  DiskShare,
  EckdDisk,
  memoryImage,
  openHerculesVolume,
  PSF_ORDER,
  PSF_SUBORDER,
} from '@pinion/ccw';
import { extent, herculesBytes, locate, runSteps, type Step } from './eckd-volume.js';
import { FakeGuest, framesOf } from './fake-guest.js';
import { AT, openSubchannel, type Subchannel } from './subchannel.js';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function opened(share = new DiskShare()): Promise<Subchannel> {
  const disk = new EckdDisk(await openHerculesVolume(memoryImage(herculesBytes(1))), { share });
  return openSubchannel(disk, {}, new FakeGuest(0x10000, 512));
}

const prepare = (suborder: number, changes: Readonly<Record<number, number>> = {}): Step => {
  const bytes = new Uint8Array(12);
  bytes.set([PSF_ORDER.PREPARE], 0);
  bytes[6] = suborder;
  for (const [at, value] of Object.entries(changes)) bytes[Number(at)] = value;
  return [CMD.PERFORM_SUBSYSTEM_FUNCTION, bytes];
};
const readBack = (size: number): Step => [CMD.READ_SUBSYSTEM_DATA, size];

test('the answers that a Linux guest asks for when a disk comes online', async () => {
  const { guest, device } = await opened();
  const features = await runSteps(guest, device, [prepare(PSF_SUBORDER.FEATURES), readBack(256)]);
  assert.deepEqual([features.irb.deviceStatus, features.reads[1]?.[8], features.reads[1]?.[40]], [0x0c, 0x01, 0]);
  const addresses = await runSteps(guest, device, [prepare(PSF_SUBORDER.ADDRESSES), readBack(512)]);
  assert.deepEqual([addresses.reads[1]?.[0], addresses.reads[1]?.[2]], [1, 0], 'one base, no alias');
  const status = await runSteps(guest, device, [prepare(PSF_SUBORDER.STATUS), readBack(16)]);
  assert.equal(hex(status.reads[1]), '00'.repeat(16));
  const message = await runSteps(guest, device, [prepare(PSF_SUBORDER.MESSAGE, { 8: 1, 11: 9 }), readBack(9)]);
  assert.equal(hex(message.reads[1]), `0009${'00'.repeat(7)}`);
  const sensed = await runSteps(guest, device, [[CMD.SENSE_SUBSYSTEM_STATUS, 44]]);
  assert.equal(hex(sensed.reads[0]), `0000000100000060${'00'.repeat(36)}`);
  const host = Uint8Array.of(PSF_ORDER.SET_SYSTEM, ...new Uint8Array(65));
  const told = await runSteps(guest, device, [
    [CMD.PERFORM_SUBSYSTEM_FUNCTION, host],
    [CMD.RESET_SUMMARY_UNIT_CHECK, new Uint8Array(16)],
  ]);
  assert.deepEqual([told.irb.deviceStatus, guest.pinned], [0x0c, 0]);
});

test('the statistics count what was read and written', async () => {
  const { guest, device } = await opened();
  await runSteps(guest, device, [
    extent(1),
    locate({ operation: 0x06, count: 2, record: 0 }),
    [0x06, 8],
    [0x12, 8, CCW_FLAG.SLI],
  ]);
  await runSteps(guest, device, [
    extent(1),
    locate({ operation: 0x01, count: 1, record: 0 }),
    [0x05, new Uint8Array(8)],
  ]);
  const { reads } = await runSteps(guest, device, [prepare(PSF_SUBORDER.STATISTICS), readBack(96)]);
  const view = new DataView(Uint8Array.from(reads[1] ?? []).buffer);
  assert.deepEqual([view.getUint32(4), view.getUint32(12)], [2, 1]);
});

/** What is wrong, the program, message. */
const refused: readonly (readonly [string, readonly Step[], number])[] = [
  ['an unknown order', [[CMD.PERFORM_SUBSYSTEM_FUNCTION, new Uint8Array(12).fill(0x77)]], 4],
  ['no order', [[CMD.PERFORM_SUBSYSTEM_FUNCTION, new Uint8Array(1).fill(0x18)]], 3],
  ['an unknown suborder', [prepare(0x7f)], 4],
  ['a flag', [prepare(PSF_SUBORDER.STATUS, { 1: 0x40 })], 4],
  ['a reserved byte', [prepare(PSF_SUBORDER.STATUS, { 5: 1 })], 4],
  ['a message number where none belongs', [prepare(PSF_SUBORDER.FEATURES, { 11: 1 })], 4],
  ['a read without a preparation', [readBack(16)], 2],
  ['another command behind a preparation', [prepare(PSF_SUBORDER.STATUS), [CMD.SENSE_ID, 12]], 2],
  ['a second read', [prepare(PSF_SUBORDER.STATUS), readBack(16), readBack(16)], 2],
  ['system characteristics that are cut off', [[CMD.PERFORM_SUBSYSTEM_FUNCTION, Uint8Array.of(0x1d, 0)]], 3],
  [
    'a preparation in a domain',
    [extent(1), locate({ operation: 0x06, count: 1, record: 0 }), prepare(PSF_SUBORDER.STATUS)],
    2,
  ],
];
for (const [what, steps, message] of refused)
  test(`unit check: perform subsystem function: ${what}`, async () => {
    const { guest, device } = await opened();
    const { irb } = await runSteps(guest, device, steps);
    assert.deepEqual([irb.deviceStatus, irb.sense?.[0], irb.sense?.[7]], [0x0e, 0x80, message]);
    assert.equal(guest.pinned, 0);
  });

test('what was prepared is lost when the program ends', async () => {
  const { guest, device } = await opened();
  await runSteps(guest, device, [prepare(PSF_SUBORDER.STATUS)]);
  const { irb } = await runSteps(guest, device, [readBack(16)]);
  assert.deepEqual([irb.deviceStatus, irb.sense?.[7]], [0x0e, 2]);
});

const reserve: Step = [CMD.RESERVE, 32];
const release: Step = [CMD.RELEASE, 32];
const steal: Step = [CMD.UNCONDITIONAL_RESERVE, 32];

/** Starts a program and lets it run as far as it gets. @returns what settles when it has ended. */
function started({ guest, device }: Subchannel, steps: readonly Step[]): { ended: boolean; done: Promise<void> } {
  const state = { ended: false, done: Promise.resolve() };
  state.done = runSteps(guest, device, steps).then(() => {
    state.ended = true;
  });
  return state;
}

test('a reserved disk lets programs of others wait until it is released, and answers who it is meanwhile', async () => {
  const share = new DiskShare();
  const [first, second] = [await opened(share), await opened(share)];
  await runSteps(first.guest, first.device, [reserve]);
  const identity = await runSteps(second.guest, second.device, [[CMD.SENSE_ID, 12]]);
  assert.equal(identity.irb.deviceStatus, 0x0c);
  const waiting = started(second, [[CMD.READ_DEVICE_CHARACTERISTICS, 64]]);
  await turn();
  assert.deepEqual([waiting.ended, second.device.state, second.guest.pinned > 0], [false, 'cp-pending', true]);
  const own = await runSteps(first.guest, first.device, [[CMD.READ_DEVICE_CHARACTERISTICS, 64]]);
  assert.equal(own.irb.deviceStatus, 0x0c);
  await runSteps(first.guest, first.device, [release]);
  await waiting.done;
  assert.deepEqual([second.device.irb.deviceStatus, second.guest.pinned], [0x0c, 0]);
});

test('a program that waits for a reserved disk is ended by halt, by reset and by an unmapping', async () => {
  const share = new DiskShare();
  const [first, second] = [await opened(share), await opened(share)];
  await runSteps(first.guest, first.device, [reserve]);
  const endings: readonly [string, (one: Subchannel) => unknown][] = [
    ['halt', ({ device }) => device.halt()],
    ['reset', ({ device }) => device.reset()],
    ['unmap', ({ device }) => device.dmaUnmap(framesOf(AT.data, 0x1000))],
  ];
  for (const [what, end] of endings) {
    const waiting = started(second, [[CMD.READ_DEVICE_CHARACTERISTICS, 64]]);
    await turn();
    assert.equal(waiting.ended, false, what);
    await end(second);
    await waiting.done;
    assert.deepEqual([second.guest.pinned, second.device.state], [0, 'idle'], what);
  }
  await runSteps(first.guest, first.device, [release]);
  const after = await runSteps(second.guest, second.device, [[CMD.READ_DEVICE_CHARACTERISTICS, 64]]);
  assert.equal(after.irb.deviceStatus, 0x0c);
});

test('an unconditional reserve takes the disk away; a release by somebody else changes nothing; a reset gives it back', async () => {
  const share = new DiskShare();
  const [first, second] = [await opened(share), await opened(share)];
  await runSteps(first.guest, first.device, [reserve]);
  await runSteps(second.guest, second.device, [steal]);
  const waiting = started(first, [release]);
  await turn();
  assert.equal(waiting.ended, false, 'even its release waits');
  await second.device.reset();
  await waiting.done;
  assert.equal(share.owner, undefined);
  await runSteps(second.guest, second.device, [reserve]);
  await second.device.close();
  assert.notEqual(share.owner, undefined, 'a close keeps it');
  second.device.open();
  assert.equal(share.owner, undefined, 'an open begins anew');
});
