import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROT_RW } from '@pinion/core';
import type { FakeDevice } from './fake-device.js';
import { at, backendOf, mapFrames, openMdev, startWorld, type World } from './world.js';

const LIMIT = 30_000;
const failure = new RangeError('ring is wedged');
const never = (): Promise<void> => new Promise(() => {});

/** The ways to break a duty, and what the caller hears. */
const breakages: readonly (readonly [what: string, duty: () => void | Promise<void>, timesOut: boolean])[] = [
  [
    'throws',
    () => {
      throw failure;
    },
    false,
  ],
  ['rejects', () => Promise.reject(failure), false],
  ['never settles', never, true],
];

function failuresOf(world: World): unknown[][] {
  const failures: unknown[][] = [];
  world.mediator.bus.on('driver:failed', ({ device, driver, duty }) => void failures.push([device, driver, duty]));
  return failures;
}

/** Settles when `action` rejected, after the watchdog had its time. */
async function rejection(world: World, action: Promise<unknown>): Promise<unknown> {
  const outcome = action.then(
    () => 'it succeeded',
    (thrown: unknown) => thrown,
  );
  await world.clock.advance(LIMIT);
  return outcome;
}

async function seated() {
  const world = await startWorld();
  const seat = await openMdev(world, 1);
  mapFrames(seat.container, 0, 16);
  return { world, ...seat, failures: failuresOf(world) };
}

/** The mediator still serves others, and this device too once it behaves. */
async function assertUsable(world: World): Promise<void> {
  const seat = await openMdev(world, 99);
  mapFrames(seat.container, 0, 4);
  seat.device.context.pins.pin(at(0), 4, PROT_RW);
  assert.equal((await seat.container.unmapAll()).size, 4n * 4096n);
  await seat.file.close();
  seat.group.close();
}

const behaveAgain = (device: FakeDevice): void => {
  device.onOpen = device.onReset = () => {};
  device.onClose = () => device.unpinAll();
  device.onDmaUnmap = (range) => device.unpinWithin(range);
};

for (const [what, duty, timesOut] of breakages) {
  test(`open that ${what}: the device stays closed`, async () => {
    const { world, device, mdev, group, file, failures } = await seated();
    await file.close();
    device.onOpen = duty;
    const thrown = await rejection(world, group.openDevice(mdev.uuid));
    if (timesOut)
      assert.match(String(thrown), /CORE_CALLBACK_TIMEOUT \(ETIMEDOUT\): open of device .* \(driver fakedrv\)/);
    else assert.equal(thrown, failure);
    assert.deepEqual(failures, [[mdev.uuid, 'fakedrv', 'open']]);
    assert.deepEqual([mdev.device.openCount, backendOf(world).devices.length], [0, 0]);
    behaveAgain(device);
    await (await group.openDevice(mdev.uuid)).close();
    await assertUsable(world);
    await world.mediator.close();
  });

  test(`close that ${what}: the device is closed and its pins are released all the same`, async () => {
    const { world, device, mdev, file, failures, container } = await seated();
    device.context.pins.pin(at(1), 2, PROT_RW);
    device.onClose = duty;
    const thrown = await rejection(world, file.close());
    if (timesOut)
      assert.match(String(thrown), /CORE_CALLBACK_TIMEOUT \(ETIMEDOUT\): close of device .* \(driver fakedrv\)/);
    else assert.equal(thrown, failure);
    assert.deepEqual(failures, [[mdev.uuid, 'fakedrv', 'close']]);
    assert.deepEqual([mdev.device.openCount, container.stats.pinnedPages], [0, 0]);
    await assertUsable(world);
    await world.mediator.close();
  });

  test(`reset that ${what}: the caller hears of it, the device stays open`, async () => {
    const { world, device, mdev, file, failures } = await seated();
    device.onReset = duty;
    const thrown = await rejection(world, file.reset());
    if (timesOut) assert.match(String(thrown), /CORE_CALLBACK_TIMEOUT/);
    else assert.equal(thrown, failure);
    assert.deepEqual([failures, mdev.device.openCount], [[[mdev.uuid, 'fakedrv', 'reset']], 1]);
    behaveAgain(device);
    await file.reset();
    await file.close();
    await world.mediator.close();
  });

  test(`dmaUnmap that ${what}: the driver is named, the mapping stays, a later unmap succeeds`, async () => {
    const { world, device, mdev, failures, container } = await seated();
    const handle = device.context.pins.pin(at(1), 2, PROT_RW);
    device.onDmaUnmap = duty;
    const thrown = await rejection(world, container.unmapAll());
    const error = timesOut ? 'CORE_CALLBACK_TIMEOUT (ETIMEDOUT)' : 'CORE_CALLBACK_FAILED (EIO)';
    assert.ok(String(thrown).startsWith(`${error}: dmaUnmap of device ${mdev.uuid} (driver fakedrv)`), String(thrown));
    assert.deepEqual(failures, [[mdev.uuid, 'fakedrv', 'dmaUnmap']]);
    assert.deepEqual([container.stats.mappings, handle.held], [1, true]);
    behaveAgain(device);
    assert.equal((await container.unmapAll()).size, 16n * 4096n);
    await assertUsable(world);
    await world.mediator.close();
  });
}

// Re-entry from inside dmaUnmap.

const reentries: readonly (readonly [
  what: string,
  call: (seat: Awaited<ReturnType<typeof seated>>) => unknown,
  operation: RegExp,
])[] = [
  ['map', ({ container }) => mapFrames(container, 64, 1), /^CORE_REENTRY \(EBUSY\): map was called/],
  ['unmap', ({ container }) => container.unmapAll(), /^CORE_REENTRY \(EBUSY\): unmap was called/],
  ['open', ({ group, mdev }) => group.openDevice(mdev.uuid), /^CORE_REENTRY \(EBUSY\): open of device/],
  ['close', ({ mdev }) => mdev.device.close(), /^CORE_REENTRY \(EBUSY\): close of device/],
  ['reset', ({ file }) => file.reset(), /^CORE_REENTRY \(EBUSY\): reset of device/],
  ['remove', ({ mdev }) => mdev.remove(), /^CORE_REENTRY \(EBUSY\): removal of device/],
];
for (const [what, call, operation] of reentries) {
  for (const when of ['at once', 'after an await'] as const) {
    test(`${what} from inside dmaUnmap, ${when}, is refused by name and the unmap goes on`, async () => {
      const seat = await seated();
      const refusals: string[] = [];
      seat.device.onDmaUnmap = async (range) => {
        if (when === 'after an await') await Promise.resolve();
        try {
          await call(seat);
        } catch (refusal) {
          refusals.push(String(refusal));
        }
        seat.device.unpinWithin(range);
      };
      seat.device.context.pins.pin(at(1), 1, PROT_RW);
      assert.equal((await seat.container.unmapAll()).size, 16n * 4096n);
      assert.equal(refusals.length, 1);
      assert.match(refusals[0] ?? '', operation);
      assert.match(refusals[0] ?? '', /inside dmaUnmap of device .* \(driver fakedrv\)/);
      assert.deepEqual([seat.container.stats.mappings, seat.mdev.device.openCount], [0, 1]);
      await seat.world.mediator.close();
    });
  }
}

test('a refusal that the driver does not catch fails its duty and names it', async () => {
  const { world, device, container, mdev } = await seated();
  device.context.pins.pin(at(1), 1, PROT_RW);
  device.onDmaUnmap = async () => void (await container.unmapAll());
  await assert.rejects(container.unmapAll(), {
    name: 'CORE_CALLBACK_FAILED',
    errno: 'EIO',
    message: new RegExp(`dmaUnmap of device ${mdev.uuid} \\(driver fakedrv\\) failed: CORE_REENTRY`),
  });
  behaveAgain(device);
  await container.unmapAll();
  await world.mediator.close();
});

test('somebody else may map while a dmaUnmap runs', async () => {
  const { world, device, container } = await seated();
  let finish = (): void => {};
  device.context.pins.pin(at(1), 1, PROT_RW);
  device.onDmaUnmap = (range) =>
    new Promise((resolve) => {
      finish = () => {
        device.unpinWithin(range);
        resolve();
      };
    });
  const unmapped = container.unmapAll();
  await world.clock.advance(0);
  mapFrames(container, 64, 1);
  finish();
  await unmapped;
  assert.equal(container.stats.mappings, 1);
  await world.mediator.close();
});

test('a second close while the first runs waits for it and finds the device closed', async () => {
  const { world, mdev, file } = await seated();
  const outcomes = await Promise.allSettled([file.close(), mdev.device.close()]);
  assert.deepEqual(
    outcomes.map((outcome) => outcome.status),
    ['fulfilled', 'rejected'],
  );
  assert.equal(world.journal.filter((entry) => entry === `${mdev.uuid}.close`).length, 1);
  await world.mediator.close();
});
