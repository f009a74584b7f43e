import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import {
  CryptoDriver,
  DasdDriver,
  DiskDriver,
  GuestHeap,
  padDigest,
  screenOf,
  VgpuDriver,
  xyColorBlt,
  xySrcCopyBlt,
} from '@pinion/vm';
import { APQN, DISK_BYTES, held, POOL, SUBCHANNEL, startSmallVm } from './small-vm.js';

const BLOCKS = DISK_BYTES / 512;
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => (index * 7) % 253);

// --- DASD

test('the DASD driver finds the disk and reads it whole: many programs, indirect lists above 4 GiB, data chaining', async (t) => {
  const { vm, heap, folder } = await startSmallVm(t, { plug: ['dasd'] });
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  assert.equal(dasd.capacity, BLOCKS);
  await dasd.read({ block: 0, blocks: BLOCKS, at: POOL });
  assert.deepEqual(Buffer.from(vm.memory.read(POOL, DISK_BYTES)), readFileSync(join(folder, 'dasd.img')));
  assert.deepEqual(held(vm).owners, {});
});

test('what the DASD driver writes is in the image; neighbours are untouched', async (t) => {
  const { vm, host, heap, folder } = await startSmallVm(t, { plug: ['dasd'] });
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  const bytes = pattern(3 * 512);
  vm.memory.write(POOL, bytes);
  await dasd.write({ block: 10, blocks: 3, at: POOL });
  await host.close();
  const image = readFileSync(join(folder, 'dasd.img'));
  assert.deepEqual(new Uint8Array(image.subarray(10 * 512, 13 * 512)), bytes);
  assert.deepEqual([image[10 * 512 - 1], image[13 * 512]], [9, 13]);
});

test('the DASD driver tells what the disk and the channel refuse', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['dasd'] });
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  await assert.rejects(dasd.read({ block: BLOCKS - 1, blocks: 2, at: POOL }), {
    name: 'VM_IO_FAILED',
    message: /device status 0xe, .*sense 0004/,
  });
  await assert.rejects(dasd.read({ block: 0, blocks: 1, at: 0x5000_0000n }), {
    name: 'VM_IO_FAILED',
    message: /device status 0x1,/,
  });
  await assert.rejects(DasdDriver.start(vm.machine, heap, 0x77), { name: 'VM_NO_SUBCHANNEL', errno: 'ENODEV' });
  assert.deepEqual(held(vm).owners, {});
});

test('requests of one driver take turns; another driver finds the subchannel busy', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['dasd'] });
  const dasd = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  const other = await DasdDriver.start(vm.machine, heap, SUBCHANNEL);
  const both = [
    dasd.read({ block: 0, blocks: 64, at: POOL }),
    dasd.read({ block: 7, blocks: 1, at: POOL + 0x1_0000n }),
  ];
  await new Promise((resolve) => queueMicrotask(() => resolve(undefined)));
  await assert.rejects(other.read({ block: 0, blocks: 1, at: POOL }), { name: 'VM_SUBCHANNEL_BUSY', errno: 'EBUSY' });
  await Promise.all(both);
  assert.equal(vm.memory.read(POOL + 0x1_0000n, 1)[0], 7);
});

test('jobs, transfers and messages of one driver take turns, too', async (t) => {
  const { vm, heap } = await startSmallVm(t);
  const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
  const disk = DiskDriver.start(vm.machine, 'disk');
  const crypto = CryptoDriver.start(vm.machine, heap, { apqn: APQN, isc: 1 });
  const screen = gpu.allocate(4096);
  const dot = (x: number): number[] =>
    xyColorBlt({
      target: { address: screen.address, pitch: 64 },
      rect: { x1: x, y1: 0, x2: x + 1, y2: 1 },
      color: x + 1,
    });
  const digest = createHash('sha256').update('x').digest();
  const [, , , , one, two] = await Promise.all([
    gpu.run([dot(0)]),
    gpu.run([dot(1)]),
    disk.read({ lba: 3, blocks: 1, at: POOL }),
    disk.read({ lba: 4, blocks: 1, at: POOL + 512n }),
    crypto.sign(digest, JWK),
    crypto.sign(digest, JWK),
  ]);
  assert.deepEqual([...new Uint32Array(vm.memory.read(screen.at, 8).buffer)], [1, 2]);
  assert.deepEqual([...vm.memory.read(POOL + 511n, 2)], [3, 4]);
  assert.deepEqual(one, two);
});

// --- passthrough disk

test('the disk driver writes and reads back, at any alignment of memory', async (t) => {
  const { vm, host, heap, folder } = await startSmallVm(t, { plug: ['disk'] });
  const disk = DiskDriver.start(vm.machine, 'disk');
  assert.equal(disk.capacity, BLOCKS);
  const bytes = pattern(200 * 512);
  const at = heap.allocate(bytes.length + 4096) + 100n;
  vm.memory.write(at, bytes);
  await disk.write({ lba: 5, blocks: 200, at });
  await disk.read({ lba: 5, blocks: 200, at: POOL });
  assert.deepEqual(vm.memory.read(POOL, bytes.length), bytes);
  await host.close();
  assert.deepEqual(new Uint8Array(readFileSync(join(folder, 'disk.img')).subarray(5 * 512, 205 * 512)), bytes);
});

test('the disk says why a transfer failed', async (t) => {
  const { vm, host } = await startSmallVm(t, { plug: ['disk'] });
  const disk = DiskDriver.start(vm.machine, 'disk');
  const cases = [
    { transfer: { lba: 0, blocks: 1, at: 0x4000_0000n }, status: 'DMA_FAULT' },
    { transfer: { lba: 0, blocks: 4, at: POOL + (1n << 20n) - 512n }, status: 'DMA_FAULT' },
    { transfer: { lba: BLOCKS, blocks: 1, at: POOL }, status: 'MEDIA' },
    { transfer: { lba: BLOCKS - 1, blocks: 2, at: POOL }, status: 'MEDIA' },
    { transfer: { lba: 2 ** 52, blocks: 1, at: POOL }, status: 'MEDIA' },
  ];
  for (const { transfer, status } of cases) {
    await assert.rejects(disk.read(transfer), {
      name: 'VM_DISK_FAILED',
      errno: 'EIO',
      message: new RegExp(`status ${status}$`),
    });
  }
  assert.deepEqual(
    host.iommu.faults.entries.map(({ iova, access }) => [iova, access]),
    [
      [0x4000_0000n, 'write'],
      [POOL + (1n << 20n), 'write'],
    ],
  );
  await disk.read({ lba: 0, blocks: 1, at: POOL });
});

test('the disk and the vGPU are told apart', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['disk', 'vgpu'] });
  assert.throws(() => DiskDriver.start(vm.machine, 'vgpu'), { name: 'VM_NOT_A_DISK', errno: 'ENODEV' });
  assert.throws(() => VgpuDriver.start(vm.machine, heap, 'nothing'), { name: 'VM_NO_FUNCTION', errno: 'ENODEV' });
  const [disk, vgpu] = vm.slots;
  assert.throws(() => screenOf(disk?.device ?? assert.fail()), { name: 'VM_WRONG_DRIVER' });
  assert.deepEqual(screenOf(vgpu?.device ?? assert.fail()), { width: 0, height: 0, pixels: new Uint8Array(0) });
});

// --- vGPU

test('the vGPU driver draws what a processor would have drawn', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['vgpu'] });
  const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
  const [width, height] = [64, 32];
  const screen = gpu.allocate(width * height * 4);
  const sprite = gpu.map(POOL, 8 * 8 * 4);
  vm.memory.write(POOL, new Uint8Array(8 * 8 * 4).fill(0x55));
  const target = { address: screen.address, pitch: width * 4 };
  await gpu.run([
    xyColorBlt({ target, rect: { x1: 0, y1: 0, x2: width, y2: height }, color: 0xff102030 }),
    xySrcCopyBlt({ target, rect: { x1: 4, y1: 2, x2: 12, y2: 10 }, source: { address: sprite.address, pitch: 32 } }),
  ]);
  const expected = new Uint8Array(width * height * 4);
  for (let at = 0; at < expected.length; at += 4) {
    const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)];
    expected.set(x >= 4 && x < 12 && y >= 2 && y < 10 ? [0x55, 0x55, 0x55, 0x55] : [0x30, 0x20, 0x10, 0xff], at);
  }
  assert.deepEqual(vm.memory.read(screen.at, expected.length), expected);
  gpu.show({ buffer: screen, width, height });
  const shown = screenOf(vm.slots[1]?.device ?? assert.fail());
  assert.deepEqual(
    [shown.width, shown.height, ...shown.pixels.subarray(0, 4)],
    [width, height, 0x10, 0x20, 0x30, 0xff],
  );
  gpu.release(screen);
  gpu.release(sprite);
  gpu.stop();
  assert.deepEqual(held(vm), { mappings: 2, owners: {}, locked: 0, held: 0 });
  assert.equal(heap.used, 0n);
});

test('more commands than the ring holds run in several jobs, and the ring wraps', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['vgpu'] });
  const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
  const screen = gpu.allocate(4096 * 4);
  const target = { address: screen.address, pitch: 4096 };
  const dots = Array.from({ length: 3000 }, (_, index) =>
    xyColorBlt({
      target,
      rect: {
        x1: index % 1024,
        y1: Math.floor(index / 1024),
        x2: (index % 1024) + 1,
        y2: Math.floor(index / 1024) + 1,
      },
      color: index,
    }),
  );
  await gpu.run(dots);
  const words = new Uint32Array(vm.memory.read(screen.at, 3000 * 4).buffer);
  assert.deepEqual(
    [...words],
    Array.from({ length: 3000 }, (_, index) => index),
  );
});

test('a command that the blitter refuses stops it, and the driver says which', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['vgpu'] });
  const gpu = VgpuDriver.start(vm.machine, heap, 'vgpu');
  await assert.rejects(gpu.run([[0x7fff_0000]]), { name: 'VM_GPU_HUNG', errno: 'EIO', message: /0x7fff0000/ });
});

test('graphics memory that is used up is an error, and changes nothing', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['vgpu'] });
  const gpu = VgpuDriver.start(vm.machine, new GuestHeap(0n, 0x8000n), 'vgpu');
  const before = held(vm);
  assert.throws(() => gpu.allocate(0x4000), { name: 'VM_GUEST_MEMORY_FULL', errno: 'ENOMEM' });
  assert.throws(() => gpu.map(0n, 2 ** 30), { name: 'VM_GUEST_MEMORY_FULL' });
  assert.deepEqual(held(vm), before);
});

// --- crypto

const KEY = generateKeyPairSync('rsa', { modulusLength: 1024 });
const JWK = KEY.privateKey.export({ format: 'jwk' });

test('the crypto driver signs as node:crypto verifies; the notification page is pinned from start to stop', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['crypto'] });
  const crypto = CryptoDriver.start(vm.machine, heap, { apqn: APQN, isc: 3 });
  assert.deepEqual(held(vm).owners, { crypto: 1 });
  for (const text of ['first', 'second']) {
    const digest = createHash('sha256').update(text).digest();
    const signature = await crypto.sign(digest, JWK);
    assert.equal(verify('sha256', Buffer.from(text), KEY.publicKey, signature), true);
    assert.equal(verify('sha256', Buffer.from('another'), KEY.publicKey, signature), false);
  }
  crypto.stop();
  assert.deepEqual(held(vm), { mappings: 2, owners: {}, locked: 0, held: 0 });
  assert.equal(heap.used, 0n);
});

test('the crypto driver names what is wrong with queue, key and message', async (t) => {
  const { vm, heap } = await startSmallVm(t, { plug: ['crypto'] });
  assert.throws(() => CryptoDriver.start(vm.machine, heap, { apqn: 0x0100, isc: 0 }), {
    name: 'VM_NO_QUEUE',
    message: /01\.0000.*0x1$/,
  });
  const crypto = CryptoDriver.start(vm.machine, heap, { apqn: APQN, isc: 0 });
  const { d: _, p: __, ...half } = JWK;
  await assert.rejects(crypto.sign(new Uint8Array(32), half), { name: 'VM_BAD_KEY', errno: 'EINVAL' });
  await assert.rejects(crypto.sign(new Uint8Array(20), JWK), { name: 'VM_BAD_KEY' });
  await assert.rejects(crypto.sign(new Uint8Array(32), { ...JWK, p: JWK.q ?? '', q: 'Ag' }), {
    name: 'VM_CRYPTO_FAILED',
    errno: 'EIO',
  });
  await vm.unplug('crypto');
  await assert.rejects(crypto.exchange(Uint8Array.of(0)), { name: 'VM_NO_QUEUE', message: /no AP matrix/ });
});

test('a key block with a wrong padding never leaves the driver', () => {
  assert.throws(() => padDigest(new Uint8Array(32), 61), { name: 'VM_BAD_KEY' });
  const padded = padDigest(new Uint8Array(32).fill(7), 62);
  assert.deepEqual([...padded.subarray(0, 11)], [0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
});
