import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CcwDevice,
  type CcwDriverOptions,
  type ControlUnit,
  ccw,
  commandOrb,
  encodeOrb,
  FbaDisk,
  ORB,
} from '@pinion/ccw';
import { createMediator, EXTENSION, PROT_READ, PROT_RW } from '@pinion/core';
import { FakeClock, SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';
import { GatedImage, patternDisk, patternImage, ScriptedUnit } from './fake-disk.js';

const MIB = 1n << 20n;
const UUID = '00000000-0000-4000-8000-000000000001';
const hexBytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/[\s|]/g, ''), 'hex'));

/** A guest of 1 MiB at iova 0, with one subchannel, on the real mediator and backend. */
async function start(unit: ControlUnit, options: Partial<CcwDriverOptions> = {}) {
  const os = new SimulatedOs();
  const task = os.spawn({ name: 'vmm' });
  const plugins = [type1(), ccw({ units: { '0.0.1234': unit }, ...options })];
  const mediator = await createMediator({ memory: os.host, clock: new FakeClock(), plugins });
  const mdev = await mediator.registerParent('0.0.1234', 'ccw').create('io', UUID);
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const vaddr = task.memory.mmap({ size: MIB });
  container.mapDma({ iova: 0n, size: MIB, vaddr, prot: PROT_RW });
  const file = await group.openDevice(UUID);
  const device = mdev.device.ops;
  assert.ok(device instanceof CcwDevice);
  const poke = (iova: number, hex: string): void => task.memory.poke(vaddr + BigInt(iova), hexBytes(hex));
  const peek = (iova: number, length: number): Uint8Array => task.memory.peek(vaddr + BigInt(iova), length);
  const end = async (): Promise<void> => {
    await mediator.close();
    await task.exit();
    const nothing = { tasks: 0, openFiles: 0, grabs: 0, lockedPages: 0, pinnedPages: 0, livePages: 0 };
    assert.deepEqual(os.leaks(), nothing);
  };
  return { os, task, vaddr, container, group, file, device, poke, peek, end };
}

/** A read of 8 blocks from block 0 to 0x10000, for a program at 0. */
const READ_8 = '63 40 0010 00002000 | 43 40 0008 00002010 | 42 00 1000 00010000';
const PARAMETERS = '40 00 0200 00000000 00000000 00000007 | 06 00 0008 00000000';
const orbRegion = (extra = 0): Uint8Array => {
  const bytes = new Uint8Array(124);
  bytes.set(encodeOrb(commandOrb(0, extra)));
  bytes[14] = 0x40;
  return bytes;
};

test('a program through region, mediator and type1: pages are pinned and locked while it runs', async () => {
  const world = await start(patternDisk(16));
  world.poke(0, READ_8);
  world.poke(0x2000, PARAMETERS);
  world.file.writeRegion(0, 0, orbRegion());
  assert.deepEqual([world.container.stats.pinnedPages, world.task.memory.lockedPages], [2, 2]);
  await world.device.whenIdle();
  assert.deepEqual([world.container.stats.pinnedPages, world.task.memory.lockedPages], [0, 0]);
  assert.deepEqual(world.peek(0x10000, 4096), patternImage(16).bytes.slice(0, 4096));
  await world.end();
});

test('unmapping under a running program waits for the disk; the rest of the guest works on', async () => {
  const image = new GatedImage(new Uint8Array(512 * 16).fill(7));
  const world = await start(new FbaDisk(image));
  world.poke(0, READ_8);
  world.poke(0x2000, PARAMETERS);
  world.device.start(commandOrb(0));
  await image.began;
  const unmapping = world.container.unmapDma({ iova: 0n, size: MIB });
  image.release();
  assert.deepEqual(await unmapping, { size: MIB });
  assert.deepEqual(
    [world.device.state, world.container.stats.mappings, world.container.stats.pinnedPages],
    ['idle', 0, 0],
  );
  assert.throws(() => world.device.start(commandOrb(0)), { errno: 'EINVAL' });
  await world.end();
});

test('with the quirk first-iova-only the mediator finds the leak and names the device; without it there is none', async () => {
  for (const quirks of [['first-iova-only'], []]) {
    const world = await start(new ScriptedUnit(), { quirks });
    world.poke(0, '02 22 0020 00042000');
    world.device.start(commandOrb(0, ORB.SUSPEND));
    const unmapping = world.container.unmapDma({ iova: 0n, size: MIB });
    if (quirks.length === 0) assert.deepEqual(await unmapping, { size: MIB });
    else await assert.rejects(unmapping, { name: 'TYPE1_PIN_LEAK', errno: 'EBUSY', message: new RegExp(UUID) });
    await world.end();
  }
});

test('the guest is killed mid-I/O: its process is gone first, then its files close, and nothing is left', async () => {
  const image = new GatedImage(new Uint8Array(512 * 16).fill(7));
  const world = await start(new FbaDisk(image));
  world.poke(0, READ_8);
  world.poke(0x2000, PARAMETERS);
  world.device.start(commandOrb(0));
  await image.began;
  await world.task.exit();
  const closing = world.file.close();
  image.release();
  await closing;
  assert.equal(world.container.stats.pinnedPages, 0);
  world.group.close();
  world.container.close();
  assert.equal(world.os.leaks().pinnedPages, 0);
  assert.equal(world.os.leaks().grabs, 0);
});

test('data in a read-only mapping cannot be pinned: EPERM, also for a write to the disk, as in Linux', async () => {
  const world = await start(patternDisk(16));
  world.container.mapDma({ iova: MIB, size: 4096n, vaddr: world.vaddr, prot: PROT_READ });
  for (const command of ['42', '41']) {
    world.poke(0, `02 40 0001 00010000 | ${command} 00 0020 00100000`);
    assert.throws(() => world.device.start(commandOrb(0)), { errno: 'EPERM' });
  }
  assert.equal(world.container.stats.pinnedPages, 0);
  await world.end();
});
