import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AP_IRQ, createApDriver } from '@pinion/ap';
import {
  enable,
  FakeGuest,
  hardwareStatus,
  MACHINE,
  makeDevice,
  openRoom,
  Q47,
  Q48,
  test as testQueue,
} from './machine-room.js';

const NOT_AVAILABLE = 0x0001_0000n;
const driverWithQueue = () => createApDriver({ ...MACHINE, matrix: { adapters: [5], domains: [0x47, 0x48] } });

describe('open and close', () => {
  test('a closed device has no queues for its guest', () => {
    const { device } = makeDevice(driverWithQueue());
    assert.equal(testQueue(device, Q47), NOT_AVAILABLE);
    device.open();
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
    device.close();
    assert.equal(testQueue(device, Q47), NOT_AVAILABLE);
  });

  test('close silences every queue before it gives its page back, and drops its work', () => {
    const { device, pins, guest, clock } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 4, nib: 0x9000n });
    device.nqap(Q47, 1n, new Uint8Array(1));
    device.nqap(Q48, 1n, new Uint8Array(1));
    const atUnpin: unknown[] = [];
    pins.onUnpin = (frame) => atUnpin.push([frame, hardwareStatus(device, frame === 7 ? Q47 : Q48)]);
    device.close();
    assert.deepEqual(atUnpin, [
      [7, 0x8000_0000n],
      [9, 0x8000_0000n],
    ]);
    clock.run();
    assert.deepEqual([pins.held, pins.foreign, guest.interrupts], [[], [], []]);
    assert.deepEqual([...guest.registered], []);
  });

  test('a device can be opened again, with empty queues', async () => {
    const { device } = openRoom();
    device.nqap(Q47, 1n, new Uint8Array(1));
    await device.close();
    device.open();
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
    device.close();
  });

  test('open without a guest is EINVAL and leaves the device closed', () => {
    const { device } = makeDevice(driverWithQueue());
    device.setGuest(undefined);
    assert.throws(() => device.open(), { name: 'AP_NO_GUEST', errno: 'EINVAL' });
    assert.equal(testQueue(device, Q47), NOT_AVAILABLE);
  });

  test('a guest has one matrix: the second device is EPERM until the first is closed', async () => {
    const driver = createApDriver(MACHINE);
    const [first, second] = [makeDevice(driver, 'mdev-1'), makeDevice(driver, 'mdev-2')];
    second.device.setGuest(first.guest);
    first.device.open();
    assert.throws(() => second.device.open(), { name: 'AP_GUEST_TAKEN', errno: 'EPERM', message: /mdev-2.*mdev-1/ });
    await first.device.close();
    second.device.open();
    assert.throws(() => first.device.open(), { name: 'AP_GUEST_TAKEN' });
    second.device.close();
  });

  test('the guest cannot be exchanged while the device is open', async () => {
    const { device } = openRoom();
    assert.throws(() => device.setGuest(new FakeGuest()), { name: 'AP_OPEN', errno: 'EBUSY' });
    device.close();
    device.setGuest(new FakeGuest());
  });

  test('a guest that only takes interrupts is enough', () => {
    const { device, pins, clock } = makeDevice(driverWithQueue());
    const interrupts: number[] = [];
    device.setGuest({ interrupt: (isc) => interrupts.push(isc) });
    device.open();
    enable(device, Q47, { isc: 6, nib: 0x7000n });
    device.nqap(Q47, 1n, new Uint8Array(1));
    clock.run();
    assert.deepEqual(interrupts, [6]);
    device.close();
    assert.deepEqual(pins.held, []);
  });
});

describe('reset, request and the device’s own interrupts', () => {
  test('reset empties and silences every queue and keeps the matrix', () => {
    const { device, pins } = openRoom();
    enable(device, Q47, { isc: 3, nib: 0x7000n });
    enable(device, Q48, { isc: 3, nib: 0x9000n });
    device.nqap(Q48, 1n, new Uint8Array(1));
    device.reset();
    assert.deepEqual(pins.held, []);
    assert.equal(testQueue(device, Q47), 0x8000_0000n);
    assert.equal(testQueue(device, Q48), 0x8000_0000n);
  });

  test('two indices of one vector; a request raises the first', () => {
    const { device } = openRoom();
    assert.deepEqual(
      device.irqs.map(({ index, count }) => [index, count]),
      [
        [AP_IRQ.REQ, 1],
        [AP_IRQ.CFG_CHG, 1],
      ],
    );
    device.request(); // nobody listens
    const raised: number[][] = [];
    device.setIrqSink((...vector) => raised.push(vector));
    device.request();
    assert.deepEqual(raised, [[0, 0]]);
  });
});
