import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EXTENSION, type IovaFrame } from '@pinion/core';
import { ADMIN, CC, CSTS, IO, MemoryStore, nvme, REGISTER, STATUS } from '@pinion/example-nvme';
import { createSoftwareIommu } from '@pinion/iommu';
import { COMMAND, PciSoftware, type RegionAccess } from '@pinion/pci';
import { type DriverSeat, describeVendorDriver } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { type GuestRam, LinuxDriver, type QueuePair } from './linux-driver.js';
import { GatedStore, RAM, RAM_SIZE, type Rig, withDisk } from './rig.js';

const MIB = 1 << 20;
/** A second mapping, for data alone. */
const DATA = 0x2000_0000n;
const DATA_SIZE = 0x4000n;

interface Gated extends Rig {
  readonly store: GatedStore;
  readonly disk: MemoryStore;
  readonly queue: QueuePair;
  readonly data: bigint;
}

/** A disk whose store waits at a gate, probed, with data pages in a mapping of their own. */
const withGate = (run: (rig: Gated) => Promise<void>): Promise<void> => {
  const disk = new MemoryStore(new Uint8Array(MIB).fill(0xd1));
  const store = new GatedStore(disk);
  return withDisk({ store: () => store }, async (rig) => {
    const data = rig.task.memory.mmap({ size: DATA_SIZE });
    rig.container.mapDma({ iova: DATA, size: DATA_SIZE, vaddr: data, prot: 3 });
    await run({ ...rig, store, disk, queue: rig.linux.probe(), data });
    store.open();
    await rig.settle();
  });
};
const readInto = (prp1: bigint, blocks = 8) => ({ opcode: IO.READ, namespace: 1, prp1, dwords: [0, 0, blocks - 1] });

describe('a mapping that goes away', () => {
  test('commands that touch it end first, with their bytes; nobody holds it afterwards', () =>
    withGate(async ({ queue, container, store, data, task, settle, mdev }) => {
      const id = queue.submit(readInto(DATA + 0x1000n));
      assert.equal(queue.poll(), undefined);
      let gone = false;
      const unmap = container.unmapDma({ iova: DATA, size: DATA_SIZE }).then(() => (gone = true));
      await settle();
      assert.deepEqual([gone, mdev.device.pins.count(Number((DATA + 0x1000n) >> 12n) as IovaFrame)], [false, 1]); // why: a frame of the data mapping
      store.open();
      await unmap;
      const answer = queue.poll();
      assert.deepEqual([answer?.id, answer?.status], [id, 0]);
      assert.equal(task.memory.peek(data + 0x1000n, 1)[0], 0xd1);
      assert.deepEqual(
        mdev.device.pins.within({
          first: Number(DATA >> 12n) as IovaFrame,
          last: Number((DATA + DATA_SIZE) >> 12n) as IovaFrame,
        }),
        [],
      ); // why: frames of the data mapping
    }));

  test('commands elsewhere are not waited for', () =>
    withGate(async ({ queue, linux, container, store, settle }) => {
      const page = linux.pages();
      queue.submit(readInto(page));
      await container.unmapDma({ iova: DATA, size: DATA_SIZE });
      assert.equal(store.waiting, 1);
      store.open();
      await settle();
      assert.equal(queue.poll()?.status, 0);
    }));

  test('doorbells meanwhile are answered afterwards, and find the mapping gone', () =>
    withGate(async ({ queue, container, store, settle }) => {
      queue.submit(readInto(DATA));
      const unmap = container.unmapDma({ iova: DATA, size: DATA_SIZE });
      await settle();
      queue.submit(readInto(DATA));
      assert.equal(store.waiting, 1, 'the second command waits');
      store.open();
      await unmap;
      await settle();
      assert.deepEqual([queue.poll()?.status, queue.poll()?.status], [0, STATUS.DATA_TRANSFER_ERROR]);
    }));

  test('queues let go of their memory and find it again when it comes back', () =>
    withGate(async ({ queue, linux, container, store, mapRam, settle, mdev }) => {
      const page = linux.pages();
      queue.submit(readInto(page));
      const unmap = container.unmapDma({ iova: RAM, size: RAM_SIZE });
      await settle();
      store.open();
      await unmap;
      assert.equal(mdev.device.pins.pages, 0);
      mapRam();
      assert.equal(queue.poll()?.status, 0, 'the completion was written before the memory went');
      queue.submit(readInto(page));
      store.open();
      await settle();
      assert.equal(queue.poll()?.status, 0);
      assert.equal(linux.register(REGISTER.CSTS), CSTS.RDY);
    }));

  test('queues whose memory is gone for good: fatal status, and a new start', () =>
    withGate(async ({ queue, linux, container, mapRam, warned, store }) => {
      await container.unmapDma({ iova: RAM, size: RAM_SIZE });
      queue.ring();
      linux.pci.write(0, REGISTER.DOORBELLS + 8, 5);
      assert.equal(linux.register(REGISTER.CSTS), CSTS.RDY | CSTS.CFS);
      assert.equal(warned.length, 1);
      linux.pci.write(0, REGISTER.DOORBELLS + 8, 6);
      assert.equal(warned.length, 1, 'said once');
      mapRam();
      const again = new LinuxDriver(linux.pci, linux.ram);
      const fresh = again.probe();
      fresh.submit(readInto(again.pages()));
      store.open();
      await new Promise(setImmediate);
      assert.equal(fresh.poll()?.status, 0);
    }));

  test('everything at once, also with event requests waiting', () =>
    withGate(async ({ queue, linux, container, store, settle, mdev }) => {
      linux.admin.submit({ opcode: ADMIN.ASYNC_EVENT });
      queue.submit(readInto(DATA));
      queue.submit(readInto(linux.pages()));
      const unmap = container.unmapAll();
      await settle();
      store.open();
      await unmap;
      assert.equal(mdev.device.pins.pages, 0);
    }));
});

describe('commands under way', () => {
  test('a controller that is disabled is ready to start when they ended; nobody hears of them', () =>
    withGate(async ({ queue, linux, store, settle, mdev, irqs }) => {
      const page = linux.pages();
      queue.submit(readInto(page));
      linux.pci.write(0, REGISTER.CC, 0);
      assert.equal(linux.register(REGISTER.CSTS), CSTS.RDY);
      assert.equal(mdev.device.pins.pages, 1, 'queues are gone, the command holds its page');
      irqs.length = 0;
      store.open();
      await settle();
      assert.deepEqual([linux.register(REGISTER.CSTS), queue.poll(), irqs], [0, undefined, []]);
    }));

  test('enabled again before they ended: it starts when they have', () =>
    withGate(async ({ queue, linux, store, settle }) => {
      queue.submit(readInto(linux.pages()));
      linux.pci.write(0, REGISTER.CC, 0);
      linux.pci.write(0, REGISTER.CC, CC.EN | (6 << 16) | (4 << 20));
      store.open();
      await settle();
      assert.equal(linux.register(REGISTER.CSTS), CSTS.RDY);
    }));

  test('a queue is deleted when its commands ended', () =>
    withGate(async ({ queue, linux, store, settle }) => {
      queue.submit(readInto(linux.pages()));
      const id = linux.admin.submit({ opcode: ADMIN.DELETE_SQ, dwords: [1] });
      assert.equal(linux.admin.poll(), undefined);
      store.open();
      await settle();
      assert.deepEqual([linux.admin.poll()?.id, queue.poll()], [id, undefined]);
      linux.good(linux.admin.run({ opcode: ADMIN.DELETE_CQ, dwords: [1] }));
    }));

  test('256 at most; the rest is fetched as they end', () =>
    withGate(async ({ linux, store, settle, mdev }) => {
      const queue = linux.createQueues(2, { entries: 512, vector: 0 });
      const page = linux.pages();
      for (let n = 0; n < 300; n += 1) queue.put(readInto(page, 1));
      queue.ring();
      await settle();
      assert.deepEqual([store.waiting, mdev.device.pins.count(Number(page >> 12n) as IovaFrame)], [256, 256]); // why: a frame of the guest's
      store.open();
      await settle();
      store.open();
      await settle();
      let answers = 0;
      while (queue.poll() !== undefined) answers += 1;
      assert.equal(answers, 300);
    }));

  test('the store is closed when the device is removed, after its last command', () => {
    const store = new GatedStore(new MemoryStore(MIB));
    return withDisk({ store: () => store }, async ({ linux, mdev, settle, file }) => {
      const queue = linux.probe();
      queue.submit(readInto(linux.pages()));
      const closing = file.close();
      await settle();
      assert.equal(store.closed, false);
      store.open();
      await closing;
      await mdev.remove();
      assert.equal(store.closed, true);
    });
  });
});

/** Guest memory of a seat of the suite, with the driver's own pages among its control pages. */
function bringUp(seat: DriverSeat): { linux: LinuxDriver; queue: QueuePair } {
  const access: RegionAccess = seat.file;
  const ram: GuestRam = { first: BigInt(seat.control.first) << 12n, write: seat.memory.write, read: seat.memory.read };
  const linux = new LinuxDriver(new PciSoftware(access), ram);
  linux.pci.enable(COMMAND.MEMORY | COMMAND.BUS_MASTER);
  linux.enableController();
  return { linux, queue: linux.createQueues(1, { vector: 0, entries: 16 }) };
}

describeVendorDriver({
  name: 'nvme',
  capabilities: new Set(['wide', 'io', 'reset', 'passthrough']),
  backend: () => type1(),
  iommuType: EXTENSION.TYPE1v2_IOMMU,
  passthrough: (memory) => createSoftwareIommu({ memory }).createGroup({ functions: ['pt'] }),
  start() {
    const disk = new MemoryStore(new Uint8Array(MIB).fill(0xd1));
    const stores: GatedStore[] = [];
    const drivers = new Map<DriverSeat, ReturnType<typeof bringUp>>();
    const driverOf = (seat: DriverSeat): ReturnType<typeof bringUp> => {
      const known = drivers.get(seat);
      if (known !== undefined && known.linux.register(REGISTER.CSTS) === CSTS.RDY) return known;
      const made = bringUp(seat);
      drivers.set(seat, made);
      return made;
    };
    /** Queues that live in the given pages hold them, one page each. */
    const hold = async (seat: DriverSeat, frames: readonly IovaFrame[], entries: number): Promise<void> => {
      const { linux } = driverOf(seat);
      for (const [index, frame] of frames.entries()) {
        const dwords = [((entries - 1) << 16) | (10 + index), 1];
        linux.good(linux.admin.run({ opcode: ADMIN.CREATE_CQ, prp1: BigInt(frame) << 12n, dwords }));
      }
      // why: the suite counts every pin, so the rings in the control pages let go; they are pinned anew when they are used
      if ('dmaUnmap' in seat.ops && typeof seat.ops.dmaUnmap === 'function') await seat.ops.dmaUnmap(seat.control);
    };
    return {
      plugin: nvme({
        store() {
          const store = new GatedStore(disk);
          stores.push(store);
          return store;
        },
      }),
      driver: 'nvme',
      type: 'disk',
      parent: () => 'slot',
      pinSomething: (seat, frames) => hold(seat, frames, 16),
      isIdle: (seat) => seat.mdev.device.pins.pages === 0 && stores[seat.index]?.waiting === 0,
      wide: { pages: 4, pin: (seat, first) => hold(seat, [first], 1024) },
      beginWrite(seat, frame) {
        const { queue } = driverOf(seat);
        queue.submit(readInto(BigInt(frame) << 12n));
        assert.equal(stores[seat.index]?.waiting, 1);
      },
      async finishIo() {
        for (const store of stores) store.open();
        await new Promise(setImmediate);
      },
    };
  },
});
