import assert from 'node:assert/strict';
import test from 'node:test';
import { GvtDevice, miBatchBufferStart, miStoreDword } from '@pinion/gvt';
import { type EmbeddedVm, GpuDriver, type GpuQueue, type Rect, type SpaceBuffer, xyColorBlt } from '@pinion/vm';
import fc from 'fast-check';
import { held, NOTHING, startSmallVm } from './small-vm.js';

const WIDTH = 64;
const PITCH = WIDTH * 4;
const BYTES = PITCH * 64;
const WHOLE: Rect = { x1: 0, y1: 0, x2: WIDTH, y2: 64 };

const fill = ({ address }: { address: number }, color: number, rect: Rect = WHOLE): number[] =>
  xyColorBlt({ target: { address, pitch: PITCH }, rect, color });
const pixel = (vm: EmbeddedVm, { at }: { at: bigint }, x = 0, y = 0): number =>
  new DataView(vm.memory.read(at + BigInt(y * PITCH + x * 4), 4).buffer).getUint32(0, true);

async function start(t: Parameters<typeof startSmallVm>[0]) {
  const started = await startSmallVm(t, { plug: ['vgpu'] });
  const { vm, heap } = started;
  const device = vm.slots.find(({ config }) => config.name === 'vgpu')?.device.ops;
  assert.ok(device instanceof GvtDevice);
  const gpu = GpuDriver.start(vm.machine, heap, { slot: 'vgpu' });
  return { ...started, device, gpu };
}

test('a fill through execlists; the tables, contexts and buffers all go back', async (t) => {
  const { vm, heap, gpu, device } = await start(t);
  const before = heap.used;
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  await queue.run([fill(buffer, 0xff336699)]);
  assert.deepEqual([pixel(vm, buffer), pixel(vm, buffer, 63, 63)], [0xff336699, 0xff336699]);
  assert.ok(device.ppgtt.stats.tables >= 4, 'the address space is shadowed');
  queue.release();
  assert.equal(heap.used, before);
  assert.equal(device.ppgtt.stats.tables, 0);
  gpu.stop();
  assert.equal(heap.used, 0n);
  assert.deepEqual(held(vm).owners, {});
});

test('queues work side by side, each in its own address space; jobs of one queue keep their order', async (t) => {
  const { vm, gpu } = await start(t);
  const queues = Array.from({ length: 5 }, () => gpu.createQueue());
  const buffers = queues.map((queue) => queue.space.allocate(BYTES));
  assert.equal(new Set(buffers.map(({ address }) => address)).size, 1, 'the same address in all of them');
  await Promise.all(
    queues.flatMap((queue, index) =>
      [1, 2, 3].map((turn) => queue.run([fill(buffers[index] as SpaceBuffer, index * 16 + turn)])),
    ),
  );
  assert.deepEqual(
    buffers.map((buffer) => pixel(vm, buffer)),
    [0x03, 0x13, 0x23, 0x33, 0x43],
  );
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('many batches wrap the ring and the status buffer', async (t) => {
  const { vm, gpu } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  for (let round = 1; round <= 700; round += 1) await queue.run([fill(buffer, round, { ...WHOLE, x2: 1, y2: 1 })]);
  assert.equal(pixel(vm, buffer), 700);
  await queue.run(Array.from({ length: 5000 }, (_, index) => fill(buffer, index, { x1: 1, y1: 0, x2: 2, y2: 1 })));
  assert.equal(pixel(vm, buffer, 1), 4999, 'more commands than one batch holds');
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('an address that leads elsewhere: the next batch draws there, the page before is given back', async (t) => {
  const { vm, heap, gpu, device } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  await queue.run([fill(buffer, 1)]);
  const pins = device.stats.cachePages;
  const other = heap.allocate(BYTES);
  queue.space.remap(buffer, other);
  await queue.run([fill(buffer, 2)]);
  assert.deepEqual([pixel(vm, buffer), pixel(vm, { at: other })], [1, 2]);
  assert.equal(device.stats.cachePages, pins, 'as many pages as before');
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('an address that leads nowhere is a fault, not a crash; the screen and other queues go on', async (t) => {
  const { vm, gpu, device } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  await queue.run([fill({ address: 0x7fff_0000_0000 }, 1), fill(buffer, 2)]);
  assert.equal(pixel(vm, buffer), 2);
  assert.ok(device.stats.faults > 0);
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

/** A batch that jumps to its own beginning. */
async function runEndless(queue: GpuQueue): Promise<unknown> {
  const [start = 0, ...rest] = miBatchBufferStart(0x1_2345_6000);
  return queue.run([[start | (1 << 8), ...rest]]).then(
    () => undefined,
    (reason: unknown) => reason,
  );
}

test('a batch that never ends is ended: the job fails, the engine is reset, the queue works again', async (t) => {
  const { vm, gpu } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  const failure = await runEndless(queue);
  assert.ok(failure instanceof Error && failure.name === 'VM_GPU_HUNG', String(failure));
  await queue.run([fill(buffer, 7)]);
  assert.equal(pixel(vm, buffer), 7);
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('asleep, reset, awake: address spaces are still shadowed, and drawing goes on', async (t) => {
  const { vm, gpu, device } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(BYTES);
  await queue.run([fill(buffer, 1)]);
  const { tables } = device.ppgtt.stats;
  gpu.suspend();
  await vm.reset('vgpu');
  assert.equal(device.ppgtt.stats.tables, tables, 'kept while asleep');
  gpu.resume();
  await queue.run([fill(buffer, 2)]);
  assert.equal(pixel(vm, buffer), 2);
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('a reset of a device that is awake drops everything', async (t) => {
  const { vm, gpu, device } = await start(t);
  const queue = gpu.createQueue();
  await queue.run([fill(queue.space.allocate(BYTES), 1)]);
  await vm.reset('vgpu');
  assert.deepEqual([device.ppgtt.stats.tables, device.stats.cachePages], [0, 0]);
  assert.deepEqual(held(vm).owners, {});
  await assert.rejects(vm.reset('nothing'), { name: 'VM_NO_DEVICE' });
});

for (const end of ['kill', 'unplug'] as const)
  test(`${end} in the middle of drawing: the job fails, nothing stays pinned`, async (t) => {
    const { vm, gpu } = await start(t);
    const queue = gpu.createQueue();
    const buffer = queue.space.allocate(BYTES);
    const drawing = queue.run(Array.from({ length: 20_000 }, (_, index) => fill(buffer, index)));
    const outcome = drawing.then(
      () => 'done',
      (reason: unknown) => (reason instanceof Error ? reason.name : 'thrown'),
    );
    await new Promise((resolve) => setImmediate(resolve));
    await (end === 'kill' ? vm.kill() : vm.unplug('vgpu'));
    assert.match(await outcome, /^VM_/);
    assert.deepEqual(end === 'kill' ? held(vm) : held(vm).owners, end === 'kill' ? NOTHING : {});
  });

test('a vGPU that is a plain function, or has too many queues', async (t) => {
  const { vm, heap, gpu } = await start(t);
  assert.throws(() => GpuDriver.start(vm.machine, heap, { slot: 'nothing' }), { name: 'VM_NO_FUNCTION' });
  const queues: GpuQueue[] = [];
  assert.throws(
    () => {
      for (;;) queues.push(gpu.createQueue());
    },
    { errno: /ENOMEM|ENOSPC/ },
  );
  for (const queue of queues) queue.release();
  gpu.stop();
  assert.deepEqual([heap.used, held(vm).owners], [0n, {}]);
});

test('a batch may write a dword anywhere in its own space, not in the guest’s global memory', async (t) => {
  const { vm, gpu } = await start(t);
  const queue = gpu.createQueue();
  const buffer = queue.space.allocate(4096);
  const [store = 0, ...rest] = miStoreDword(buffer.address, 0xabcd);
  await queue.run([[store & ~(1 << 22), ...rest]]);
  assert.equal(pixel(vm, buffer), 0xabcd);
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});

test('whatever is drawn in whatever order by two queues, it is what a program would have drawn', async (t) => {
  const { vm, gpu } = await start(t);
  const queues = [gpu.createQueue(), gpu.createQueue()] as const;
  const buffers = [queues[0].space.allocate(BYTES), queues[1].space.allocate(BYTES)] as const;
  const edge = fc.integer({ min: 0, max: WIDTH });
  const step = fc.record({
    which: fc.constantFrom(0 as const, 1 as const),
    x1: edge,
    y1: edge,
    x2: edge,
    y2: edge,
    color: fc.integer({ min: 1, max: 0xffffff }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const expected = [new Uint32Array(WIDTH * 64), new Uint32Array(WIDTH * 64)] as const;
      for (const which of [0, 1] as const) await queues[which].run([fill(buffers[which], 0)]);
      await Promise.all(
        steps.map(({ which, color, ...rect }) => {
          for (let y = rect.y1; y < rect.y2; y += 1)
            expected[which].fill(color, y * WIDTH + rect.x1, y * WIDTH + Math.max(rect.x1, rect.x2));
          return queues[which].run([fill(buffers[which], color, rect)]);
        }),
      );
      for (const which of [0, 1] as const)
        assert.deepEqual(Buffer.from(vm.memory.read(buffers[which].at, BYTES)), Buffer.from(expected[which].buffer));
    }),
    { numRuns: 25 },
  );
  gpu.stop();
  assert.deepEqual(held(vm).owners, {});
});
