import assert from 'node:assert/strict';
import test from 'node:test';
import { DISK, DISK_STATUS, decodePng, EventQueue, encodePng, GuestHeap, PassthroughDisk } from '@pinion/vm';
import fc from 'fast-check';
import { held, POOL, SUBCHANNEL, startSmallVm, TurnClock } from './small-vm.js';

const ORB = 0x1000n;
const IRB = 0x2000n;
const SCHIB = 0x3000n;
const CCW = 0x4000;
const FORMAT1 = 0x00c2_ff00;

const words = (...values: number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value);
  return new Uint8Array(view.buffer);
};

test('channel instructions answer the condition codes of a subchannel that is not there, not enabled, idle and pending', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['dasd'] });
  const { channels, memory } = vm.machine;
  assert.deepEqual(channels.subchannels, [SUBCHANNEL]);
  for (const answer of [
    channels.ssch(7, ORB),
    channels.tsch(7, IRB),
    channels.stsch(7, SCHIB),
    channels.msch(7, SCHIB),
    channels.hsch(7),
    channels.csch(7),
  ]) {
    assert.equal(answer, 3);
  }
  assert.deepEqual(
    [channels.ssch(SUBCHANNEL, ORB), channels.tsch(SUBCHANNEL, IRB), channels.csch(SUBCHANNEL)],
    [3, 3, 3],
  );
  assert.equal(channels.stsch(SUBCHANNEL, SCHIB), 0);
  assert.deepEqual([...memory.read(SCHIB + 4n, 4)], [0x00, 0x01, 0x00, 0x01]);
  memory.write(SCHIB, words(0x1234, 0x0081_0001));
  assert.equal(channels.msch(SUBCHANNEL, SCHIB), 0);
  assert.equal(channels.tsch(SUBCHANNEL, IRB), 1);
  memory.write(BigInt(CCW), words(0x0320_0001, 0)); // no operation
  memory.write(ORB, words(0xabcd, FORMAT1, CCW));
  assert.equal(channels.ssch(SUBCHANNEL, ORB), 0);
  assert.equal(await channels.interrupt(SUBCHANNEL), 0xabcd);
  assert.deepEqual([channels.ssch(SUBCHANNEL, ORB), channels.msch(SUBCHANNEL, SCHIB)], [1, 1]);
  assert.equal(channels.stsch(SUBCHANNEL, SCHIB), 0);
  assert.equal(memory.read(SCHIB + 28n + 8n, 1)[0], 0x0c);
  assert.equal(channels.tsch(SUBCHANNEL, IRB), 0);
  assert.deepEqual([...memory.read(IRB + 8n, 2)], [0x0c, 0]);
  assert.equal(channels.tsch(SUBCHANNEL, IRB), 1);
});

test('a start that the host cannot do ends with a unit exception; a busy one answers 2, a clear ends it', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['dasd'] });
  const { channels, memory } = vm.machine;
  memory.write(SCHIB, words(0, 0x0081_0001));
  channels.msch(SUBCHANNEL, SCHIB);
  memory.write(ORB, words(1, FORMAT1, 0x7000_0000)); // CCWs where no memory is
  assert.equal(channels.ssch(SUBCHANNEL, ORB), 0);
  await channels.interrupt(SUBCHANNEL);
  channels.tsch(SUBCHANNEL, IRB);
  assert.deepEqual([...memory.read(IRB + 3n, 1), ...memory.read(IRB + 8n, 1)], [0x17, 0x01]);
  memory.write(BigInt(CCW), words(0xe420_0008, 0x5000)); // sense ID
  memory.write(ORB, words(2, FORMAT1, CCW));
  assert.equal(channels.ssch(SUBCHANNEL, ORB), 0);
  assert.equal(channels.ssch(SUBCHANNEL, ORB), 2);
  assert.equal(channels.csch(SUBCHANNEL), 0);
  await channels.interrupt(SUBCHANNEL);
  channels.tsch(SUBCHANNEL, IRB);
  assert.equal((memory.read(IRB + 2n, 1)[0] ?? 0) & 0x10, 0x10); // the clear function
  assert.deepEqual(held(vm).owners, {});
});

test("instructions that name memory which is not there are the program's fault, not the device's", async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['dasd', 'crypto'] });
  const { channels, crypto, memory } = vm.machine;
  memory.write(SCHIB, words(0, 0x0081_0001));
  channels.msch(SUBCHANNEL, SCHIB);
  const fault = { name: 'VM_NO_MEMORY_AT', errno: 'EFAULT' };
  assert.throws(() => channels.ssch(SUBCHANNEL, 0x7000_0000n), fault);
  assert.throws(() => channels.stsch(SUBCHANNEL, 0x7000_0000n), fault);
  assert.throws(() => crypto.nqap(0x547, { psmid: 1n, at: 0x7000_0000n, length: 8 }), fault);
});

test('two devices cannot have one subchannel', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['dasd'] });
  const file = await vm.slots[2]?.device.group.file?.openDevice(vm.slots[2].device.name);
  assert.ok(file);
  assert.throws(() => vm.machine.channels.connect({ number: SUBCHANNEL, device: 2 }, file), {
    name: 'VM_SUBCHANNEL_TAKEN',
    errno: 'EEXIST',
  });
  await file.close();
});

test('a guest without a matrix has no AP instructions that do anything', async (t) => {
  const { vm } = await startSmallVm(t, { plug: [] });
  const { crypto } = vm.machine;
  assert.equal(crypto.pqap(0n, 0n, 0n), undefined);
  assert.equal(crypto.nqap(0, { psmid: 0n, at: POOL, length: 1 }), undefined);
  assert.equal(crypto.dqap(0, { at: POOL, length: 1 }), undefined);
});

test('DQAP gives a long reply in pieces', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['crypto'] });
  const { crypto, memory } = vm.machine;
  assert.equal(crypto.dqap(0x547, { at: POOL, length: 8 })?.status.code, 0x10);
  memory.write(POOL, Uint8Array.of(0, 0x50));
  assert.equal(crypto.nqap(0x547, { psmid: 9n, at: POOL, length: 2 })?.cc, 0);
  let first = crypto.dqap(0x547, { at: POOL, length: 5 });
  while (first?.status.code === 0x10) {
    await new Promise((resolve) => setImmediate(resolve));
    first = crypto.dqap(0x547, { at: POOL, length: 5 });
  }
  assert.deepEqual([first?.cc, first?.psmid, first?.length, first?.remaining], [0, 9n, 5, 3]);
  assert.deepEqual([...memory.read(POOL, 5)], [0, 0x82, 0, 0, 0x40]);
});

test('registers of the passthrough disk: what is read-only stays, a bad command is told, a busy disk ignores', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['disk'] });
  const pci = vm.machine.pci('disk');
  assert.equal(pci.read32(0, DISK.CAPACITY), 0xffff_ffff, 'memory decoding is off');
  pci.write32(7, 4, 2);
  const capacity = pci.read32(0, DISK.CAPACITY);
  pci.write32(0, DISK.CAPACITY, 1);
  pci.write32(0, DISK.STATUS, 9);
  pci.write(0, DISK.COUNT, Uint8Array.of(1));
  assert.deepEqual(
    [pci.read32(0, DISK.CAPACITY), pci.read32(0, DISK.STATUS), pci.read32(0, DISK.COUNT)],
    [capacity, 0, 0],
  );
  pci.write32(0, DISK.INTERRUPT_ENABLE, 1);
  for (const [count, direction] of [
    [0, 0],
    [32_769, 0],
    [1, 2],
  ] as const) {
    pci.write32(0, DISK.COUNT, count);
    pci.write32(0, DISK.DIRECTION, direction);
    pci.write32(0, DISK.DOORBELL, 1);
    await pci.interrupt();
    assert.equal(pci.read32(0, DISK.STATUS), DISK_STATUS.BAD_COMMAND);
  }
  pci.write32(0, DISK.DIRECTION, 0);
  pci.write32(0, DISK.DOORBELL, 1);
  pci.write32(0, DISK.COUNT, 77);
  pci.write32(0, DISK.DOORBELL, 1);
  assert.equal(pci.read32(0, DISK.COUNT), 1);
  await pci.interrupt();
  // The bus master bit is off: the transfer did not reach memory.
  assert.equal(pci.read32(0, DISK.STATUS), DISK_STATUS.DMA_FAULT);
});

test('a reset of the passthrough disk ends its transfer without an interrupt', async (t) => {
  const { vm } = await startSmallVm(t, { plug: ['disk'] });
  const slot = vm.slots[0];
  const ops = slot?.device.ops;
  assert.ok(ops instanceof PassthroughDisk);
  const pci = vm.machine.pci('disk');
  pci.write32(7, 4, 6);
  pci.write32(0, DISK.INTERRUPT_ENABLE, 1);
  pci.write32(0, DISK.COUNT, 256);
  pci.write64(0, DISK.IOVA, POOL);
  pci.write32(0, DISK.DOORBELL, 1);
  assert.equal(ops.busy, true);
  await slot?.device.reset();
  assert.deepEqual(
    [ops.busy, pci.read32(0, DISK.STATUS), pci.read32(0, DISK.INTERRUPT), pci.read32(0, DISK.COUNT)],
    [false, 0, 0, 0],
  );
  assert.deepEqual(vm.memory.read(POOL + 512n, 4), new Uint8Array(4));
});

test('a receiver of interrupts that throws is logged; the disk goes on', async (t) => {
  const warnings: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
  const { vm } = await startSmallVm(t, { plug: ['disk'], host: { clock: new TurnClock(), log } });
  const slot = vm.slots[0];
  const pci = vm.machine.pci('disk');
  slot?.device.ops.setIrqSink?.(() => {
    throw new RangeError('no');
  });
  pci.write32(7, 4, 2);
  pci.write32(0, DISK.INTERRUPT_ENABLE, 1);
  pci.write32(0, DISK.DOORBELL, 1);
  while (pci.read32(0, DISK.INTERRUPT) === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, ['disk: the receiver of its interrupt failed']);
});

test('events come in order, wait for who asks, and end for all', async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  queue.push(2);
  assert.equal(queue.size, 2);
  assert.equal(await queue.next(), 1);
  queue.clear();
  const waits = [queue.next(), queue.next()];
  queue.push(3);
  assert.equal(await waits[0], 3);
  const end = new TypeError('over');
  queue.end(end);
  queue.end(new TypeError('again'));
  queue.push(4);
  await assert.rejects(waits[1] ?? Promise.resolve(), end);
  await assert.rejects(queue.next(), end);
});

test('the heap of a guest never hands out the same byte twice, and is whole again when all is freed', () => {
  const step = fc.oneof(
    fc.record({ size: fc.integer({ min: 1, max: 9000 }), align: fc.constantFrom(1, 8, 64, 4096) }),
    fc.record({ free: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const heap = new GuestHeap(0x1234n, 0x1_0000n);
      const blocks: { at: bigint; size: bigint }[] = [];
      for (const each of steps) {
        if ('free' in each) {
          for (const { at } of blocks.splice(each.free % (blocks.length + 1), 1)) heap.free(at);
          continue;
        }
        try {
          const at = heap.allocate(each.size, each.align);
          assert.equal(at % BigInt(each.align), 0n);
          assert.ok(at >= 0x1234n && at + BigInt(each.size) <= 0x1_1234n);
          assert.ok(blocks.every((other) => at + BigInt(each.size) <= other.at || other.at + other.size <= at));
          blocks.push({ at, size: BigInt(each.size) });
        } catch (cause) {
          assert.equal(cause instanceof Error && cause.name, 'VM_GUEST_MEMORY_FULL');
        }
        assert.equal(
          heap.used,
          blocks.reduce((sum, { size }) => sum + size, 0n),
        );
      }
      for (const { at } of blocks) heap.free(at);
      assert.equal(heap.allocate(0x1_0000, 1), 0x1234n);
    }),
    { numRuns: 200 },
  );
});

test('a picture survives the PNG; what is no picture is refused', () => {
  const pixels = Uint8Array.from({ length: 3 * 2 * 4 }, (_, index) => (index % 4 === 3 ? 255 : index * 9));
  assert.deepEqual(decodePng(encodePng({ width: 3, height: 2, pixels })), { width: 3, height: 2, pixels });
  const refused = { name: 'VM_BAD_PICTURE', errno: 'EINVAL' };
  assert.throws(() => encodePng({ width: 3, height: 3, pixels }), refused);
  assert.throws(() => encodePng({ width: 0, height: 0, pixels: new Uint8Array(0) }), refused);
  assert.throws(() => decodePng(Uint8Array.of(1, 2, 3)), refused);
});
