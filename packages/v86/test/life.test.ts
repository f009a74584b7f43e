import assert from 'node:assert/strict';
import test from 'node:test';
import { asIovaFrame, PROT_RW } from '@pinion/core';
import { MemoryStore } from '@pinion/example-nvme';
import { PciFunction } from '@pinion/vm';
import { held, NOTHING, type Pc, printed, startPc } from './pc.js';

const RAM_PAGES = (4 << 20) / 4096;
/** Pages of the guest's admin and I/O queues, and of what it writes at a time. */
const QUEUE_PAGES = 4;
const DATA_PAGES = 6;

const outcome = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (cause: unknown) => cause,
  );
const nameOf = (cause: unknown): string => (cause instanceof Error ? cause.name : String(cause));
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A disk whose writes take some turns of the event loop, and count. */
class SlowStore extends MemoryStore {
  writes = 0;

  override async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    this.writes += 1;
    for (let n = 0; n < 4; n += 1) await turn();
    super.write(offset, from);
  }
}

/** A guest that writes to its nvme without end, caught with a write in flight: data, both queues and a list of the disk are pinned. */
async function busyPc(t: Parameters<typeof startPc>[0]): Promise<{ pc: Pc; end: Promise<unknown> }> {
  const store = new SlowStore(1 << 20);
  const pc = await startPc(t, { commandLine: 'forever', kinds: { nvme: { store: () => store } } });
  const end = outcome(pc.vm.run());
  await printed(pc, 'nvme: writing');
  while (store.writes < 3 || held(pc.vm.vm).pins < QUEUE_PAGES + DATA_PAGES) await turn();
  return { pc, end };
}

test('a storm of interrupts: each is seen once', async (t) => {
  const pc = await startPc(t, { commandLine: 'storm=2000', plug: ['edu'] });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['edu: storm of 2000, 2000 seen']);
});

test('without bus mastering a device does no DMA', async (t) => {
  const pc = await startPc(t, { commandLine: 'masterless' });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['edu: refused']);
  assert.deepEqual(pc.warnings, ['edu: transfer refused: the function is no bus master']);
});

test('BARs over each other and over RAM', async (t) => {
  const pc = await startPc(t, { commandLine: 'overlap', plug: ['edu', 'nvme'] });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['overlap: done']);
});

test('wild accesses do no harm: to memory, ports and configuration that are not there, and over the ends of windows', async (t) => {
  const pc = await startPc(t, { commandLine: 'wild' });
  assert.deepEqual(await pc.vm.run(), { kind: 'exit', code: 0 });
  assert.deepEqual(pc.lines, ['wild: survived 1']);
  assert.deepEqual(pc.warnings, []);
});

test('the same run every time, to the last interrupt', async (t) => {
  const runs = [];
  for (let n = 0; n < 2; n += 1) {
    const pc = await startPc(t);
    await pc.vm.run();
    runs.push(pc.vm.serial.output);
    await pc.vm.stop();
  }
  assert.equal(runs[0], runs[1]);
});

test('a guest whose fault nobody handles ends with V86_CPU_FAULT; the VM can be stopped', async (t) => {
  const pc = await startPc(t, { commandLine: 'fault' });
  await assert.rejects(pc.vm.run(), { name: 'V86_CPU_FAULT', errno: 'EFAULT' });
  await pc.vm.stop();
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});

test('a guest that sleeps for ever has ended', async (t) => {
  const pc = await startPc(t, { commandLine: 'sleep' });
  assert.deepEqual(await pc.vm.run(), { kind: 'halt' });
});

test('a guest that spins lets others have their turn, and is stopped', async (t) => {
  const pc = await startPc(t, { commandLine: 'spin' });
  const end = outcome(pc.vm.run());
  for (let n = 0; n < 5; n += 1) await turn();
  await pc.vm.stop();
  assert.equal(nameOf(await end), 'VM_STOPPED');
  assert.deepEqual(held(pc.vm.vm), NOTHING);
});

test('a guest that is killed mid-DMA leaves nothing: no pin, no mapping, no locked page, no bytes', async (t) => {
  const { pc, end } = await busyPc(t);
  const { vm, host } = pc;
  const raw = vm.memory;
  assert.ok(raw.alive);
  await vm.kill();
  assert.equal(nameOf(await end), 'VM_KILLED');
  assert.deepEqual([held(vm.vm), host.memory.residentBytes, raw.alive], [NOTHING, 0, false]);
  await vm.done;
  await assert.rejects(vm.run(), { name: 'VM_KILLED' });
});

test('a view of pinned guest memory is live, and empty once the VM is gone', async (t) => {
  const pc = await startPc(t, { commandLine: 'spin' });
  const edu = pc.vm.vm.slots.find(({ config }) => config.name === 'edu')?.device;
  assert.ok(edu !== undefined);
  const pages = edu.pins.pin(asIovaFrame(0x200), 1, PROT_RW);
  const [view] = pages.views();
  pc.vm.vm.memory.write(0x20_0000n, Uint8Array.of(0xab));
  assert.deepEqual([view?.length, view?.[0]], [4096, 0xab]);
  pages.unpin();
  assert.throws(() => pages.views(), { name: 'CORE_PINS_RELEASED' });
  await pc.vm.stop();
  assert.equal(view?.length, 0);
});

test('memory is unmapped under a guest that writes to its disk: every pin comes back, the guest goes on without the disk', async (t) => {
  const { pc, end } = await busyPc(t);
  const { vm } = pc.vm;
  await vm.unmapMemory('ram');
  await vm.unmapMemory('ram-high');
  assert.equal(held(vm).pins, 0);
  for (let n = 0; n < 10; n += 1) await turn();
  assert.equal(held(vm).pins, 0);
  await pc.vm.kill();
  assert.equal(nameOf(await end), 'VM_KILLED');
  assert.deepEqual(held(vm), NOTHING);
});

test('hot unplug while the guest looks, and hot plug: it finds ones, then the function in its old slot, and drives it', async (t) => {
  const pc = await startPc(t, { commandLine: 'unplug' });
  const end = pc.vm.run();
  await printed(pc, 'nvme: waiting');
  assert.ok(held(pc.vm.vm).pins > 0, 'its queues are pinned');
  await pc.vm.vm.unplug('nvme');
  assert.equal(held(pc.vm.vm).pins, 0);
  await printed(pc, 'nvme: gone');
  await pc.vm.vm.plug('nvme');
  assert.deepEqual([await end, pc.vm.pci.slotOf('nvme')], [{ kind: 'exit', code: 0 }, 3]);
  assert.deepEqual(pc.lines, [
    'nvme: waiting to be unplugged',
    'nvme: gone',
    'nvme: back',
    'nvme: ok, 15 interrupts by the pin, 15 by messages',
  ]);
});

test('what is plugged is what the guest lists', async (t) => {
  const pc = await startPc(t, { commandLine: 'list', plug: ['nvme', 'gpio'] });
  await pc.vm.run();
  assert.deepEqual(pc.lines, ['slot 1: 11f51234 class 10802 line 11', 'slot 2: dc8494f class 118000 line 10']);
  assert.throws(() => pc.vm.vm.machine.pci('edu'), { name: 'VM_NO_FUNCTION' });
  assert.ok(pc.vm.vm.machine.pci('nvme') instanceof PciFunction);
});

test('a passthrough-like start: the container maps two regions around the display, all in the CPU', async (t) => {
  const pc = await startPc(t);
  assert.deepEqual(
    pc.vm.vm.memory.regions.map(({ name, at, size }) => [name, at, size]),
    [
      ['ram', 0n, 0xa_0000n],
      ['ram-high', 0xc_0000n, 0x34_0000n],
    ],
  );
  assert.equal(pc.vm.vm.accounting.mappedBytes, BigInt(RAM_PAGES - 32) * 4096n);
});
