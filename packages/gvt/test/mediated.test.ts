import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, createMediator, EXTENSION, PROT_READ, PROT_RW } from '@pinion/core';
import { BCS, GTT_OFFSET, GvtDevice, type GvtOptions, gvt, REGION, SIZE_2M, xyColorBlt } from '@pinion/gvt';
import { FakeClock, SimulatedOs } from '@pinion/testkit';
import { type1 } from '@pinion/type1';

const UUID = '00000000-0000-4000-8000-000000000001';
const PAGE = 4096;
/** Guest memory: two mappings of 16 pages from address 0; the ring is in the first, the screen in the second. */
const HALF = 16n * 4096n;
const SCREEN = 16;
const COLOR = 0x00c0ffee;

/** A vGPU in a container with the real core, type1 and a simulated process's memory. */
async function start(options: GvtOptions & { readonly prot?: number; readonly lockPages?: number } = {}) {
  const os = new SimulatedOs();
  const { lockPages = Number.POSITIVE_INFINITY } = options;
  const task = os.spawn({ name: 'vmm', ipcLock: false, lockBytes: lockPages * PAGE });
  const clock = new FakeClock();
  const mediator = await createMediator({ memory: os.host, clock, plugins: [type1(), gvt(options)] });
  const foreign: number[] = [];
  mediator.bus.on('pages:foreign-unpinned', ({ frame }) => foreign.push(frame));
  const mdev = await mediator.registerParent('0000:00:02.0', 'gvt').create('V5_4', UUID);
  const device = mdev.device.ops;
  assert.ok(device instanceof GvtDevice);
  const container = mediator.openContainer(task);
  const group = mdev.group.open(task);
  group.setContainer(container);
  container.setIommu(EXTENSION.TYPE1v2_IOMMU);
  const file = await group.openDevice(UUID);
  const vaddr = task.memory.mmap({ size: 2n * HALF });
  const prot = options.prot ?? PROT_RW;
  for (const iova of [0n, HALF]) container.mapDma({ iova, size: HALF, vaddr: vaddr + iova, prot });
  const words = (region: number, offset: number, dwords: readonly number[]) =>
    file.writeRegion(region, offset, new Uint8Array(Uint32Array.from(dwords).buffer));
  const { base } = device.resources.low;
  /** Graphics page n is guest page n. */
  const mapAll = () => {
    for (let page = 0; page < 32; page++)
      words(REGION.BAR0, GTT_OFFSET + (base / PAGE + page) * 8, [(page << 12) | 3, 0]);
  };
  const draw = (pages = 16) => {
    const target = { address: base + SCREEN * PAGE, pitch: PAGE };
    const blit = xyColorBlt({ target, rect: { x1: 0, y1: 0, x2: 1024, y2: pages }, color: COLOR });
    words(REGION.BAR2, base, [...blit, 0]);
    for (const [register, value] of [
      [BCS.START, base],
      [BCS.CTL, 1],
      [BCS.TAIL, 32],
    ] as const)
      words(REGION.BAR0, register, [value]);
  };
  const pixel = (page: number) =>
    new DataView(task.memory.peek(vaddr + BigInt((SCREEN + page) * PAGE), 4).slice().buffer).getUint32(0, true);
  const end = async () => {
    await mediator.close();
    if (task.mm !== null) await task.exit();
    assert.deepEqual(Object.values(os.leaks()), [0, 0, 0, 0, 0, 0]);
    assert.deepEqual(foreign, []);
  };
  return { task, clock, mediator, device, container, file, mapAll, draw, pixel, end };
}

describe('through a mediator and type1', () => {
  test('a blit lands in the memory of the process; table entries are pins and locked pages', async () => {
    const { task, clock, device, container, mapAll, draw, pixel, end } = await start();
    mapAll();
    assert.deepEqual([container.stats.pinnedPages, task.memory.lockedPages, device.stats.cacheEntries], [32, 32, 32]);
    draw();
    clock.advance(0);
    assert.deepEqual([pixel(0), pixel(15), device.engineError], [COLOR, COLOR, undefined]);
    await end();
  });

  test('an unmap takes the screen away before the job runs; the rest stays', async () => {
    const { clock, device, container, mapAll, draw, pixel, end } = await start();
    mapAll();
    draw();
    assert.deepEqual(await container.unmapDma({ iova: HALF, size: HALF }), { size: HALF });
    assert.deepEqual([container.stats.pinnedPages, device.stats.tableEntries], [16, 16]);
    clock.advance(0);
    assert.deepEqual([pixel(0), device.stats.faults > 0, device.engine], [0, true, 'idle']);
    await end();
  });

  test('close of the device gives everything back', async () => {
    const { task, container, file, mapAll, draw, end } = await start();
    mapAll();
    draw();
    await file.close();
    assert.deepEqual([container.stats.pinnedPages, task.memory.lockedPages], [0, 0]);
    await end();
  });

  test('a guest that is killed in the middle of a job leaves nothing', async () => {
    const { task, mediator, clock, mapAll, draw, end } = await start();
    mapAll();
    draw();
    await task.exit();
    await mediator.close();
    clock.advance(0);
    await end();
  });

  const refused: readonly (readonly [what: string, options: { prot?: number; lockPages?: number }, held: number])[] = [
    ['a read-only mapping', { prot: PROT_READ }, 0],
    ['the limit for locked pages', { lockPages: 10 }, 10],
  ];
  for (const [what, options, held] of refused) {
    test(`${what} turns entries into the scratch page`, async () => {
      const { container, device, mapAll, end } = await start(options);
      mapAll();
      assert.deepEqual([container.stats.pinnedPages, device.stats.tableEntries], [held, held]);
      await end();
    });
  }

  test('the quirk straddle-missed keeps its pages: the container names driver, device and frame', async () => {
    const { task, container, device, end } = await start({ quirks: ['straddle-missed'] });
    const size = 1024n * 4096n;
    const vaddr = task.memory.mmap({ size: 2n * size });
    // two mappings that one 2 MiB page spans: 16 pages, then the rest
    container.mapDma({ iova: size, size: HALF, vaddr, prot: PROT_RW });
    container.mapDma({ iova: size + HALF, size, vaddr: vaddr + HALF, prot: PROT_RW });
    device.backend.dmaMapGuestPage(asGfn(1024), SIZE_2M);
    await assert.rejects(container.unmapDma({ iova: size + HALF, size }), { name: /PIN_LEAK/, message: /gvt/ });
    assert.equal(container.stats.mappings, 4);
    await end();
  });

  test('without the quirk the same unmap succeeds', async () => {
    const { task, container, device, end } = await start();
    const size = 1024n * 4096n;
    const vaddr = task.memory.mmap({ size: 2n * size });
    container.mapDma({ iova: size, size: HALF, vaddr, prot: PROT_RW });
    container.mapDma({ iova: size + HALF, size, vaddr: vaddr + HALF, prot: PROT_RW });
    device.backend.dmaMapGuestPage(asGfn(1024), SIZE_2M);
    assert.deepEqual(await container.unmapDma({ iova: size + HALF, size }), { size });
    assert.equal(container.stats.pinnedPages, 0);
    await end();
  });
});
