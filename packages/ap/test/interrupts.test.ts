import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { aqicRegister1, PQAP_FUNCTION, pqapRegister0 } from '@pinion/ap';
import { asIovaFrame } from '@pinion/core';
import fc from 'fast-check';
import {
  disable,
  enable,
  type FakeGuest,
  frames,
  openRoom,
  Q47,
  Q48,
  type Room,
  test as testQueue,
} from './machine-room.js';

/** Status words with the interrupt bit: empty queue, signals on. */
const ON = 0x8100_0000n;
const OFF = 0x8000_0000n;
const INVALID_ADDRESS = 0x0006_0000n;
const OTHERWISE_CHANGED = 0x0007_0000n;

describe('AQIC', () => {
  test('the registers of the instruction', () => {
    assert.equal(pqapRegister0(PQAP_FUNCTION.AQIC, Q47), 0x0300_0547n);
    assert.equal(aqicRegister1(3), 0x0000_8000_0000_0003n);
  });

  test('enable pins exactly the page of the notification byte and registers the subclass', () => {
    const { device, pins, guest } = openRoom();
    const answer = device.pqap(0x0300_0547n, 0x0000_8000_0000_0003n, 0x7000n);
    assert.deepEqual(answer, { cc: 0, gr1: ON, gr2: 0x7000n });
    assert.deepEqual(pins.held, [[7, 1]]);
    assert.deepEqual(device.interrupts, [{ apqn: Q47, isc: 3, page: 7 }]);
    assert.deepEqual([...guest.registered], [[3, 1]]);
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('the byte may be anywhere in its page; bits of the register that do not matter are ignored', () => {
    const { device, pins } = openRoom();
    assert.equal(device.pqap(0xffff_ffff_0300_0547n, 0xffff_ffff_ffff_fffdn, 0x7fffn).gr1, ON);
    assert.deepEqual(device.interrupts, [{ apqn: Q47, isc: 5, page: 7 }]);
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('re-enable elsewhere takes the new page, switches, and only then gives the old one back', () => {
    const { device, pins, guest, clock } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    const seen: unknown[] = [];
    pins.onUnpin = (frame) => {
      device.nqap(Q47, 1n, new Uint8Array(1));
      clock.run();
      seen.push(frame, pins.count(frame), pins.page(7)[0], pins.page(9)[4]);
    };
    assert.equal(enable(device, Q47, { isc: 4, nib: 0x9004n }), ON);
    assert.deepEqual(seen, [7, 1, 0, 1]); // a reply at that moment is told through the new byte
    assert.deepEqual(pins.held, [[9, 1]]);
    assert.deepEqual([...guest.registered], [[4, 1]]);
    pins.onUnpin = () => {};
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('re-enable of just the same answers 07 and holds the page once', () => {
    const { device, pins, guest } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    assert.equal(enable(device, Q47, { isc: 3, nib: 0x7000n }), ON | OTHERWISE_CHANGED);
    assert.deepEqual(pins.held, [[7, 1]]);
    assert.deepEqual([...guest.registered], [[3, 1]]);
    disable(device, Q47);
    assert.deepEqual(pins.held, []);
  });

  test('disable silences the queue before the page is given back', () => {
    const { device, pins, guest } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    const atUnpin: bigint[] = [];
    pins.onUnpin = () => atUnpin.push(testQueue(device, Q47));
    assert.equal(disable(device, Q47), OFF);
    assert.deepEqual(atUnpin, [OFF]);
    assert.deepEqual(pins.held, []);
    assert.deepEqual([...guest.registered], []);
  });

  test('disable of a silent queue answers 07', () => {
    const { device, pins } = openRoom();
    const answer = device.pqap(0x0300_0547n, 0n, 0n);
    assert.deepEqual(answer, { cc: 3, gr1: OFF | OTHERWISE_CHANGED, gr2: 0n });
    assert.deepEqual(pins.foreign, []);
  });

  const spoilers: readonly [what: string, nib: bigint, spoil: (room: Room) => unknown][] = [
    ['address zero', 0n, () => {}],
    ['a page outside the guest', 0x7000n, ({ guest }) => Object.assign(guest, { ownsPages: false })],
    ['a page that is not mapped', 0x100_0000_0000n, () => {}],
    ['the last page of the address space', 0xffff_ffff_ffff_ffffn, () => {}],
    ['a page that cannot be locked', 0x7000n, ({ pins }) => Object.assign(pins, { exhausted: true })],
    ['a page that a protected guest does not share', 0x7000n, ({ guest }) => Object.assign(guest, { shares: false })],
    ['a subclass that cannot be delivered', 0x7000n, ({ guest }) => Object.assign(guest, { refuseIsc: true })],
  ];
  for (const [what, nib, spoil] of spoilers) {
    test(`${what} answers 06 and holds nothing`, () => {
      const room = openRoom();
      spoil(room);
      assert.equal(enable(room.device, Q47, { isc: 3, nib }), OFF | INVALID_ADDRESS);
      assert.deepEqual(room.pins.held, []);
      assert.deepEqual(room.device.interrupts, []);
      assert.deepEqual([...room.guest.registered], []);
    });

    test(`${what} leaves interrupts that were on as they were`, () => {
      const room = openRoom();
      enable(room.device, Q47, { isc: 2, nib: 0x9000n });
      spoil(room);
      assert.equal(enable(room.device, Q47, { isc: 3, nib }), ON | INVALID_ADDRESS);
      assert.deepEqual(room.pins.held, [[9, 1]]);
      assert.deepEqual(room.device.interrupts, [{ apqn: Q47, isc: 2, page: 9 }]);
      assert.deepEqual([...room.guest.registered], [[2, 1]]);
      room.device.close();
      assert.deepEqual(room.pins.held, []);
    });
  }

  test('an error of the pin API that is nobody’s answer is not swallowed', () => {
    const { device, pins } = openRoom();
    pins.pin = () => {
      throw new TypeError('a bug');
    };
    assert.throws(() => enable(device, Q47, { isc: 3, nib: 0x7000n }), TypeError);
    assert.deepEqual(device.interrupts, []);
  });

  for (const code of [PQAP_FUNCTION.RAPQ, PQAP_FUNCTION.ZAPQ]) {
    test(`function ${code} resets: silent, then the page is given back`, () => {
      const { device, pins, guest } = openRoom();
      enable(device, Q47, { isc: 3, nib: 0x7000n });
      const atUnpin: bigint[] = [];
      pins.onUnpin = () => atUnpin.push(testQueue(device, Q47));
      assert.deepEqual(device.pqap(pqapRegister0(code, Q47), 0n, 5n), { cc: 0, gr1: OFF, gr2: 5n });
      assert.deepEqual(atUnpin, [OFF]);
      assert.deepEqual(pins.held, []);
      assert.deepEqual([...guest.registered], []);
    });
  }
});

describe('delivery', () => {
  const ask = ({ device, clock }: Room, apqn = Q47): void => {
    device.nqap(apqn, 1n, new Uint8Array(1));
    clock.run();
  };

  test('a reply sets the byte, then interrupts on the subclass', () => {
    const room = openRoom();
    enable(room.device, Q47, { isc: 3, nib: 0x7123n });
    const byteAtInterrupt: unknown[] = [];
    room.guest.onInterrupt = () => byteAtInterrupt.push(room.pins.page(7)[0x123]);
    ask(room);
    assert.deepEqual(room.guest.interrupts, [3]);
    assert.deepEqual(byteAtInterrupt, [1]);
    assert.deepEqual(
      [...room.pins.page(7).entries()].filter(([, byte]) => byte !== 0),
      [[0x123, 1]],
    );
    room.device.close();
  });

  test('the handler may take the reply and ask again', () => {
    const room = openRoom();
    enable(room.device, Q47, { isc: 3, nib: 0x7000n });
    let left = 3;
    room.guest.onInterrupt = () => {
      room.device.dqap(Q47, 100);
      left -= 1;
      if (left > 0) room.device.nqap(Q47, 2n, new Uint8Array(1));
    };
    ask(room);
    assert.deepEqual(room.guest.interrupts, [3, 3, 3]);
    assert.equal(testQueue(room.device, Q47), ON);
    room.device.close();
  });

  test('without interrupts nothing is written and nobody is told', () => {
    const room = openRoom();
    ask(room);
    assert.deepEqual(room.guest.interrupts, []);
    assert.equal(room.device.dqap(Q47, 100).message.length, 8);
  });

  const silencers: readonly [what: string, silence: (room: Room) => void][] = [
    ['disable', ({ device }) => disable(device, Q47)],
    ['close', ({ device }) => device.close()],
    ['device reset', ({ device }) => device.reset()],
    ['unplug', ({ device }) => device.unassignAdapter(5)],
    ['dmaUnmap', ({ device, pins }) => device.dmaUnmap(pins.mapped[0] ?? assert.fail())],
  ];
  for (const [what, silence] of silencers) {
    test(`${what} while the card works: the guest's page stays untouched`, () => {
      const room = openRoom();
      enable(room.device, Q47, { isc: 3, nib: 0x7000n });
      room.device.nqap(Q47, 1n, new Uint8Array(1));
      silence(room);
      room.clock.run();
      assert.deepEqual(room.guest.interrupts, []);
      assert.equal(room.pins.page(7)[0], 0);
      assert.deepEqual(room.pins.held, []);
    });
  }

  test('a guest that fails its interrupt is reported and harms nobody', () => {
    const room = openRoom();
    enable(room.device, Q47, { isc: 3, nib: 0x7000n });
    room.guest.onInterrupt = () => assert.fail('broken guest');
    ask(room);
    assert.equal(room.warnings.length, 1);
    assert.match(room.warnings[0] ?? '', /05\.0047/);
    assert.equal(room.device.dqap(Q47, 100).message.length, 8);
    room.device.close();
    assert.deepEqual(room.pins.held, []);
  });

  test('a page that somebody else gave back is not written any more', () => {
    const room = openRoom();
    enable(room.device, Q47, { isc: 3, nib: 0x7000n });
    room.pins.unpin(asIovaFrame(7), 1);
    ask(room);
    assert.equal(room.pins.page(7)[0], 0);
    assert.deepEqual(room.guest.interrupts, []);
    assert.equal(room.warnings.length, 1);
    room.device.close();
    assert.deepEqual(room.pins.held, []);
  });
});

const registrations = (guest: FakeGuest): number => [...guest.registered.values()].reduce((sum, n) => sum + n, 0);

test('whatever a guest does, a device holds one page for each queue that signals, and none in the end', () => {
  type Step = (room: Room) => void;
  const queue = fc.constantFrom(Q47, Q48);
  const isc = fc.integer({ min: 0, max: 7 });
  const nib = fc.constantFrom(0n, 0x1000n, 0x1008n, 0x2000n, 0x3fffn, 0x999_0000_0000n);
  const page = fc.integer({ min: 0, max: 5 });
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.tuple(queue, isc, nib).map(
      ([apqn, isc, nib]): Step =>
        ({ device }) =>
          void enable(device, apqn, { isc, nib }),
    ),
    queue.map(
      (apqn): Step =>
        ({ device }) =>
          void disable(device, apqn),
    ),
    queue.map(
      (apqn): Step =>
        ({ device }) =>
          void device.pqap(pqapRegister0(PQAP_FUNCTION.ZAPQ, apqn), 0n, 0n),
    ),
    queue.map(
      (apqn): Step =>
        ({ device }) =>
          void device.nqap(apqn, 0n, new Uint8Array(1)),
    ),
    fc.tuple(page, page).map(
      ([a, b]): Step =>
        ({ device }) =>
          device.dmaUnmap(frames(Math.min(a, b), Math.max(a, b))),
    ),
    fc.constant<Step>(({ clock }) => clock.step()),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const room = openRoom();
      const { device, pins, guest, clock } = room;
      for (const one of steps) {
        one(room);
        const held = pins.held.flatMap(([frame, count]) => Array.from({ length: count }, () => frame));
        assert.deepEqual(held, device.interrupts.map((one) => Number(one.page)).sort());
        assert.equal(registrations(guest), device.interrupts.length);
      }
      device.close();
      clock.run();
      assert.deepEqual([pins.held, pins.foreign, registrations(guest)], [[], [], 0]);
    }),
  );
});
