/** Every row of the table of vfio_ap_irq_enable() and vfio_ap_irq_disable(): what is answered, and what is held afterwards. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PQAP_FUNCTION, pqapRegister0, type QueueInstruction, RESPONSE } from '@pinion/ap';
import {
  disable,
  enable,
  frames,
  hardwareStatus,
  openRoom,
  pass,
  Q47,
  Q48,
  type Room,
  settled,
} from './machine-room.js';

const EMPTY = 0x8000_0000n;
const SIGNALS = 0x0100_0000n;
const code = (value: number): bigint => BigInt(value) << 16n;
const codeOf = (gr1: bigint): number => Number((gr1 >> 16n) & 0xffn);

/** A room whose hardware answers instructions with the codes in `script`, oldest first, and works once they are used up. */
function scripted(script: Partial<Record<QueueInstruction, number[]>>, options: Parameters<typeof openRoom>[0] = {}) {
  const asked: string[] = [];
  const room = openRoom({
    ...options,
    respond: (instruction) => {
      asked.push(instruction);
      const next = script[instruction]?.shift();
      return next as ReturnType<NonNullable<NonNullable<Parameters<typeof openRoom>[0]>['respond']>>; // why: a script of numbers is easier to read
    },
  });
  return { ...room, asked, script };
}

/** As many as it takes. */
const always = (value: number): number[] => Array.from({ length: 1000 }, () => value);
const IRQ_OFF = pqapRegister0(PQAP_FUNCTION.AQIC, Q47);

describe('AQIC on: what the hardware answers', () => {
  const codes = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x16];
  for (const answer of codes) {
    test(`${answer.toString(16)} for the first time: the guest gets it, and nothing is held`, () => {
      const { device, pins, guest } = scripted({ AQIC: [answer] });
      assert.equal(enable(device, Q47, { isc: 3, nib: 0x7000n }), EMPTY | code(answer));
      assert.deepEqual([pins.held, device.interrupts, [...guest.registered]], [[], [], []]);
    });

    test(`${answer.toString(16)} for a change: the new page is given back, the old one and its signals stay`, async () => {
      const { device, pins, guest, script } = scripted({});
      enable(device, Q47, { isc: 2, nib: 0x9000n });
      script.AQIC = [answer];
      assert.equal(enable(device, Q47, { isc: 3, nib: 0x7000n }), EMPTY | SIGNALS | code(answer));
      assert.deepEqual(pins.held, [[9, 1]]);
      assert.deepEqual(device.interrupts, [{ apqn: Q47, isc: 2, page: 9 }]);
      assert.deepEqual([...guest.registered], [[2, 1]]);
      await device.close();
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    });
  }
});

describe('AQIC off: tried five times, looked at five times, always given back', () => {
  test('at once when the hardware is ready', () => {
    const { device, pins, asked } = scripted({});
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    asked.length = 0;
    assert.equal(device.pqap(IRQ_OFF, 0n, 0n).gr1, EMPTY);
    assert.deepEqual([asked, pins.held], [['AQIC', 'TAPQ'], []]);
  });

  for (const busy of [RESPONSE.BUSY, RESPONSE.RESET_IN_PROGRESS]) {
    test(`${busy} four times: the guest is told at once, the page is held until the fifth try`, async () => {
      const { device, pins, clock, script, warnings } = scripted({});
      enable(device, Q47, { isc: 3, nib: 0x7000n });
      script.AQIC = [busy, busy, busy, busy];
      assert.equal(codeOf(disable(device, Q47)), busy);
      await pass(clock, 79);
      assert.deepEqual(pins.held, [[7, 1]]);
      assert.equal(codeOf(enable(device, Q47, { isc: 3, nib: 0x8000n })), RESPONSE.BUSY); // not meanwhile
      assert.equal(codeOf(disable(device, Q47)), RESPONSE.BUSY);
      await pass(clock, 20);
      assert.deepEqual([pins.held, warnings], [[], []]);
      assert.equal(hardwareStatus(device, Q47), EMPTY);
      assert.equal(codeOf(enable(device, Q47, { isc: 3, nib: 0x8000n })), RESPONSE.NORMAL);
      await device.close();
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    });

    test(`${busy} for ever: given up after five tries, reported, and given back all the same`, async () => {
      const { device, pins, clock, script, warnings, asked, guest } = scripted({});
      enable(device, Q47, { isc: 3, nib: 0x7000n });
      asked.length = 0;
      script.AQIC = always(busy);
      disable(device, Q47);
      await pass(clock, 1000);
      assert.equal(asked.filter((instruction) => instruction === 'AQIC').length, 5);
      assert.deepEqual([pins.held, [...guest.registered]], [[], []]);
      assert.deepEqual(warnings, [`queue 05.0047: its interrupts cannot be turned off (code ${busy})`]);
    });
  }

  test('signals that go off late: the page is held until they are', async () => {
    const { device, pins, clock } = openRoom({ latency: { aqic: 50 } });
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    await pass(clock, 60);
    const signalsAtUnpin: boolean[] = [];
    pins.onUnpin = () => signalsAtUnpin.push((hardwareStatus(device, Q47) & SIGNALS) !== 0n);
    assert.equal(disable(device, Q47), EMPTY | SIGNALS | 0x0200_0000n); // asynchronous
    await pass(clock, 40);
    assert.deepEqual(pins.held, [[7, 1]]);
    await pass(clock, 20);
    assert.deepEqual([pins.held, signalsAtUnpin], [[], [false]]);
  });

  test('signals that never go off: five looks, reported, given back', async () => {
    const { device, pins, clock, warnings } = openRoom({ latency: { aqic: 10_000 } });
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    await pass(clock, 10_000);
    disable(device, Q47);
    await pass(clock, 79);
    assert.deepEqual(pins.held, [[7, 1]]);
    await pass(clock, 21);
    assert.deepEqual([pins.held, warnings.length], [[], 1]);
    device.nqap(Q47, 1n, new Uint8Array(1));
    clock.run();
    assert.equal(pins.page(7)[0], 0); // what the hardware would have written
    await device.close();
  });

  for (const dead of ['deconfigured', 'checkstopped'] as const) {
    test(`a card that is ${dead}: reported, given back at once`, async () => {
      const { device, pins, warnings } = openRoom();
      enable(device, Q47, { isc: 3, nib: 0x7000n });
      device.machine.setCondition(5, dead);
      assert.equal(codeOf(disable(device, Q47)), dead === 'deconfigured' ? 3 : 4);
      await settled();
      assert.deepEqual([pins.held, warnings.length], [[], 1]);
    });
  }

  test('dmaUnmap waits for the silence, of all queues of the range', async () => {
    const { device, pins, clock } = openRoom({ latency: { aqic: 30 } });
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x7008n });
    await pass(clock, 40);
    let over = false;
    const unmapped = device.dmaUnmap(frames(7, 7)).then(() => {
      over = true;
    });
    await pass(clock, 20);
    assert.deepEqual([over, pins.held], [false, [[7, 2]]]);
    await pass(clock, 40);
    assert.deepEqual([over, pins.held], [true, []]);
    await unmapped;
  });

  test('dmaUnmap during a disable joins it', async () => {
    const { device, pins, clock, script, asked } = scripted({});
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    script.AQIC = [RESPONSE.BUSY, RESPONSE.BUSY];
    asked.length = 0;
    disable(device, Q47);
    const unmapped = device.dmaUnmap(frames(0, 100));
    await pass(clock, 60);
    await unmapped;
    assert.equal(asked.filter((instruction) => instruction === 'AQIC').length, 3);
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });

  test('a reset by the guest during a disable gives the page back, once', async () => {
    const { device, pins, clock, script } = scripted({});
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    script.AQIC = [RESPONSE.BUSY];
    disable(device, Q47);
    device.pqap(pqapRegister0(PQAP_FUNCTION.ZAPQ, Q47), 0n, 0n);
    assert.deepEqual(pins.held, []);
    await pass(clock, 100);
    assert.equal(codeOf(enable(device, Q47, { isc: 3, nib: 0x7000n })), RESPONSE.NORMAL);
    assert.deepEqual(pins.held, [[7, 1]]);
    await device.close();
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });
});

describe('quirks of the table', () => {
  const room = (quirk: string, script: Parameters<typeof scripted>[0] = {}) => scripted(script, { quirks: [quirk] });
  const leftovers = async ({ device, pins }: Room): Promise<unknown> => {
    await device.close();
    return pins.held;
  };

  test('isc-failure-leaks: 08, and the page stays pinned for ever', async () => {
    const { device, guest, ...rest } = room('isc-failure-leaks');
    guest.refuseIsc = true;
    assert.equal(codeOf(enable(device, Q47, { isc: 3, nib: 0x7000n })), RESPONSE.INVALID_GISA);
    assert.deepEqual(await leftovers({ device, guest, ...rest }), [[7, 1]]);
  });

  test('failed-enable-frees-old: the old page goes, the new one leaks', async () => {
    const made = room('failed-enable-frees-old');
    enable(made.device, Q47, { isc: 2, nib: 0x9000n });
    made.script.AQIC = [RESPONSE.DECONFIGURED];
    enable(made.device, Q47, { isc: 3, nib: 0x7000n });
    assert.deepEqual([made.pins.held, made.device.interrupts], [[[7, 1]], []]);
    assert.deepEqual(await leftovers(made), [[7, 1]]);
  });

  test('stale-condition-code: an AQIC that works leaves cc 3 of the one before', async () => {
    for (const [quirks, cc] of [
      [[], 0],
      [['stale-condition-code'], 3],
    ] as const) {
      const { device } = openRoom({ quirks });
      assert.equal(device.pqap(IRQ_OFF, 0n, 0n).cc, 3); // 07
      assert.equal(device.pqap(IRQ_OFF, 0x8000_0000_0003n, 0x7000n).cc, cc);
      await device.close();
    }
  });

  test('zero-sentinel: an unmap at address 0 turns off what is off; without it nothing is asked', async () => {
    for (const [quirks, asked] of [
      [[], []],
      [['zero-sentinel'], ['AQIC', 'AQIC']],
    ] as const) {
      const made = scripted({}, { quirks });
      await made.device.dmaUnmap(frames(0, 4));
      assert.deepEqual(made.asked, asked);
      await made.device.close();
    }
  });

  test('first-queue-only: the second queue of a range keeps its page', async () => {
    const made = room('first-queue-only');
    enable(made.device, Q47, { isc: 3, nib: 0x7000n });
    enable(made.device, Q48, { isc: 3, nib: 0x8000n });
    await made.device.dmaUnmap(frames(0, 100));
    assert.deepEqual(made.pins.held, [[8, 1]]);
    assert.deepEqual(await leftovers(made), []);
  });
});
