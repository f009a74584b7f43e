import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Errno, EXTENSION, PROT_READ, PROT_WRITE } from '@pinion/core';
import { frame, pages, World } from './world.js';

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251);

/** Frames: 0-1 rw, 2-3 r, 4-5 w, 6-7 rw over a hole in memory, 8 on nothing; the last page of all rw. */
async function start(options: Parameters<typeof World.start>[0] = {}) {
  const world = await World.start(options);
  const vaddr = world.map(0n, 2);
  world.map(0x2000n, 2, { prot: PROT_READ });
  world.map(0x4000n, 2, { prot: PROT_WRITE });
  const holed = world.map(0x6000n, 2);
  world.task.memory.munmap(holed + pages(1), pages(1));
  const last = world.map((1n << 64n) - pages(1), 1);
  return { world, vaddr, last };
}

type Wrong = readonly [what: string, iova: bigint, length: number, write: boolean, name: string, errno: Errno];
const WRONG: readonly Wrong[] = [
  ['nothing there', 0x8000n, 1, false, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['negative', -1n, 1, false, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['past 2^64', 1n << 64n, 1, false, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['over 2^64', (1n << 64n) - 1n, 2, false, 'TYPE1_NOT_MAPPED', 'EINVAL'],
  ['write, mapped r', 0x2000n, 1, true, 'TYPE1_PROT', 'EPERM'],
  ['read, mapped w', 0x4000n, 1, false, 'TYPE1_PROT', 'EPERM'],
  ['write, mapped w: reading must be allowed too', 0x4000n, 1, true, 'TYPE1_PROT', 'EPERM'],
  ['from r into w', 0x3fffn, 2, false, 'TYPE1_PROT', 'EPERM'],
  ['no memory behind', 0x7000n, 1, false, 'TYPE1_RW_FAULT', 'EFAULT'],
  ['the second page has none', 0x6ffcn, 8, false, 'TYPE1_RW_FAULT', 'EFAULT'],
];

describe('dma_rw', () => {
  test('what is refused', async () => {
    const { world } = await start();
    for (const [, iova, length, write, name, errno] of WRONG) {
      world.refuses(name, errno, () => world.container.dmaRw(iova, new Uint8Array(length), write));
    }
    const { dma } = world.seat('A').device;
    world.refuses('CORE_BAD_COUNT', 'EINVAL', () => dma.read(0n, new Uint8Array(0)));
    await world.close('A');
    world.refuses('CORE_NOT_OPEN', 'EINVAL', () => dma.read(0n, new Uint8Array(1)));
    await world.end();
  });

  test('bytes go both ways, over mappings and up to the last byte of all, without a pin', async () => {
    const { world, vaddr, last } = await start();
    world.container.dmaRw(0x7fen, bytes(0x1100), true);
    assert.deepEqual(world.task.memory.peek(vaddr + 0x7fen, 0x1100), bytes(0x1100));
    const back = new Uint8Array(0x1100);
    world.container.dmaRw(0x7fen, back, false);
    assert.deepEqual(back, bytes(0x1100));
    world.container.dmaRw(0x1ff0n, new Uint8Array(32), false);
    world.container.dmaRw((1n << 64n) - 4n, bytes(4), true);
    assert.deepEqual(world.task.memory.peek(last + 4092n, 4), bytes(4));
    assert.equal(world.os.host.pinnedPages, 0);
    await world.end();
  });

  test('type1 (v1) has it too', async () => {
    const { world, vaddr } = await start({ type: EXTENSION.TYPE1_IOMMU });
    world.container.dmaRw(0n, bytes(8), true);
    assert.deepEqual(world.task.memory.peek(vaddr, 8), bytes(8));
    await world.end();
  });

  test('not atomic: what came before a refusal stays written', async () => {
    const { world, vaddr } = await start();
    assert.throws(() => world.container.dmaRw(0x1ffcn, bytes(8), true), { name: 'TYPE1_PROT' });
    assert.deepEqual(world.task.memory.peek(vaddr + 0x1ffcn, 4), bytes(4));
    await world.end();
  });

  test('a task may use only what it mapped itself; a driver’s worker any; nobody what is gone', async () => {
    const { world } = await start();
    const child = world.task.fork('child');
    const copy = (caller?: typeof child): void => world.container.dmaRw(0n, new Uint8Array(4), false, caller);
    copy(world.task);
    copy();
    world.refuses('TYPE1_RW_NOT_MAPPER', 'EFAULT', () => copy(child));
    await child.exit();
    world.task.exec();
    world.refuses('TYPE1_RW_OWNER_GONE', 'EPERM', () => copy());
    world.refuses('TYPE1_PROT', 'EPERM', () => world.container.dmaRw(0x4000n, new Uint8Array(1), false));
    await world.end();
  });

  test('it sees the memory of now, a pin the memory of then', async () => {
    const { world, vaddr } = await start();
    world.task.memory.poke(vaddr, Uint8Array.of(1));
    const pin = world.seat('A').device.pins.pin(frame(0), 1, PROT_READ);
    world.task.memory.madviseDontneed(vaddr, pages(1));
    world.task.memory.poke(vaddr, Uint8Array.of(2));
    const now = new Uint8Array(1);
    world.container.dmaRw(0n, now, false);
    assert.deepEqual([pin.read(0, 1)[0], now[0]], [1, 2]);
    pin.unpin();
    await world.end();
  });

  test('device memory can be copied though it cannot be pinned', async () => {
    const world = await World.start();
    const bar = world.os.bar(1, (_offset, page) => page.fill(9));
    world.map(0n, 1, { vaddr: world.task.memory.mmap({ size: pages(1), object: bar }) });
    const seen = new Uint8Array(2);
    world.container.dmaRw(0x10n, seen, false);
    assert.deepEqual([...seen], [9, 9]);
    world.refuses('TYPE1_DEVICE_PAGE', 'EINVAL', () => world.pin('A', 0));
    await world.end();
  });
});
