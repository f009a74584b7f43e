import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createApDriver } from '@pinion/ap';
import { disable, enable, frames, MACHINE, makeDevice, openRoom, Q47, Q48, test as testQueue } from './machine-room.js';

const SIGNALS = 0x0100_0000n;

describe('dmaUnmap', () => {
  // The queue's byte is at 0x42 of page 0x107.
  const table: readonly [what: string, first: number, last: number, hit: boolean][] = [
    ['its page is the whole range', 0x107, 0x107, true],
    ['its page is the first', 0x107, 0x117, true],
    ['its page is in the middle', 0x100, 0x110, true],
    ['its page is the last', 0x100, 0x107, true],
    ['everything goes', 0, 2 ** 52 - 1, true],
    ['the range ends just before', 0x100, 0x106, false],
    ['the range begins just behind', 0x108, 0x110, false],
    ['the range is elsewhere', 0, 0x10, false],
  ];
  for (const [what, first, last, hit] of table) {
    test(`${what}: ${hit ? 'silenced, then given back' : 'nothing is touched'}`, () => {
      const { device, pins, guest } = openRoom();
      enable(device, Q47, { isc: 3, nib: 0x10_7042n });
      const signalsAtUnpin: boolean[] = [];
      pins.onUnpin = () => signalsAtUnpin.push((testQueue(device, Q47) & SIGNALS) !== 0n);
      device.dmaUnmap(frames(first, last));
      assert.deepEqual(signalsAtUnpin, hit ? [false] : []);
      assert.deepEqual(pins.held, hit ? [] : [[0x107, 1]]);
      assert.deepEqual([...guest.registered], hit ? [] : [[3, 1]]);
      assert.equal((testQueue(device, Q47) & SIGNALS) !== 0n, !hit);
      device.close();
      assert.deepEqual([pins.held, pins.foreign], [[], []]);
    });
  }

  test('the sequence of the reference: 7, then 9, then two unmaps', () => {
    const { device, pins } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q47, { isc: 3, nib: 0x9000n });
    device.dmaUnmap(frames(8, 9));
    assert.deepEqual([pins.held, device.interrupts], [[], []]);
    device.dmaUnmap(frames(7, 7));
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });

  test('every queue of the range is found, also two in one page; others keep theirs', () => {
    const driver = createApDriver({ ...MACHINE, matrix: { adapters: [5, 6], domains: [0x47, 0x48] } });
    const { device, pins } = makeDevice(driver);
    device.open();
    enable(device, 0x0547, { isc: 1, nib: 0x2_0000n });
    enable(device, 0x0548, { isc: 1, nib: 0x2_0008n });
    enable(device, 0x0647, { isc: 1, nib: 0x2_5fffn });
    enable(device, 0x0648, { isc: 1, nib: 0x2_6000n });
    assert.deepEqual(pins.held, [
      [0x20, 2],
      [0x25, 1],
      [0x26, 1],
    ]);
    device.dmaUnmap(frames(0x20, 0x25));
    assert.deepEqual(pins.held, [[0x26, 1]]);
    assert.deepEqual(device.interrupts, [{ apqn: 0x0648, isc: 1, page: 0x26 }]);
    device.close();
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });

  test('a range at address zero matches no queue without interrupts', () => {
    const { device, pins } = openRoom();
    device.dmaUnmap(frames(0, 0));
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
  });

  test('twice is as good as once, before open and after close too', () => {
    const driver = createApDriver({ ...MACHINE, matrix: { adapters: [5], domains: [0x47] } });
    const { device, pins } = makeDevice(driver);
    device.dmaUnmap(frames(0, 0xffff));
    device.open();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.dmaUnmap(frames(0, 0xffff));
    device.dmaUnmap(frames(0, 0xffff));
    device.close();
    device.dmaUnmap(frames(0, 0xffff));
    assert.deepEqual([pins.held, pins.foreign], [[], []]);
  });

  test('work goes on: the reply comes without a signal, and interrupts can be had again', () => {
    const { device, pins, clock, guest } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.nqap(Q47, 9n, new Uint8Array(1));
    device.dmaUnmap(frames(7, 7));
    clock.run();
    assert.deepEqual(guest.interrupts, []);
    assert.equal(device.dqap(Q47, 100).psmid, 9n);
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    assert.deepEqual(pins.held, [[7, 1]]);
    disable(device, Q47);
    assert.deepEqual(pins.held, []);
  });
});

describe('the quirk blind-unpin', () => {
  const open = () => openRoom({ quirks: ['blind-unpin'] });

  test('keeps a page that is not the first of the range, and the queue goes on signalling', () => {
    const { device, pins } = open();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.dmaUnmap(frames(6, 8));
    assert.deepEqual(pins.held, [[7, 1]]);
    assert.deepEqual(pins.foreign, [6]);
    assert.equal(testQueue(device, Q47) & SIGNALS, SIGNALS);
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('unpins somebody else’s page when that is the first', () => {
    const { device, pins } = open();
    const others = pins.pin(frames(6, 6).first, 1, 3);
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    device.dmaUnmap(frames(6, 8));
    assert.equal(others.held, false);
    assert.deepEqual(pins.held, [[7, 1]]);
    device.close();
    assert.deepEqual(pins.held, []);
  });

  test('unpins its own page twice when that is the first', () => {
    const { device, pins } = open();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x9000n });
    device.dmaUnmap(frames(7, 8));
    assert.deepEqual(pins.held, [[9, 1]]);
    assert.equal(testQueue(device, Q47) & SIGNALS, SIGNALS);
    device.close();
    assert.deepEqual([pins.held, pins.foreign], [[], [7]]);
  });
});
