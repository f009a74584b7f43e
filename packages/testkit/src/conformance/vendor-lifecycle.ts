import assert from 'node:assert/strict';
import { A, MIDDLE_A, MIDDLE_B, type VendorBench, vendorCase } from './vendor-harness.js';

const pages = (bench: VendorBench): number => bench.world.container.stats.pinnedPages;

/** What the host and the process have pinned and locked, passthrough included. */
const hostUse = ({ world }: VendorBench): readonly number[] => [world.os.host.pinnedPages, world.locked];

/** Open, close, reset, remove and the end, with pins held. */
export const vendorLifecycleCases = [
  vendorCase('declares the duty, and pins nothing by being opened', [], async (bench) => {
    const seat = await bench.open();
    assert.equal(seat.mdev.device.hasDmaUnmap, true);
    assert.deepEqual([seat.mdev.device.pins.pages, bench.rig.isIdle(seat)], [0, true]);
  }),

  vendorCase('close gives everything back', [], async (bench) => {
    const seat = await bench.open();
    const before = hostUse(bench);
    await bench.rig.pinSomething(seat, [A.first, MIDDLE_A, MIDDLE_B]);
    await bench.withIo(seat.file.close());
    assert.deepEqual([pages(bench), hostUse(bench)], [0, before]);
  }),

  vendorCase('reset gives everything back, and the device works again', ['reset'], async (bench) => {
    const seat = await bench.open();
    await bench.rig.pinSomething(seat, [MIDDLE_A, MIDDLE_B]);
    const held = pages(bench);
    await bench.withIo(seat.file.reset());
    assert.deepEqual([pages(bench), bench.rig.isIdle(seat)], [bench.pinned ? held : 0, true]);
    await bench.rig.pinSomething(seat, [MIDDLE_A]);
    assert.ok(pages(bench) > 0);
  }),

  vendorCase('opened again after close it works, and begins with nothing', [], async (bench) => {
    const seat = await bench.open();
    await bench.rig.pinSomething(seat, [MIDDLE_A]);
    await bench.withIo(seat.file.close());
    assert.equal(pages(bench), 0);
    const file = await seat.group.openDevice(seat.mdev.uuid);
    const again = { ...seat, file };
    assert.equal(bench.rig.isIdle(again), true);
    if (!bench.pinned) assert.equal(pages(bench), 0);
    await bench.rig.pinSomething(again, [MIDDLE_B]);
    assert.ok(pages(bench) > 0);
    await bench.withIo(file.close());
    assert.equal(pages(bench), 0);
  }),

  vendorCase('removed while open: it is closed first, and its instance is free again', [], async (bench) => {
    const seat = await bench.open();
    const parent = seat.mdev.parent;
    const left = parent.availableInstances(bench.rig.type);
    await bench.rig.pinSomething(seat, [MIDDLE_A]);
    const removal = seat.mdev.remove();
    await bench.withIo(seat.file.close());
    await removal;
    assert.deepEqual([pages(bench), parent.availableInstances(bench.rig.type)], [0, left + 1]);
  }),

  vendorCase('the mediator ends with pins held: nothing is left', [], async (bench) => {
    const [one, two] = [await bench.open(), await bench.open()];
    await bench.rig.pinSomething(one, [MIDDLE_A]);
    await bench.rig.pinSomething(two, [MIDDLE_A, MIDDLE_B]);
    await bench.withIo(bench.world.mediator.close());
    assert.equal(bench.world.os.host.pinnedPages, 0);
  }),

  vendorCase('the process is killed with pins held: nothing is left', [], async (bench) => {
    const seat = await bench.open();
    await bench.rig.pinSomething(seat, [MIDDLE_A, MIDDLE_B]);
    await bench.world.task.exit();
    await bench.withIo(bench.world.mediator.close());
    assert.equal(bench.world.os.host.pinnedPages, 0);
  }),

  vendorCase('beside passthrough: pins cost nothing, an unmap gives all back', ['passthrough'], async (bench) => {
    const { unplug } = await bench.world.plug();
    const seat = await bench.open();
    const mapped = bench.world.locked;
    await bench.rig.pinSomething(seat, [A.first, MIDDLE_A]);
    assert.equal(bench.world.locked, mapped);
    await bench.unmap(A);
    assert.deepEqual([bench.held(seat, A), bench.world.locked], [[], mapped - 512]);
    await unplug();
  }),

  vendorCase(
    'passthrough comes and goes while pins are held, then an unmap gives all back',
    ['passthrough'],
    async (bench) => {
      const seat = await bench.open();
      await bench.rig.pinSomething(seat, [MIDDLE_A]);
      const before = bench.world.locked;
      const { unplug } = await bench.world.plug();
      await unplug();
      assert.equal(bench.world.locked, before);
      await bench.unmap(A);
      assert.deepEqual(bench.held(seat, A), []);
    },
  ),

  vendorCase('hot-unplugged and re-plugged beside passthrough it works again', ['passthrough'], async (bench) => {
    await bench.world.plug();
    const seat = await bench.open();
    await bench.rig.pinSomething(seat, [MIDDLE_A]);
    await bench.withIo(seat.file.close());
    seat.group.unsetContainer();
    seat.group.setContainer(bench.world.container);
    const file = await seat.group.openDevice(seat.mdev.uuid);
    await bench.rig.pinSomething({ ...seat, file }, [MIDDLE_B]);
    assert.ok(pages(bench) > 0);
    await bench.withIo(file.close());
    assert.equal(pages(bench), 0);
  }),
];
