import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  asIovaFrame,
  definePlugin,
  EXTENSION,
  LAST_FRAME,
  PIN_PAGES_MAX,
  type PinApi,
  PROT_READ,
  PROT_RW,
  PROT_WRITE,
} from '@pinion/core';
import { BareBackend } from './fake-backend.js';
import { at, createMdev, found, mapFrames, openMdev, startWorld, unmapFrames } from './world.js';

const out = new Float64Array(PIN_PAGES_MAX + 1);

/** A mediated device that is open, with frames 0..599 mapped read-write. */
async function seated() {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 600);
  return { ...world, ...seat, pins: seat.device.context.pins };
}

const counts: readonly (readonly [count: number, name: string, errno: string])[] = [
  [0, 'CORE_BAD_COUNT', 'EINVAL'],
  [1.5, 'CORE_BAD_COUNT', 'EINVAL'],
  [513, 'CORE_TOO_MANY', 'E2BIG'],
  [-1, 'CORE_TOO_MANY', 'E2BIG'],
  [2 ** 31, 'CORE_TOO_MANY', 'E2BIG'],
  [Number.NaN, 'CORE_BAD_COUNT', 'EINVAL'],
  [Number.POSITIVE_INFINITY, 'CORE_BAD_COUNT', 'EINVAL'],
];
for (const [count, name, errno] of counts) {
  test(`pin of ${count} pages is ${name}`, async () => {
    const { pins, container, mediator } = await seated();
    assert.throws(() => pins.pin(at(0), count, PROT_RW), { name, errno });
    assert.throws(() => pins.pinInto(at(0), count, PROT_RW, out), { name, errno });
    assert.throws(() => pins.pinAt(0n, count, PROT_RW, out), { name, errno });
    assert.deepEqual([pins.pages, container.stats.pinnedPages], [0, 0]);
    await mediator.close();
  });
}

test('512 pages are one call', async () => {
  const { pins, container, mediator } = await seated();
  const handle = pins.pin(at(0), 512, PROT_RW);
  assert.deepEqual([handle.frames.length, pins.pages, container.stats.pinnedPages], [512, 512, 512]);
  handle.unpin();
  assert.deepEqual([pins.pages, container.stats.pinnedPages], [0, 0]);
  await mediator.close();
});

// Order of the checks: count zero, open, dmaUnmap, too many, backend. Source: vfio_pin_pages().

test('a count of nothing is found before the device is found closed', async () => {
  const world = await startWorld();
  const { device } = await createMdev(world, 1);
  const { pins } = device.context;
  assert.throws(() => pins.pin(at(0), 0, PROT_RW), { name: 'CORE_BAD_COUNT', errno: 'EINVAL' });
  assert.throws(() => pins.pin(at(0), 513, PROT_RW), { name: 'CORE_NOT_OPEN', errno: 'EINVAL' });
  assert.throws(() => pins.pin(at(0), 1, PROT_RW), { name: 'CORE_NOT_OPEN', errno: 'EINVAL' });
  await world.mediator.close();
});

test('a driver without dmaUnmap is refused by name at run time, before its count is looked at', async () => {
  const { pins, mdev, mediator } = await seated();
  const { ops } = mdev.device;
  mdev.device.ops = { close: () => ops.close?.() };
  const refused = { name: 'CORE_NO_DMA_UNMAP', errno: 'EINVAL', message: /driver fakedrv declares no dmaUnmap/ };
  assert.throws(() => pins.pin(at(0), 1, PROT_RW), refused);
  assert.throws(() => pins.pin(at(0), 513, PROT_RW), refused);
  assert.throws(() => pins.pin(at(0), 0, PROT_RW), { name: 'CORE_BAD_COUNT' });
  await mediator.close();
});

test('a backend that cannot pin answers ENOTTY, after the count was looked at', async () => {
  const world = await startWorld({ backend: { types: [] } });
  const bare = definePlugin({
    name: 'bare',
    core: '^0.1',
    register: (scope) =>
      scope.backend({
        name: 'bare',
        checkExtension: (extension) => (extension === EXTENSION.TYPE1v2_IOMMU ? 1 : 0),
        open: (_type, host) => new BareBackend(host, [], { name: 'bare' }),
      }),
  });
  await world.mediator.use(bare);
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 4);
  const { pins } = seat.device.context;
  assert.throws(() => pins.pin(at(0), 1, PROT_RW), {
    name: 'CORE_NO_PIN_SUPPORT',
    errno: 'ENOTTY',
    message: /backend bare/,
  });
  assert.throws(() => pins.pin(at(0), 513, PROT_RW), { name: 'CORE_TOO_MANY', errno: 'E2BIG' });
  pins.unpin(at(0), 1);
  assert.equal(pins.pages, 0);
  await world.mediator.close();
});

test('a device that was closed may not pin any more, and its unpin does nothing', async () => {
  const { pins, file, container, mediator } = await seated();
  await file.close();
  assert.throws(() => pins.pin(at(0), 1, PROT_RW), { name: 'CORE_NOT_OPEN', errno: 'EINVAL' });
  pins.unpin(at(0), 1);
  assert.equal(container.stats.pinnedPages, 0);
  await mediator.close();
});

const badAddresses: readonly (readonly [what: string, pin: (pins: PinApi) => unknown])[] = [
  ['a frame behind the last', (pins) => pins.pin(asIovaFrame(LAST_FRAME + 1), 1, PROT_RW)],
  ['pages that run over the end', (pins) => pins.pin(asIovaFrame(LAST_FRAME), 2, PROT_RW)],
  ['a negative frame', (pins) => pins.pin(asIovaFrame(-1), 1, PROT_RW)],
  ['a frame that is no integer', (pins) => pins.pinInto(asIovaFrame(0.5), 1, PROT_RW, out)],
  ['a frame that is no number', (pins) => pins.pinInto(asIovaFrame(Number.NaN), 1, PROT_RW, out)],
  ['a negative address', (pins) => pins.pinAt(-1n, 1, PROT_RW, out)],
  ['an address behind 2^64', (pins) => pins.pinAt(1n << 64n, 1, PROT_RW, out)],
  ['a negative address to unpin', (pins) => pins.unpinAt(-4096n, 1)],
  ['an address to unpin behind 2^64', (pins) => pins.unpinAt(1n << 64n, 1)],
];
for (const [what, pin] of badAddresses) {
  test(`${what} is refused`, async () => {
    const { pins, container, mediator } = await seated();
    assert.throws(() => pin(pins), { name: 'CORE_BAD_ADDRESS', errno: 'EINVAL' });
    assert.deepEqual([pins.pages, container.stats.pinnedPages], [0, 0]);
    await mediator.close();
  });
}

test('what the backend refuses leaves no record: hole, rights', async () => {
  const { pins, container, mediator } = await seated();
  mapFrames(container, 700, 4, 700, PROT_READ);
  assert.throws(() => pins.pin(at(598), 3, PROT_RW), { name: 'FAKE_HOLE', errno: 'EINVAL' });
  assert.throws(() => pins.pin(at(700), 1, PROT_WRITE), { name: 'FAKE_PROT', errno: 'EPERM' });
  assert.deepEqual([pins.pages, container.stats.pinnedPages], [0, 0]);
  pins.pin(at(700), 1, PROT_READ).unpin();
  await mediator.close();
});

test('pinInto and pinAt write the host frames and nothing behind them', async () => {
  const { pins, container, mediator } = await seated();
  mapFrames(container, 800, 8, 40);
  const frames = new Float64Array(4).fill(-7);
  pins.pinInto(at(801), 3, PROT_RW, frames);
  assert.deepEqual([...frames], [41, 42, 43, -7]);
  pins.pinAt((805n << 12n) + 0x18n, 1, PROT_RW, frames);
  assert.equal(frames[0], 45);
  pins.unpin(at(801), 3);
  pins.unpinAt((805n << 12n) + 0xfffn, 1);
  assert.equal(container.stats.pinnedPages, 0);
  await mediator.close();
});

test('a page pinned twice needs two unpins, in any order of handles and calls', async () => {
  const { pins, container, mediator } = await seated();
  const [one, two] = [pins.pin(at(5), 2, PROT_RW), pins.pin(at(6), 2, PROT_RW)];
  assert.deepEqual(
    [5, 6, 7].map((frame) => pins.count(at(frame))),
    [1, 2, 1],
  );
  one.unpin();
  one.unpin();
  assert.deepEqual([one.held, two.held, pins.count(at(6)), container.stats.pinnedPages], [false, true, 1, 2]);
  two[Symbol.dispose]();
  assert.deepEqual([pins.pages, container.stats.pinnedPages], [0, 0]);
  await mediator.close();
});

test('a page takes more references than fit into a byte', async () => {
  const { pins, container, mediator } = await seated();
  for (let n = 0; n < 600; n += 1) pins.pinInto(at(5), 1, PROT_RW, out);
  assert.equal(pins.count(at(5)), 600);
  for (let n = 600; n > 1; n -= 1) pins.unpin(at(5), 1);
  assert.deepEqual([pins.count(at(5)), pins.pages, container.stats.pinnedPages], [1, 1, 1]);
  pins.unpin(at(5), 1);
  assert.deepEqual([pins.count(at(5)), pins.pages, container.stats.pinnedPages], [0, 0, 0]);
  await mediator.close();
});

test('a driver that closes its own file from dmaUnmap is refused, and the file closes later', async () => {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 8);
  seat.device.context.pins.pin(at(1), 1, PROT_RW);
  const refused: unknown[] = [];
  seat.device.onDmaUnmap = async () => {
    await seat.file.close().catch((failure: unknown) => refused.push(failure));
    seat.device.context.pins.unpin(at(1), 1);
  };
  await unmapFrames(seat.container, 0, 8);
  assert.match(String(refused[0]), /^CORE_REENTRY \(EBUSY\)/);
  assert.equal(seat.file.closed, false);
  await seat.file.close();
  await world.mediator.close();
});

test('the journal of holdings is per device', async () => {
  const world = await startWorld();
  const one = await openMdev(world, 1);
  const two = await openMdev(world, 2, one.container);
  mapFrames(one.container, 0, 16);
  one.device.context.pins.pin(at(0), 3, PROT_RW);
  two.device.context.pins.pin(at(2), 2, PROT_RW);
  assert.deepEqual([...one.container.stats.pinsByDevice].sort(), [
    [one.mdev.uuid, 3],
    [two.mdev.uuid, 2],
  ]);
  assert.equal(one.container.stats.pinnedPages, 4);
  await unmapFrames(one.container, 0, 16);
  assert.equal(found(one.container.stats).pinsByDevice.size, 0);
  await world.mediator.close();
});

// What vfio_unpin_pages() warns about and ignores.

for (const count of [0, -1, 1.5, 513, 2 ** 40, Number.NaN, Number.POSITIVE_INFINITY]) {
  test(`unpin of ${count} pages is ignored and warned about`, async () => {
    const { pins, container, mediator } = await seated();
    const warnings: string[] = [];
    mediator.bus.on('backend:warned', ({ name, message }) => void warnings.push(`${name}: ${message}`));
    const handle = pins.pin(at(0), 2, PROT_RW);
    pins.unpin(at(0), count);
    pins.unpinAt(0n, count);
    assert.deepEqual([handle.held, container.stats.pinnedPages, warnings.length], [true, 2, 2]);
    assert.match(warnings[0] ?? '', /^bad-unpin: device .* is ignored: use 1 to 512 pages$/);
    handle.unpin();
    assert.equal(container.stats.pinnedPages, 0);
    await mediator.close();
  });
}

test('an unpin after close is ignored and warned about, whoever owns the page', async () => {
  const world = await startWorld({ backend: { policy: { foreignUnpin: 'performed', leftAtClose: 'kept' } } });
  const one = await openMdev(world, 1);
  const two = await openMdev(world, 2, one.container);
  mapFrames(one.container, 0, 4);
  two.device.context.pins.pin(at(1), 1, PROT_RW);
  const warnings: string[] = [];
  world.mediator.bus.on('backend:warned', ({ message }) => void warnings.push(message));
  await one.file.close();
  one.device.context.pins.unpin(at(1), 1);
  assert.equal(one.container.stats.pinnedPages, 1);
  assert.match(warnings.join(), /is ignored: it is not open/);
  await world.mediator.close();
});
