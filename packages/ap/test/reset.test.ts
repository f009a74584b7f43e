/** Every row of the reset of a queue: vfio_ap_mdev_reset_queue(), apq_reset_check(). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ApDevice, apqnsOf, formatApqn, type QueueInstruction, RESPONSE, type ResponseCode } from '@pinion/ap';
import { enable, FakeGuest, hardwareStatus, openRoom, pass, Q47, Q48, settled } from './machine-room.js';

const EMPTY = 0x8000_0000n;
const guestQueues = ({ guestMatrix }: ApDevice): string[] => apqnsOf(guestMatrix).map(formatApqn);

/** A room with interrupts on for one queue, whose hardware answers as `script` says once it is armed. */
function armed(script: Partial<Record<QueueInstruction, ResponseCode[]>>, quirks: string[] = []) {
  let on = false;
  const asked: string[] = [];
  const room = openRoom({
    quirks,
    respond: (instruction, apqn) => {
      if (!on || apqn !== Q47) return undefined;
      asked.push(instruction);
      return script[instruction]?.shift();
    },
  });
  enable(room.device, Q47, { isc: 3, nib: 0x7000n });
  on = true;
  return { ...room, asked };
}

const always = (code: ResponseCode): ResponseCode[] => Array.from({ length: 1000 }, () => code);
const { NORMAL, BUSY, RESET_IN_PROGRESS, STATE_CHANGE_IN_PROGRESS, DECONFIGURED, CHECKSTOPPED } = RESPONSE;

type Script = Parameters<typeof armed>[0];
/** Times are when the page is given back, in milliseconds. */
const rows: readonly [what: string, script: Script, ms: number, asked: string[]][] = [
  ['ready at once', {}, 0, ['ZAPQ', 'TAPQ']],
  ['one look says 02', { TAPQ: [RESET_IN_PROGRESS] }, 20, ['ZAPQ', 'TAPQ', 'TAPQ']],
  ['looks say 02, then 05', { TAPQ: [RESET_IN_PROGRESS, BUSY, BUSY] }, 60, ['ZAPQ', 'TAPQ', 'TAPQ', 'TAPQ', 'TAPQ']],
  ['02 to ZAPQ: repeated once ready', { ZAPQ: [RESET_IN_PROGRESS] }, 40, ['ZAPQ', 'TAPQ', 'ZAPQ', 'TAPQ']],
  ['05 to ZAPQ: repeated once ready', { ZAPQ: [BUSY], TAPQ: [BUSY] }, 60, ['ZAPQ', 'TAPQ', 'TAPQ', 'ZAPQ', 'TAPQ']],
  ['0A to ZAPQ: repeated', { ZAPQ: [STATE_CHANGE_IN_PROGRESS] }, 40, ['ZAPQ', 'TAPQ', 'ZAPQ', 'TAPQ']],
  ['35 to the repetition: once more', { ZAPQ: [BUSY, 0x35] }, 60, ['ZAPQ', 'TAPQ', 'ZAPQ', 'TAPQ', 'ZAPQ', 'TAPQ']],
  ['03: cannot signal, so at once', { ZAPQ: [DECONFIGURED] }, 0, ['ZAPQ']],
  ['04: cannot signal, so at once', { ZAPQ: [CHECKSTOPPED] }, 0, ['ZAPQ']],
  ['03 to the repetition', { ZAPQ: [BUSY, DECONFIGURED] }, 20, ['ZAPQ', 'TAPQ', 'ZAPQ']],
];

describe('reset of a queue', () => {
  for (const [what, script, ms, expected] of rows) {
    test(`${what}: the page is given back after ${ms} ms`, async () => {
      const { device, pins, clock, asked, warnings } = armed(script);
      const reset = device.reset();
      if (ms > 0) {
        await pass(clock, ms - 1);
        assert.deepEqual(pins.held, [[7, 1]]);
        await pass(clock, 1);
      }
      await reset;
      assert.deepEqual([pins.held, asked, warnings], [[], expected, []]);
      await device.close();
      assert.deepEqual(pins.foreign, []);
    });
  }

  const failures: readonly [what: string, script: () => Script, ms: number][] = [
    ['01 to ZAPQ', () => ({ ZAPQ: [RESPONSE.QUEUE_NOT_AVAILABLE] }), 0],
    ['a code that nobody expects', () => ({ ZAPQ: [RESPONSE.BOUND_TO_ANOTHER] }), 0],
    ['36 to ZAPQ at first', () => ({ ZAPQ: [RESPONSE.BIND_ERROR_LAST] }), 0],
    ['an unexpected code to the repetition', () => ({ ZAPQ: [BUSY, RESPONSE.INVALID_ADDRESS] }), 20],
    ['05 to every look', () => ({ TAPQ: always(BUSY) }), 2000],
    ['02 to every ZAPQ', () => ({ ZAPQ: always(RESET_IN_PROGRESS) }), 2000],
  ];
  for (const [what, script, ms] of failures) {
    test(`${what}: EIO naming the queue, bounded, and its page is given back after AQIC off`, async () => {
      const { device, pins, clock, asked, warnings } = armed(script());
      const failed = assert.rejects(device.reset(), { name: 'AP_RESET_FAILED', errno: 'EIO', message: /05\.0047/ });
      await pass(clock, ms);
      await failed;
      assert.deepEqual(pins.held, []);
      assert.ok(asked.includes('AQIC'), asked.join());
      assert.match(warnings[0] ?? '', /05\.0047: its reset failed/);
      await Promise.all([device.close(), pass(clock, 3000)]);
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    });
  }

  test('a queue that could not be reset takes its whole adapter from the guest at the next change', async () => {
    const { device, clock } = armed({ ZAPQ: [RESPONSE.BOUND_TO_ANOTHER] });
    await assert.rejects(device.reset(), { name: 'AP_RESET_FAILED' });
    device.assignAdapter(6);
    assert.deepEqual(guestQueues(device), ['06.0047', '06.0048']);
    await Promise.all([device.close(), pass(clock, 100)]);
  });

  test('a real reset takes its time: 02 until then, empty and silent at once', async () => {
    const { device, pins, clock } = openRoom({ latency: { reset: 50 } });
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.nqap(Q47, 1n, new Uint8Array(1));
    const reset = device.reset();
    assert.equal(hardwareStatus(device, Q47), EMPTY | 0x0202_0000n);
    assert.equal(device.nqap(Q48, 1n, new Uint8Array(1)).code, RESET_IN_PROGRESS);
    await pass(clock, 60);
    await reset;
    assert.equal(hardwareStatus(device, Q47), EMPTY);
    assert.deepEqual(pins.held, []);
    await Promise.all([device.close(), pass(clock, 60)]);
  });

  test('queues are reset side by side', async () => {
    const { device, clock } = openRoom({ latency: { reset: 100 } });
    const reset = device.reset();
    await pass(clock, 100);
    await reset;
    await Promise.all([device.close(), pass(clock, 100)]);
  });
});

describe('resets that others meet', () => {
  test('a queue in reset is given to nobody: its adapter appears when it is ready', async () => {
    const { device, clock } = openRoom({ latency: { reset: 50 } });
    device.unassignDomain(0x48);
    device.assignDomain(0x48);
    assert.deepEqual(guestQueues(device), []);
    await pass(clock, 60);
    assert.deepEqual(guestQueues(device), ['05.0047', '05.0048']);
    await Promise.all([device.close(), pass(clock, 60)]);
  });

  test('close and remove wait for resets that go on', async () => {
    const { device, pins, clock } = openRoom({ latency: { reset: 50 } });
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.unassignAdapter(5);
    let closed = false;
    const closing = device.close().then(() => {
      closed = true;
    });
    await pass(clock, 40);
    assert.equal(closed, false);
    await pass(clock, 40);
    assert.deepEqual([closed, pins.held], [true, []]);
    await closing;
    await device.remove();
  });

  test('the card is pulled while a reset is watched: the page is given back, nobody is blamed', async () => {
    const { device, pins, clock, warnings } = armed({ TAPQ: [RESET_IN_PROGRESS] });
    const reset = assert.rejects(device.reset(), { name: 'AP_RESET_FAILED' });
    device.machine.unplugAdapter(5);
    await pass(clock, 40);
    await reset;
    assert.deepEqual([pins.held, warnings], [[], []]);
    await device.close();
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });

  test('a queue that close could not reset is not given to the next guest, until it was bound anew', async () => {
    const { device, clock } = armed({ ZAPQ: [RESPONSE.BOUND_TO_ANOTHER] });
    device.nqap(Q47, 1n, new Uint8Array(1)); // what the next guest must not find
    await Promise.all([device.close(), pass(clock, 100)]);
    device.setGuest(new FakeGuest());
    device.open();
    assert.deepEqual(guestQueues(device), []);
    assert.equal(device.dqap(Q47, 100).status.code, RESPONSE.QUEUE_NOT_AVAILABLE);
    device.machine.unbindQueue(Q47);
    device.machine.bindQueue(Q47);
    assert.deepEqual(guestQueues(device), ['05.0047', '05.0048']);
    clock.run();
    assert.equal(device.dqap(Q47, 100).status.code, RESPONSE.NO_PENDING_REPLY);
    await device.close();
  });

  test('a queue is taken from the driver while its reset is watched: its page comes back once, its adapter goes', async () => {
    const { device, pins, clock } = armed({ TAPQ: [RESET_IN_PROGRESS, RESET_IN_PROGRESS] });
    const reset = device.reset();
    device.machine.unbindQueue(Q47);
    assert.deepEqual([guestQueues(device), pins.held], [[], [[7, 1]]]);
    await pass(clock, 60);
    await reset;
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
    await device.close();
  });

  test('a second reset joins the first', async () => {
    const { device, clock, asked } = armed({ TAPQ: [RESET_IN_PROGRESS] });
    const both = Promise.all([device.reset(), device.reset()]);
    await pass(clock, 40);
    await both;
    assert.deepEqual(asked, ['ZAPQ', 'TAPQ', 'TAPQ']);
    await device.close();
  });

  test('quirk endless-reset: after a minute of 05 it still waits; fixed, it has given up', async () => {
    for (const [quirks, ended] of [
      [['endless-reset'], false],
      [[], true],
    ] as const) {
      const { device, clock } = armed({ TAPQ: Array.from({ length: 3002 }, () => BUSY) }, [...quirks]);
      let over = false;
      const reset = device
        .reset()
        .catch(() => {})
        .then(() => {
          over = true;
        });
      for (let second = 0; second < 60; second++)
        for (let look = 0; look < 50; look++) {
          clock.advance(20);
          await Promise.resolve();
        }
      await settled();
      assert.equal(over, ended);
      await pass(clock, 200);
      await reset;
      await Promise.all([device.close(), pass(clock, 2000)]);
    }
  });

  test('the codes that a guest may be given a queue after are NORMAL, DECONFIGURED and CHECKSTOPPED', async () => {
    for (const [code, seen] of [
      [NORMAL, true],
      [DECONFIGURED, true],
      [CHECKSTOPPED, true],
      [RESPONSE.NOT_BOUND, false],
    ] as const) {
      const { device } = armed({ ZAPQ: [code] });
      await device.reset().catch(() => {});
      device.assignControlDomain(1); // any change
      assert.equal(guestQueues(device).length > 0, seen);
      await device.close();
    }
  });
});
