import assert from 'node:assert/strict';
import type { IovaFrame } from '@pinion/core';
import {
  A,
  addressOf,
  C,
  type DriverSeat,
  MIDDLE_A,
  MIDDLE_B,
  type VendorBench,
  vendorCase,
} from './vendor-harness.js';

const PAGE = 4096;
const PATTERN = new Uint8Array(PAGE).fill(0x33);

async function beginWrite(bench: VendorBench, seat: DriverSeat, frame: IovaFrame): Promise<void> {
  assert.ok(bench.rig.beginWrite !== undefined, 'the harness declares I/O');
  seat.memory.write(addressOf(frame), PATTERN);
  await bench.rig.beginWrite(seat, frame);
  assert.deepEqual(seat.memory.read(addressOf(frame), PAGE), PATTERN, 'the harness stopped before the write');
}

/** Guest memory while the device writes to it. */
export const ioCases = [
  vendorCase('after an unmap that met I/O in flight nobody writes to the page', ['io'], async (bench) => {
    const seat = await bench.open();
    await beginWrite(bench, seat, MIDDLE_A);
    const page = bench.page(MIDDLE_A);
    await bench.unmap(A);
    assert.deepEqual(bench.held(seat, A), []);
    bench.world.task.memory.poke(page, PATTERN);
    await bench.finishIo();
    assert.deepEqual(bench.world.task.memory.peek(page, PAGE).slice(), PATTERN);
  }),

  vendorCase('I/O elsewhere goes on while a range goes that it does not touch', ['io'], async (bench) => {
    const seat = await bench.open();
    const neighbour = await bench.world.openProbe();
    await beginWrite(bench, seat, MIDDLE_B);
    neighbour.probe.hold(C.first);
    assert.deepEqual(await bench.world.unmap(C.first, 16), { size: 16n * 4096n });
    await bench.finishIo();
    assert.notDeepEqual(seat.memory.read(addressOf(MIDDLE_B), PAGE), PATTERN, 'the I/O was done');
  }),

  vendorCase('after an unmap the same addresses work again, with the new memory', ['io'], async (bench) => {
    const seat = await bench.open();
    await bench.rig.pinSomething(seat, [MIDDLE_A]);
    const old = bench.page(MIDDLE_A);
    await bench.unmap(A);
    bench.map(A);
    bench.world.task.memory.poke(old, PATTERN);
    await beginWrite(bench, seat, MIDDLE_A);
    await bench.finishIo();
    assert.notDeepEqual(seat.memory.read(addressOf(MIDDLE_A), PAGE), PATTERN, 'the new page was written');
    assert.deepEqual(bench.world.task.memory.peek(old, PAGE).slice(), PATTERN, 'the old one was not');
  }),

  vendorCase(
    'a close that meets I/O in flight gives everything back, and nobody writes afterwards',
    ['io'],
    async (bench) => {
      const seat = await bench.open();
      await beginWrite(bench, seat, MIDDLE_A);
      await bench.withIo(seat.file.close());
      assert.equal(seat.mdev.device.pins.pages, 0);
      seat.memory.write(addressOf(MIDDLE_A), PATTERN);
      await bench.finishIo();
      assert.deepEqual(seat.memory.read(addressOf(MIDDLE_A), PAGE), PATTERN);
    },
  ),

  vendorCase('a reset that meets I/O in flight gives everything back', ['io', 'reset'], async (bench) => {
    const seat = await bench.open();
    await beginWrite(bench, seat, MIDDLE_A);
    const held = bench.held(seat, A);
    await bench.withIo(seat.file.reset());
    assert.deepEqual(bench.held(seat, A), bench.pinned ? held : []);
    assert.equal(bench.rig.isIdle(seat), true);
  }),

  vendorCase('the process is killed in the middle of I/O: nothing is left', ['io'], async (bench) => {
    const seat = await bench.open();
    await beginWrite(bench, seat, MIDDLE_A);
    await bench.world.task.exit();
    await bench.withIo(bench.world.mediator.close());
    await bench.finishIo();
    assert.equal(bench.world.os.host.pinnedPages, 0);
  }),
];
