import assert from 'node:assert/strict';
import { asIovaFrame, type DeviceOps, type FrameRange, frameRange, type IovaFrame, LAST_FRAME } from '@pinion/core';
import { A, B, C, type DriverSeat, MIDDLE_A, MIDDLE_B, type VendorBench, vendorCase } from './vendor-harness.js';

const NOT_TOUCHED = frameRange(asIovaFrame(0x20_0000), 16);

/** Asserts that the device holds these pages, so that a case cannot pass by never pinning. */
function assertHolds(seat: DriverSeat, frames: readonly IovaFrame[]): void {
  const missing = frames.filter((frame) => seat.mdev.device.pins.count(frame) === 0);
  assert.deepEqual(missing, [], 'the harness made the device pin these pages');
}

async function pin(bench: VendorBench, seat: DriverSeat, ...frames: readonly IovaFrame[]): Promise<void> {
  await bench.rig.pinSomething(seat, frames);
  assertHolds(seat, frames);
}

/** Calls the duty itself, as a second round would. */
async function callDuty(bench: VendorBench, ops: DeviceOps, range: FrameRange): Promise<void> {
  assert.ok('dmaUnmap' in ops && typeof ops.dmaUnmap === 'function', 'a driver that pins has the duty');
  await bench.withIo(Promise.resolve(ops.dmaUnmap(range)));
}

const places: readonly (readonly [where: string, frame: IovaFrame])[] = [
  ['first', A.first],
  ['middle', MIDDLE_A],
  ['last', A.last],
];

/** `dmaUnmap`: the range is the contract. */
export const unmapCases = [
  ...places.map(([where, frame]) =>
    vendorCase(`gives back a pin in the ${where} page of a larger mapping`, [], async (bench) => {
      const seat = await bench.open();
      await pin(bench, seat, frame);
      await bench.unmap(A);
      assert.deepEqual(bench.held(seat, A), []);
    }),
  ),

  vendorCase('gives back pins all over a mapping', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, A.first, MIDDLE_A, A.last);
    await bench.unmap(A);
    assert.deepEqual(bench.held(seat, A), []);
  }),

  vendorCase('gives back pins in two mappings that go in one unmap', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, MIDDLE_A, MIDDLE_B);
    await bench.unmap({ first: A.first, last: B.last });
    assert.equal(seat.mdev.device.pins.pages, 0);
  }),

  vendorCase('of two mappings only one goes: nothing is held there, and the other can go later', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, MIDDLE_A, MIDDLE_B);
    await bench.unmap(B);
    assert.deepEqual(bench.held(seat, B), []);
    await bench.unmap(A);
    assert.equal(seat.mdev.device.pins.pages, 0);
  }),

  vendorCase('a mapping that it never touched goes: its pins and its work stay', [], async (bench) => {
    const seat = await bench.open();
    const neighbour = await bench.world.openProbe();
    await pin(bench, seat, MIDDLE_A);
    const before = bench.held(seat, A);
    neighbour.probe.hold(C.first, 4);
    assert.deepEqual(await bench.world.unmap(C.first, 16), { size: 16n * 4096n });
    assert.deepEqual(bench.held(seat, A), before);
    assert.equal(bench.rig.isIdle(seat), false);
  }),

  vendorCase('of two devices only the one with pins in the range loses them', [], async (bench) => {
    const [one, two] = [await bench.open(), await bench.open()];
    await pin(bench, one, MIDDLE_A);
    await pin(bench, two, MIDDLE_B);
    const before = bench.held(two, B);
    await bench.unmap(A);
    assert.deepEqual([bench.held(one, A), bench.held(two, B)], [[], before]);
    assert.equal(bench.rig.isIdle(two), false);
  }),

  vendorCase('devices that share pages each give back their own pins, and nobody else’s', [], async (bench) => {
    const neighbour = await bench.world.openProbe();
    const [one, two] = [await bench.open(), await bench.open()];
    for (const frame of [A.first, MIDDLE_A]) neighbour.probe.hold(frame);
    await pin(bench, one, A.first, MIDDLE_A);
    await pin(bench, two, A.first, MIDDLE_A);
    const left: unknown[] = [];
    neighbour.probe.duty = (range) => {
      left.push(bench.held(one, A), bench.held(two, A));
      neighbour.probe.releaseWithin(range);
    };
    await bench.unmap(A);
    assert.deepEqual(left, [[], []], 'the newer devices were called before and kept nothing');
    const elsewhere = new Set(bench.seats.flatMap((seat) => bench.held(seat, B)));
    assert.equal(bench.world.container.stats.pinnedPages, elsewhere.size);
    assert.deepEqual(bench.world.foreign, []);
  }),

  vendorCase('another device’s pin in the first page of the range is left alone', [], async (bench) => {
    const neighbour = await bench.world.openProbe();
    await bench.open();
    neighbour.probe.hold(A.first);
    await bench.unmap(A);
    assert.deepEqual(bench.world.foreign, []);
  }),

  vendorCase('gives back a pin that begins below the range', ['wide'], async (bench) => {
    const seat = await bench.open();
    const wide = wideOf(bench);
    await wide.pin(seat, asIovaFrame(B.first - wide.pages / 2));
    assertHolds(seat, [asIovaFrame(B.first - 1), B.first]);
    await bench.unmap(B);
    assert.deepEqual(bench.held(seat, B), []);
    await bench.unmap(A);
  }),

  vendorCase('gives back a pin that ends behind the range', ['wide'], async (bench) => {
    const seat = await bench.open();
    const wide = wideOf(bench);
    await wide.pin(seat, asIovaFrame(B.first - wide.pages / 2));
    assertHolds(seat, [asIovaFrame(B.first - 1), B.first]);
    await bench.unmap(A);
    assert.deepEqual(bench.held(seat, A), []);
    await bench.unmap(B);
  }),

  vendorCase('a second call for the same range does nothing', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, MIDDLE_A);
    for (let call = 0; call < 2; call += 1) {
      await callDuty(bench, seat.ops, A);
      assert.deepEqual(bench.held(seat, A), []);
    }
    await bench.unmap(A);
  }),

  vendorCase('a call for a range that nobody mapped does nothing', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, MIDDLE_A);
    await callDuty(bench, seat.ops, NOT_TOUCHED);
    await callDuty(bench, seat.ops, { first: asIovaFrame(LAST_FRAME), last: asIovaFrame(LAST_FRAME) });
    assertHolds(seat, [MIDDLE_A]);
  }),

  vendorCase('a call for the whole address space gives back everything', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, A.first, MIDDLE_B);
    await callDuty(bench, seat.ops, { first: asIovaFrame(0), last: asIovaFrame(LAST_FRAME) });
    assert.equal(seat.mdev.device.pins.pages, 0);
  }),

  vendorCase('a call before open and one after close do nothing', [], async (bench) => {
    const early: Promise<void>[] = [];
    const seat = await bench.open((mdev) => void early.push(callDuty(bench, mdev.device.ops, A)));
    await Promise.all(early);
    await pin(bench, seat, MIDDLE_A);
    await bench.withIo(seat.file.close());
    await callDuty(bench, seat.ops, A);
    assert.equal(seat.mdev.device.pins.pages, 0);
  }),

  vendorCase('two unmaps at once', [], async (bench) => {
    const seat = await bench.open();
    await pin(bench, seat, MIDDLE_A, MIDDLE_B);
    const size = 512n * 4096n;
    const both = Promise.all([bench.world.unmap(A.first, 512), bench.world.unmap(B.first, 512)]);
    assert.deepEqual(await bench.withIo(both), [{ size }, { size }]);
    assert.equal(seat.mdev.device.pins.pages, 0);
  }),
];

function wideOf(bench: VendorBench): NonNullable<VendorBench['rig']['wide']> {
  const { wide } = bench.rig;
  assert.ok(wide !== undefined, 'the harness declares wide pins');
  return wide;
}
