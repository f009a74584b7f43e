import assert from 'node:assert/strict';
import test from 'node:test';
import { asIovaFrame, PROT_RW } from '@pinion/core';
import { MemoryStore } from '@pinion/example-nvme';
import { PciFunction } from '@pinion/vm';
import { held, NOTHING, nameOf, outcome, type Pc, printed, startPc, turn } from './pc.js';

const RAM_PAGES = (4 << 20) / 4096;
/** Pages of the guest's admin and I/O queues, and of what it writes at a time. */
const QUEUE_PAGES = 4;
const DATA_PAGES = 6;

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

test('a guest that sleeps until an interrupt comes is ended with its VM, and with its host', async (t) => {
  for (const how of ['kill', 'close'] as const) {
    const pc = await startPc(t, { commandLine: 'wait' });
    const end = outcome(pc.vm.run());
    await printed(pc, 'wait: sleeping');
    if (how === 'kill') await pc.vm.vm.kill();
    else await pc.host.close();
    assert.equal(nameOf(await end), how === 'kill' ? 'VM_KILLED' : 'VM_STOPPED');
    assert.deepEqual(held(pc.vm.vm), NOTHING);
  }
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
