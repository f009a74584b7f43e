import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CONFIG, DP_AUX, GMBUS, INTERRUPT, MASTER_ENABLE, makeEdid, REGION } from '@pinion/gvt';
import { FakeGuest, type FakeGuestOptions } from './fake-guest.js';

const SEND = 0x80000000;
const DONE = 0x40000000;
const TIMEOUT = 0x10000000;
const PORT_D = 3;

/** Sends a message on an AUX channel. @returns control register and answer. */
function aux(guest: FakeGuest, message: readonly number[], { port = PORT_D, flags = 0 } = {}) {
  const control = DP_AUX.CONTROL + port * DP_AUX.STRIDE;
  const bytes = new Uint8Array(20);
  bytes.set(message);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < 20; at += 4) guest.write32(control + 4 + at, view.getUint32(at, false));
  guest.write32(control, (SEND | flags | (message.length << 20)) >>> 0);
  const result = guest.read32(control);
  for (let at = 0; at < 20; at += 4) view.setUint32(at, guest.read32(control + 4 + at), false);
  return { result, answer: [...bytes.subarray(0, (result >>> 20) & 0x1f)] };
}

const native = (request: number, address: number, length: number, ...data: number[]) => [
  request << 4,
  address >> 8,
  address & 0xff,
  length - 1,
  ...data,
];
const i2cRead = (length: number) => [0x50, 0, 0x50, length - 1];

describe('DisplayPort AUX', () => {
  test('reads the capabilities of the sink: revision 1.2, 5.4 Gbit/s, four lanes', () => {
    const guest = new FakeGuest();
    const { result, answer } = aux(guest, native(9, 0, 11));
    assert.deepEqual(answer, [0, 0x12, 0x14, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual([result & SEND, (result & DONE) !== 0, result & TIMEOUT], [0, true, 0]);
    assert.deepEqual(aux(guest, native(9, 0x200, 1)).answer, [0, 1]);
    guest.finish();
  });

  test('link training succeeds at once', () => {
    const guest = new FakeGuest();
    assert.deepEqual(aux(guest, native(8, 0x102, 1, 0x21)).answer, [0]);
    assert.deepEqual(aux(guest, native(9, 0x202, 2)).answer, [0, 0x11, 0x11]);
    aux(guest, native(8, 0x102, 1, 0x22));
    assert.deepEqual(aux(guest, native(9, 0x202, 3)).answer, [0, 0x77, 0x77, 1]);
    aux(guest, native(8, 0x102, 1, 0));
    assert.deepEqual(aux(guest, native(9, 0x205, 1)).answer, [0, 3]);
    guest.finish();
  });

  test('reads the EDID by I2C, 16 bytes at a time, from where a write said', () => {
    const guest = new FakeGuest({ type: 'V5_4' });
    assert.deepEqual(aux(guest, [0x40, 0, 0x50]).answer, [0]);
    assert.deepEqual(aux(guest, [0x40, 0, 0x50, 0, 0]).answer, [0]);
    const edid: number[] = [];
    for (let block = 0; block < 8; block++) edid.push(...aux(guest, i2cRead(16)).answer.slice(1));
    assert.deepEqual(edid, [...makeEdid(1920, 1200)]);
    aux(guest, [0x40, 0, 0x50, 0, 8]);
    assert.deepEqual(aux(guest, i2cRead(1)).answer, [0, 0x41]);
    aux(guest, [0x40, 0, 0x50, 0, 127]);
    assert.deepEqual(aux(guest, i2cRead(3)).answer.slice(2), [0, 0]);
    guest.finish();
  });

  const refused: readonly (readonly [what: string, message: readonly number[], answer: readonly number[]])[] = [
    ['a read beyond the registers', native(9, 0x6ff, 2), [0, 0, 0]],
    ['a write beyond the registers', native(8, 0x6ff, 2, 1, 2), [0x10, 0]],
    ['I2C to another address', [0x50, 0, 0x30 + 1, 0], [0x40]],
    ['a read of the segment', [0x50, 0, 0x30, 0], [0]],
  ];
  for (const [what, message, answer] of refused) {
    test(`${what} is answered`, () => {
      const guest = new FakeGuest();
      assert.deepEqual(aux(guest, message).answer, answer);
      guest.finish();
    });
  }

  test('nobody answers on another port, without a monitor, on HDMI, or a message of more than 16 bytes', () => {
    const guest = new FakeGuest();
    for (const port of [0, 1, 2]) {
      assert.deepEqual([(aux(guest, native(9, 0, 1), { port }).result & TIMEOUT) !== 0, port], [true, port]);
    }
    assert.notEqual(aux(guest, native(9, 0, 17)).result & TIMEOUT, 0);
    guest.device.display.monitor.hotplug(false);
    assert.notEqual(aux(guest, native(9, 0, 1)).result & TIMEOUT, 0);
    guest.finish();
    const hdmi = new FakeGuest({ monitor: 'hdmi' });
    assert.notEqual(aux(hdmi, native(9, 0, 1)).result & TIMEOUT, 0);
    hdmi.finish();
  });

  test('the end of a message is an interrupt if it is asked for', () => {
    const guest = new FakeGuest();
    guest.device.writeRegion(REGION.CONFIG, CONFIG.MSI_CONTROL, Uint8Array.of(1, 0));
    guest.write32(0x44444, 0);
    guest.write32(0x4444c, 0xffffffff);
    guest.write32(INTERRUPT.MASTER, MASTER_ENABLE);
    aux(guest, native(9, 0, 1));
    assert.equal(guest.irqs.length, 0);
    aux(guest, native(9, 0, 1), { flags: 0x20000000 });
    assert.deepEqual([guest.irqs.length, guest.read32(0x44448)], [1, 1 << 27]);
    guest.finish();
  });

  test('a write without the send bit clears what stands there', () => {
    const guest = new FakeGuest();
    const control = DP_AUX.CONTROL + PORT_D * DP_AUX.STRIDE;
    aux(guest, native(9, 0, 1));
    guest.write32(control, DONE);
    assert.equal(guest.read32(control), 0);
    guest.finish();
  });
});

const NO_ANSWER = 1 << 10;
const ACTIVE = 1 << 9;
const CYCLE = { WAIT: 1, INDEX: 2, STOP: 4 };
const READ_EDID = 0xa1;

const command = (cycle: number, { count = 0, index = 0, address = READ_EDID } = {}): number =>
  (0x40000000 | (cycle << 25) | (count << 16) | (index << 8) | address) >>> 0;

function readBus(guest: FakeGuest, count: number): number[] {
  const bytes: number[] = [];
  while (bytes.length < count) {
    const word = guest.read32(GMBUS.DATA);
    for (let byte = 0; byte < 4; byte++) bytes.push((word >>> (8 * byte)) & 0xff);
  }
  return bytes.slice(0, count);
}

describe('GMBUS', () => {
  const hdmi: FakeGuestOptions = { monitor: 'hdmi', type: 'V5_8' };

  test('reads the EDID of an HDMI monitor: index and data cycle, then stop', () => {
    const guest = new FakeGuest(hdmi);
    guest.write32(GMBUS.SELECT, 6);
    assert.equal(guest.read32(GMBUS.STATUS) & NO_ANSWER, 0);
    guest.write32(GMBUS.COMMAND, command(CYCLE.WAIT | CYCLE.INDEX, { count: 128 }));
    assert.notEqual(guest.read32(GMBUS.STATUS) & ACTIVE, 0);
    assert.deepEqual(readBus(guest, 128), [...makeEdid(1024, 768)]);
    guest.write32(GMBUS.COMMAND, command(CYCLE.STOP));
    assert.equal(guest.read32(GMBUS.STATUS) & ACTIVE, 0);
    guest.finish();
  });

  test('begins where the index says, and a cycle with stop ends by itself', () => {
    const guest = new FakeGuest(hdmi);
    guest.write32(GMBUS.SELECT, 6);
    guest.write32(GMBUS.COMMAND, command(CYCLE.WAIT | CYCLE.INDEX | CYCLE.STOP, { count: 5, index: 8 }));
    assert.deepEqual(readBus(guest, 5), [...makeEdid(1024, 768).subarray(8, 13)]);
    assert.equal(guest.read32(GMBUS.STATUS) & ACTIVE, 0);
    guest.finish();
  });

  const silent: readonly (readonly [what: string, options: FakeGuestOptions, pin: number, address: number])[] = [
    ['a DisplayPort monitor', {}, 6, READ_EDID],
    ['another pin', hdmi, 5, READ_EDID],
    ['another address', hdmi, 6, 0x73],
  ];
  for (const [what, options, pin, address] of silent) {
    test(`${what} does not answer`, () => {
      const guest = new FakeGuest(options);
      guest.write32(GMBUS.SELECT, pin);
      guest.write32(GMBUS.COMMAND, command(CYCLE.WAIT | CYCLE.INDEX, { count: 4, address }));
      assert.notEqual(guest.read32(GMBUS.STATUS) & NO_ANSWER, 0);
      assert.equal(guest.read32(GMBUS.DATA), 0);
      guest.finish();
    });
  }

  test('a monitor that was unplugged does not answer; clearing by software ends the transfer', () => {
    const guest = new FakeGuest(hdmi);
    guest.device.display.monitor.hotplug(false);
    guest.write32(GMBUS.SELECT, 6);
    assert.notEqual(guest.read32(GMBUS.STATUS) & NO_ANSWER, 0);
    guest.device.display.monitor.hotplug(true);
    guest.write32(GMBUS.SELECT, 6);
    guest.write32(GMBUS.COMMAND, command(CYCLE.WAIT | CYCLE.INDEX, { count: 128 }));
    guest.write32(GMBUS.COMMAND, 0x80000000);
    guest.write32(GMBUS.COMMAND, 0);
    assert.equal(guest.read32(GMBUS.DATA), 0);
    guest.finish();
  });

  test('is a semaphore: the first reader finds it free', () => {
    const guest = new FakeGuest(hdmi);
    const inUse = () => guest.read32(GMBUS.STATUS) & 0x8000;
    assert.deepEqual([inUse(), inUse()], [0, 0x8000]);
    guest.write32(GMBUS.STATUS, 0x8000);
    assert.equal(inUse(), 0);
    guest.finish();
  });
});
