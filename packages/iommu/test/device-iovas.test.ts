import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '@pinion/core';
import { DeviceIovas, IovaAllocator } from '@pinion/iommu';

const LAST_32 = 0xfffff;
const LAST_48 = 2 ** 36 - 1;
/** Ten frames below 4 GiB. */
const nearlyFull = () => new IovaAllocator({ start: LAST_32 - 9 });

test('a 64-bit device gets addresses below 4 GiB until one request fails there, then never again', () => {
  const notices: string[] = [];
  const allocator = nearlyFull();
  const log = { ...silentLog, info: (message: string) => notices.push(message) };
  const device = new DeviceIovas(allocator, { limit: LAST_48, device: 'nic', log });
  const first = device.allocate(8);
  assert.equal(first, LAST_32 - 7);
  assert.equal(device.below4GFirst, true);
  assert.equal(device.allocate(8), LAST_48 - 7);
  assert.equal(device.below4GFirst, false);
  device.free(first, 8);
  allocator.flush();
  assert.equal(device.allocate(8), LAST_48 - 15);
  assert.deepEqual(notices, ['nic: no IOVA left below 4 GiB, using the whole address mask from now on']);
});

test('the 32-bit device beside it fails by name, and goes on after a free', () => {
  const allocator = nearlyFull();
  const device = new DeviceIovas(allocator, { limit: LAST_32 });
  const frame = device.allocate(8);
  assert.throws(() => device.allocate(8), {
    name: 'IOMMU_NO_IOVA',
    errno: 'ENOMEM',
    message: 'no 8 free IOVA frames in a row up to 0xfffff000',
  });
  assert.equal(device.below4GFirst, true);
  device.free(frame, 8);
  assert.equal(device.allocate(8), frame);
});

test('the second step flushes the caches, the first does not', () => {
  const allocator = nearlyFull();
  const device = new DeviceIovas(allocator, { limit: LAST_48, aperture: LAST_32 + 1 });
  const frames = Array.from({ length: 10 }, () => device.allocate(1));
  for (const frame of frames) device.free(frame, 1);
  assert.equal(device.allocate(4), LAST_32 - 3);
  assert.equal(device.below4GFirst, false);
});

test('the aperture bounds the mask, and forcedac skips the first step', () => {
  assert.equal(
    new DeviceIovas(new IovaAllocator(), { limit: LAST_48, aperture: 0x7ff, forceDac: true }).allocate(1),
    0x7ff,
  );
  assert.equal(new DeviceIovas(new IovaAllocator(), { limit: LAST_48, forceDac: true }).allocate(2), LAST_48 - 1);
});

test('senseless sizes are refused', () => {
  const device = new DeviceIovas(new IovaAllocator(), { limit: LAST_48 });
  for (const size of [0, -1, 0.5]) {
    assert.throws(() => device.allocate(size), { name: 'IOMMU_BAD_IOVA_REQUEST', errno: 'EINVAL' });
  }
  assert.equal(device.below4GFirst, true);
});
