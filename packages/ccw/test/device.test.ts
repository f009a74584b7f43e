import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CCW_IRQ,
  type CcwDevice,
  commandOrb,
  createCcwDriver,
  encodeOrb,
  FbaDisk,
  IO_REGION,
  ORB,
  SCSW,
} from '@pinion/ccw';
import { PinionError } from '@pinion/core';
import { GatedImage, patternDisk, ScriptedUnit } from './fake-disk.js';
import { FakeGuest } from './fake-guest.js';
import { AT, fbaProgram, openSubchannel, type Subchannel } from './subchannel.js';

const LAST = '03 00 0001 10010000';
const SUSPENDED = '02 22 0020 10042000';
const suspendable = commandOrb(AT.ccws, ORB.SUSPEND);

/** Region 0 with an ORB and a SCSW word 0. */
function ioRequest(orb = commandOrb(AT.ccws), word0: number = SCSW.START): Uint8Array {
  const bytes = new Uint8Array(IO_REGION.size);
  bytes.set(encodeOrb(orb));
  new DataView(bytes.buffer).setUint32(IO_REGION.scsw, word0);
  return bytes;
}

const readHex = (device: CcwDevice, index: number, offset: number, length: number): string => {
  const bytes = new Uint8Array(length);
  device.readRegion(index, offset, bytes);
  return Buffer.from(bytes).toString('hex');
};
const returnCode = (device: CcwDevice): number => Number.parseInt(readHex(device, 0, 120, 4), 16) | 0;

/** A device with a suspended program that holds one page: what Linux calls CP_PENDING. */
function pending(options: Parameters<typeof openSubchannel>[1] = {}): Subchannel {
  const subchannel = openSubchannel(new ScriptedUnit(), options);
  subchannel.guest.pokeHex(AT.ccws, SUSPENDED);
  subchannel.device.start(suspendable);
  return subchannel;
}

test('the driver says what it is', () => {
  const driver = createCcwDriver({ units: {} });
  assert.equal(Object.isFrozen(driver), true);
  assert.deepEqual(
    [driver.name, driver.deviceApi, driver.pins, driver.maxInstances, driver.types],
    ['ccw', 'vfio-ccw', true, 1, [{ id: 'io', prettyName: 'I/O subchannel (Non-QDIO)' }]],
  );
  const { device } = openSubchannel(patternDisk(1));
  assert.deepEqual(
    device.regions.map(({ index, size, readable, writable }) => [index, size, readable, writable]),
    [
      [0, 124, true, true],
      [1, 8, true, true],
      [2, 52, true, false],
      [3, 8, true, false],
    ],
  );
  assert.deepEqual(
    device.irqs.map(({ index, count }) => [index, count]),
    [
      [0, 1],
      [1, 1],
      [2, 1],
    ],
  );
});

test('a parent without a control unit, and a quirk nobody knows', () => {
  const driver = createCcwDriver({ units: { '0.0.0001': patternDisk(1) } });
  assert.throws(() => driver.create(new FakeGuest(0, 1).context()), {
    name: 'CCW_NO_UNIT',
    errno: 'ENODEV',
    message: /0\.0\.1234.*0\.0\.0001/,
  });
  assert.throws(() => driver.create(new FakeGuest(0, 1).context({ parent: 'constructor' })), { name: 'CCW_NO_UNIT' });
  for (const quirk of ['no-such', 'toString'])
    assert.throws(() => createCcwDriver({ units: {}, quirks: [quirk] }), {
      name: 'CCW_UNKNOWN_QUIRK',
      errno: 'EINVAL',
    });
});

test('a start by region bytes: stored, run, answered in the region', async () => {
  const { guest, device, interrupts } = openSubchannel(patternDisk(200));
  fbaProgram(guest, { write: false, block: 100, count: 1, data: AT.data });
  device.writeRegion(0, 0, ioRequest({ intparm: 0xabcd, word1: 0x00c2_8000, cpa: AT.ccws }));
  assert.deepEqual([device.state, device.pinnedPages, guest.pinned], ['cp-pending', 3, 3]);
  assert.equal(readHex(device, 0, 0, 16), '0000abcd00c280001000000000004000');
  assert.equal(returnCode(device), 0);
  await device.whenIdle();
  assert.deepEqual([device.state, device.pinnedPages, guest.pinned], ['idle', 0, 0]);
  assert.equal(readHex(device, 0, IO_REGION.irb, 12), '00804007100000180c000000');
  assert.deepEqual(
    interrupts.map(({ index }) => index),
    [CCW_IRQ.IO],
  );
});

const badAccess: readonly (readonly [index: number, offset: number, length: number])[] = [
  [0, 0, 125],
  [0, 124, 1],
  [0, -1, 4],
  [0, 0.5, 4],
  [1, 0, 9],
  [1, 8, 1],
  [2, 0, 53],
  [3, 8, 1],
  [4, 0, 4],
  [-1, 0, 4],
  [0, Number.NaN, 4],
];
for (const [index, offset, length] of badAccess)
  test(`region ${index}: ${length} bytes at ${offset} are EINVAL and change nothing`, () => {
    const { device } = openSubchannel(patternDisk(1));
    const refusal = { name: 'CCW_BAD_REGION', errno: 'EINVAL' };
    assert.throws(() => device.readRegion(index, offset, new Uint8Array(length)), refusal);
    assert.throws(() => device.writeRegion(index, offset, new Uint8Array(length).fill(0xff)), refusal);
    assert.equal(readHex(device, 0, 0, 124), '00'.repeat(124));
  });

test('empty accesses at the end of a region do nothing', () => {
  const { device } = openSubchannel(patternDisk(1));
  device.readRegion(0, 124, new Uint8Array(0));
  device.writeRegion(0, 124, new Uint8Array(0));
  assert.equal(device.state, 'idle');
});

/** What is asked in idle state; errno; what it leaves in ret_code. */
const refused: readonly (readonly [what: string, bytes: Uint8Array, name: string, code: number])[] = [
  ['transport mode', ioRequest(commandOrb(AT.ccws, ORB.TRANSPORT)), 'CCW_TRANSPORT_MODE', -95],
  ['halt by region 0', ioRequest(commandOrb(AT.ccws), SCSW.HALT), 'CCW_USE_ASYNC_REGION', -95],
  ['clear by region 0', ioRequest(commandOrb(AT.ccws), SCSW.CLEAR), 'CCW_USE_ASYNC_REGION', -95],
  ['reserved ORB bits', ioRequest(commandOrb(AT.ccws, 0x02)), 'CCW_BAD_ORB', -5],
  ['more reserved ORB bits', ioRequest(commandOrb(AT.ccws, 0x40)), 'CCW_BAD_ORB', -5],
  ['a program that is not mapped', ioRequest(commandOrb(0x2000_0000)), 'GUEST_EINVAL', -22],
  ['data that is not mapped', ioRequest(commandOrb(AT.ccws + 0x100)), 'GUEST_EINVAL', -22],
];
for (const [what, bytes, name, code] of refused)
  test(`refused: ${what}`, async () => {
    const { guest, device, interrupts } = openSubchannel(patternDisk(1));
    guest.pokeHex(AT.ccws, '02 00 0004 10010000');
    guest.pokeHex(AT.ccws + 0x100, '02 40 0004 10010000 | 02 00 0004 20000000');
    assert.throws(() => device.writeRegion(0, 0, bytes), { name });
    assert.equal(returnCode(device), code);
    assert.equal(
      readHex(device, 0, 0, 12),
      Buffer.from(bytes.subarray(0, 12)).toString('hex'),
      'region is overwritten',
    );
    await device.whenIdle();
    assert.deepEqual([device.state, guest.pinned, interrupts.length], ['idle', 0, 0]);
    guest.pokeHex(AT.ccws, LAST);
    device.start(commandOrb(AT.ccws));
    await device.whenIdle();
    assert.equal(interrupts.length, 1);
  });

test('without a function bit bytes are stored, nothing starts, and an old return code is not told again', () => {
  const { device } = openSubchannel(patternDisk(1));
  const bytes = ioRequest(commandOrb(AT.ccws), 0);
  new DataView(bytes.buffer).setInt32(IO_REGION.returnCode, -13);
  device.writeRegion(0, 0, bytes);
  assert.deepEqual([device.state, returnCode(device)], ['idle', 0]);
});

test('a partial write starts what the region then says', async () => {
  const { guest, device, interrupts } = openSubchannel(patternDisk(1));
  guest.pokeHex(AT.ccws, LAST);
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  device.writeRegion(0, 1, Uint8Array.of(1, 2, 3));
  await device.whenIdle();
  assert.equal(interrupts.length, 2);
});

test('a second start in flight is EBUSY, overwrites the region, and leaves the first alone', async () => {
  const { guest, device, interrupts } = pending();
  assert.throws(() => device.start({ intparm: 7, word1: 0, cpa: 8 }), { name: 'CCW_PENDING', message: /0x10000000/ });
  assert.deepEqual([returnCode(device), readHex(device, 0, 0, 4)], [-16, '00000007']);
  assert.deepEqual(guest.pinnedFrames, ['10042']);
  await device.close();
  assert.deepEqual([interrupts.length, guest.pinned], [0, 0]);
});

test('a start inside a start is EAGAIN', async () => {
  const { guest, device } = openSubchannel(patternDisk(8));
  fbaProgram(guest, { write: false, block: 0, count: 1, data: AT.data });
  const inner: string[] = [];
  guest.onPin = () => {
    for (const request of [() => device.start(commandOrb(AT.ccws)), () => device.halt()])
      assert.throws(request, (error) => error instanceof PinionError && inner.push(error.toString().slice(0, 23)) > 0);
  };
  device.start(commandOrb(AT.ccws));
  assert.deepEqual([...new Set(inner)], ['CCW_PROCESSING (EAGAIN)']);
  await device.whenIdle();
  assert.equal(guest.pinned, 0);
});

for (const [what, request, word0] of [
  ['HSCH', (device: CcwDevice) => device.halt(), 0x0080_2001],
  ['CSCH', (device: CcwDevice) => device.clear(), 0x0080_1001],
  ['HSCH by bytes', (device: CcwDevice) => device.writeRegion(1, 0, Uint8Array.of(0, 0, 0, 1)), 0x0080_2001],
  ['CSCH by bytes', (device: CcwDevice) => device.writeRegion(1, 0, Uint8Array.of(0, 0, 0, 2)), 0x0080_1001],
] as const) {
  test(`${what} ends a suspended program with one interrupt`, async () => {
    const { guest, device, interrupts } = pending();
    request(device);
    assert.equal(guest.pinned, 1, 'the pages go when the program has ended');
    await device.whenIdle();
    assert.deepEqual([device.state, guest.pinned], ['idle', 0]);
    assert.deepEqual(
      interrupts.map(({ irb }) => [irb.word0, irb.cpa]),
      [[word0, AT.ccws + 8]],
    );
    assert.equal(readHex(device, 1, 4, 4), '00000000');
  });
  test(`${what} in idle state is an interrupt, after the request returned`, async () => {
    const { device, interrupts } = openSubchannel(patternDisk(1));
    request(device);
    assert.equal(interrupts.length, 0);
    assert.throws(() => device.start(commandOrb(AT.ccws)), { name: 'CCW_FUNCTION_BUSY', errno: 'EBUSY' });
    await Promise.resolve();
    assert.deepEqual(
      interrupts.map(({ irb }) => irb.word0),
      [word0],
    );
  });
}

test('HSCH waits for the disk: the pages stay until it has ended', async () => {
  const image = new GatedImage(new Uint8Array(512 * 16).fill(7));
  const { guest, device, interrupts } = openSubchannel(new FbaDisk(image));
  fbaProgram(guest, { write: false, block: 0, count: 8, data: AT.data });
  device.start(commandOrb(AT.ccws));
  await image.began;
  device.halt();
  assert.throws(() => device.halt(), { name: 'CCW_FUNCTION_BUSY', errno: 'EBUSY' });
  device.clear();
  assert.deepEqual([image.inFlight, guest.pinned, device.state], [1, 3, 'cp-pending']);
  image.release();
  await device.whenIdle();
  assert.deepEqual([image.inFlight, guest.pinned, device.state], [0, 0, 'idle']);
  assert.deepEqual(
    interrupts.map(({ irb }) => irb.word0),
    [0x0080_1001],
    'a clear outranks a halt',
  );
});

for (const command of [0, 3, 0xffff_ffff])
  test(`asynchronous command ${command} is EINVAL`, () => {
    const { device } = openSubchannel(patternDisk(1));
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(0, command);
    assert.throws(() => device.writeRegion(1, 0, bytes), { name: 'CCW_BAD_COMMAND', errno: 'EINVAL' });
    assert.equal(readHex(device, 1, 4, 4), 'ffffffea');
  });

test('closed and lost subchannels take nothing', async () => {
  const { guest, device, interrupts } = pending();
  await device.close();
  assert.equal(device.state, 'standby');
  for (const request of [() => device.start(suspendable), () => device.halt(), () => device.clear()])
    assert.throws(request, { name: 'CCW_NOT_OPERATIONAL', errno: 'EIO' });
  device.open();
  device.start(suspendable);
  const lost = device.notOperational();
  assert.throws(() => device.start(suspendable), { name: 'CCW_NOT_OPERATIONAL' });
  await lost;
  assert.deepEqual([device.state, guest.pinned, interrupts.length], ['not-oper', 0, 0]);
  assert.throws(() => device.open(), { name: 'CCW_LOST', errno: 'EINVAL' });
  await assert.rejects(device.reset(), { name: 'CCW_LOST', errno: 'EINVAL' });
  await device.close();
  await device.remove();
  assert.equal(device.state, 'not-oper');
});

test('reset ends the program silently, forgets sense, keeps the region, and the device is usable', async () => {
  const { guest, device, interrupts } = openSubchannel(patternDisk(8));
  guest.pokeHex(AT.ccws, '07 00 0001 10010000');
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(interrupts[0]?.irb.sense?.[0], 0x80);
  guest.pokeHex(AT.ccws, SUSPENDED);
  device.start(suspendable);
  const resetting = device.reset();
  assert.throws(() => device.start(suspendable), { name: 'CCW_PENDING' });
  await resetting;
  assert.deepEqual([device.state, guest.pinned, interrupts.length], ['idle', 0, 1]);
  assert.equal(readHex(device, 0, 4, 4), '08c2ff00');
  guest.pokeHex(AT.ccws, '04 00 0020 10010000');
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(guest.peekHex(AT.data, 2), '0000');
});

test('killed mid-I/O: close waits for the disk, then nothing is pinned and nothing is told', async () => {
  const image = new GatedImage(new Uint8Array(512 * 16).fill(7));
  const { guest, device, interrupts } = openSubchannel(new FbaDisk(image));
  fbaProgram(guest, { write: false, block: 0, count: 8, data: AT.data });
  device.start(commandOrb(AT.ccws));
  await image.began;
  let closed = false;
  const closing = device.close().then(() => {
    closed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([closed, guest.pinned], [false, 3]);
  image.release();
  await closing;
  assert.deepEqual([image.inFlight, guest.pinned, device.state, interrupts.length], [0, 0, 'standby', 0]);
});

test('somebody waits for the device: interrupt 2 each time, a line in the log every tenth', () => {
  const { guest, device, interrupts } = openSubchannel(patternDisk(1));
  for (let count = 0; count <= 10; count += 1) device.request(count);
  assert.equal(interrupts.filter(({ index }) => index === CCW_IRQ.REQUEST).length, 11);
  assert.equal(guest.log.length, 2);
});

test('an interrupt receiver that throws does not break the device; none at all is fine', async () => {
  const { guest, device } = openSubchannel(patternDisk(1));
  guest.pokeHex(AT.ccws, LAST);
  device.setIrqSink(() => {
    throw new RangeError('broken receiver');
  });
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(guest.warnings.length, 1);
  device.setIrqSink(undefined);
  device.start(commandOrb(AT.ccws));
  await device.whenIdle();
  assert.equal(device.irb.deviceStatus, 0x0c);
});

test('a guest that starts again from its interrupt gets its program run', async () => {
  const { guest, device } = openSubchannel(patternDisk(1));
  guest.pokeHex(AT.ccws, LAST);
  let runs = 0;
  device.setIrqSink(() => {
    runs += 1;
    if (runs < 5) device.start(commandOrb(AT.ccws));
  });
  device.start(commandOrb(AT.ccws));
  while (device.state !== 'idle') await device.whenIdle();
  assert.equal(runs, 5);
});
