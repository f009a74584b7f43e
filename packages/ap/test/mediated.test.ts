import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ApDevice, type ApDriverOptions, ap } from '@pinion/ap';
import { createMediator, EXTENSION, PROT_RW } from '@pinion/core';
import { FakeClock, SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { enable, FakeGuest, MACHINE, Q47, Q48 } from './machine-room.js';

const UUID = '00000000-0000-4000-8000-000000000001';
/** The guest's memory: 16 pages at address 0, in two mappings of 8. */
const HALF = 0x8000n;

/** An ap device in a container with the real core, type1 and a simulated process's memory. */
async function start(options: Partial<ApDriverOptions> = {}) {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const clock = new FakeClock();
  const driver = ap({ ...MACHINE, matrix: { adapters: [5], domains: [0x47, 0x48] }, ...options });
  const mediator = await createMediator({ memory: os.host, clock, plugins: [type1(), driver] });
  const leaks: string[] = [];
  const mdev = await mediator.registerParent('matrix', 'ap').create('passthrough', UUID);
  const device = mdev.device.ops;
  assert.ok(device instanceof ApDevice);
  const guest = new FakeGuest();
  device.setGuest(guest);
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(UUID);
  const vaddr = task.memory.mmap({ size: 2n * HALF });
  for (const iova of [0n, HALF]) container.mapDma({ iova, size: HALF, vaddr: vaddr + iova, prot: PROT_RW });
  mediator.bus.on('pages:foreign-unpinned', ({ frame }) => leaks.push(`foreign ${frame}`));
  const byteAt = (at: bigint): number | undefined => task.memory.peek(vaddr + at, 1)[0];
  const locked = (): number => task.memory.lockedPages;
  const end = async (): Promise<void> => {
    await mediator.close();
    await task.exit();
  };
  return { os, clock, device, guest, container, file, byteAt, locked, leaks, end };
}

describe('through a mediator and type1', () => {
  test('a reply sets the byte in the memory of the process, and one page is pinned and locked', async () => {
    const { os, clock, device, guest, container, byteAt, locked, leaks, end } = await start();
    enable(device, Q47, { isc: 3, nib: 0x3042n });
    assert.deepEqual([container.stats.pinnedPages, locked()], [1, 1]);
    device.nqap(Q47, 1n, new Uint8Array(1));
    clock.advance(0);
    assert.deepEqual([guest.interrupts, byteAt(0x3042n)], [[3], 1]);
    await end();
    assert.deepEqual(Object.values(os.leaks()), [0, 0, 0, 0, 0, 0]);
    assert.deepEqual(leaks, []);
  });

  for (const [where, nib] of [
    ['first', 0x8000n],
    ['middle', 0xb123n],
    ['last', 0xffffn],
  ] as const) {
    test(`unmap of a mapping with the byte in its ${where} page`, async () => {
      const { os, clock, device, guest, container, locked, leaks, end } = await start();
      enable(device, Q47, { isc: 3, nib });
      enable(device, Q48, { isc: 3, nib: 0x7fffn });
      assert.deepEqual(await container.unmapDma({ iova: HALF, size: HALF }), { size: HALF });
      assert.deepEqual(
        device.interrupts.map(({ apqn }) => apqn),
        [Q48],
      );
      assert.deepEqual([container.stats.pinnedPages, locked()], [1, 1]);
      device.nqap(Q47, 1n, new Uint8Array(1));
      clock.advance(0);
      assert.deepEqual(guest.interrupts, []);
      await end();
      assert.deepEqual(Object.values(os.leaks()), [0, 0, 0, 0, 0, 0]);
      assert.deepEqual(leaks, []);
    });
  }

  test('close of the device gives everything back', async () => {
    const { os, device, container, file, locked, end } = await start();
    enable(device, Q47, { isc: 3, nib: 0x3000n });
    enable(device, Q48, { isc: 3, nib: 0x3008n });
    await file.close();
    assert.deepEqual([container.stats.pinnedPages, locked()], [0, 0]);
    await end();
    assert.deepEqual(Object.values(os.leaks()), [0, 0, 0, 0, 0, 0]);
  });

  test('the quirk blind-unpin keeps its page: the container names driver, device and frame', async () => {
    const { device, container, end } = await start({ quirks: ['blind-unpin'] });
    enable(device, Q47, { isc: 3, nib: 0xb123n });
    await assert.rejects(container.unmapDma({ iova: HALF, size: HALF }), { name: /PIN_LEAK/, message: /ap.*0xb/s });
    assert.equal(container.stats.mappings, 2);
    await end();
  });
});
