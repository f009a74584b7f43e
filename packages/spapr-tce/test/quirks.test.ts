import assert from 'node:assert/strict';
import { test } from 'node:test';
import { definePlugin, EXTENSION, MAP_FLAG, PROT_READ } from '@pinion/core';
import {
  createSpaprTceDriver,
  type FindTableGroup,
  PROFILES,
  QUIRKS,
  type Quirk,
  quirksOf,
  TCE_IOCTL,
  TceControl,
  type TceTable,
} from '@pinion/spapr-tce';
import {
  map,
  PAGE,
  reaches,
  SECOND,
  TABLE_PAGES,
  unmap,
  V1,
  V2,
  WINDOW_PAGES,
  World,
  type WorldAbout,
} from './world.js';

const GIB = 1n << 30n;
const bytes = (pages: number): bigint => BigInt(pages) * PAGE;

test('the default has no quirks, the kernel’s profile all of them', () => {
  assert.deepEqual(PROFILES, ['fixed', 'linux-6.12']);
  assert.deepEqual([...quirksOf('fixed')], []);
  assert.deepEqual([...quirksOf('linux-6.12')], Object.keys(QUIRKS));
});

/** Runs in a world with one quirk, in which pages may be left pinned. */
async function withQuirk(
  quirk: Quirk,
  run: (world: World) => Promise<void> | void,
  about: WorldAbout & { readonly leaks?: number } = {},
): Promise<void> {
  const world = await World.start({ ...about, quirks: [quirk] });
  await run(world);
  await world.end({ pinnedPages: about.leaks ?? 0 });
}

test('busy-unregister-leaks: 0, gone from the container, and pinned and charged for good', async () => {
  await withQuirk(
    'busy-unregister-leaks',
    async (world) => {
      const { tce, container, file } = world.open(V2);
      const memory = { vaddr: world.memory(16), size: bytes(16) };
      tce.registerMemory(memory);
      map(container, 0n, 1, memory.vaddr);
      tce.unregisterMemory(memory);
      assert.deepEqual(world.warnings, ['memory-kept']);
      assert.throws(() => tce.unregisterMemory(memory), { name: 'TCE_UNKNOWN_MEMORY' });
      map(container, PAGE, 1, memory.vaddr + PAGE);
      assert.throws(() => tce.registerMemory({ ...memory, size: bytes(8) }), { name: 'TCE_MEMORY_OVERLAP' });
      await unmap(container, 0n, 2);
      tce.registerMemory(memory);
      assert.equal(world.locked, 16 + TABLE_PAGES, 'taken again without a charge');
      tce.unregisterMemory(memory);
      file.unsetContainer();
      assert.deepEqual([world.locked, world.pinned], [16, 16]);
    },
    { leaks: 16 },
  );
});

test('first-page-bounds: v1 maps past the end are EINTR, unmaps past it succeed; endless ones are refused', async () => {
  await withQuirk('first-page-bounds', async (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const vaddr = world.memory(4);
    map(container, GIB - PAGE, 1, vaddr + PAGE);
    assert.throws(() => map(container, GIB - PAGE, 2, vaddr), { name: 'TCE_FIRMWARE', errno: 'EINTR' });
    assert.ok(reaches(world, hardware, GIB - PAGE, vaddr + PAGE), 'all or nothing all the same');
    assert.equal(world.pinned, 1);
    await assert.rejects(container.unmapDma({ iova: 0n, size: 1n << 63n }), { name: 'TCE_TOO_LARGE', errno: 'EINVAL' });
    assert.deepEqual(await unmap(container, GIB - PAGE, 2), { size: PAGE });
    assert.equal(world.pinned, 0);
  });
});

test('first-page-bounds: v2 loses a use of the memory just past a small window, farther out it refuses', async () => {
  await withQuirk(
    'first-page-bounds',
    (world) => {
      const { tce, container } = world.open(V2);
      const vaddr = world.memory(600);
      tce.registerMemory({ vaddr, size: bytes(600) });
      assert.throws(() => map(container, GIB - PAGE, 2, vaddr), { name: 'TCE_NO_WINDOW', errno: 'ENXIO' });
      tce.createWindow({ pageShift: 12, size: PAGE });
      assert.throws(() => map(container, SECOND, 2, vaddr), { name: 'TCE_FIRMWARE', errno: 'EINTR' });
      assert.equal(container.stats.mappings, 0);
      assert.throws(() => tce.unregisterMemory({ vaddr, size: bytes(600) }), { name: 'TCE_MEMORY_IN_USE' });
    },
    { leaks: 600 },
  );
});

test('unaligned-iova-is-1: the raw call answers 1 and does nothing; the typed one is an error', async () => {
  await withQuirk('unaligned-iova-is-1', async (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    const request = { flags: MAP_FLAG.READ, iova: 0x800n, size: PAGE, vaddr: world.memory(1) };
    assert.equal(container.ioctl(TCE_IOCTL.MAP_DMA, request), 1);
    assert.throws(() => container.map(request), { name: 'TCE_UNALIGNED', errno: 'EINVAL' });
    map(container, 0n, 1, request.vaddr);
    assert.equal(container.ioctl(TCE_IOCTL.UNMAP_DMA, { flags: 0, iova: 1n, size: PAGE }), 1);
    await assert.rejects(container.unmapDma({ iova: 1n, size: PAGE }), { name: 'TCE_UNALIGNED' });
    assert.equal(world.pinned, 1);
  });
});

test('partial-register-counts: the raw call answers how many pages there are; the typed one is an error', async () => {
  await withQuirk('partial-register-counts', (world) => {
    const { tce, container } = world.open(V2);
    const vaddr = world.memory(4);
    const memory = { vaddr, size: bytes(6) };
    assert.equal(container.ioctl(TCE_IOCTL.REGISTER_MEMORY, memory), 4);
    assert.throws(() => tce.registerMemory(memory), { name: 'TCE_MEMORY_FAULT', errno: 'EFAULT' });
    assert.throws(() => tce.registerMemory({ vaddr: vaddr + bytes(4), size: PAGE }), { errno: 'EFAULT' });
    assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_NOT_ENABLED' });
    assert.deepEqual([world.locked, world.pinned], [0, 0]);
  });
});

test('empty-register-is-enomem', async () => {
  await withQuirk('empty-register-is-enomem', (world) => {
    const { tce } = world.open(V2);
    assert.throws(() => tce.registerMemory({ vaddr: 0n, size: 0n }), { name: 'TCE_EMPTY_MEMORY', errno: 'ENOMEM' });
  });
});

test('refusal-takes-owner: whoever was refused first owns the container, even with an unreadable argument', async () => {
  await withQuirk('refusal-takes-owner', async (world) => {
    const { container } = world.open(V2);
    const child = world.task.fork();
    assert.throws(() => container.ioctl(TCE_IOCTL.REGISTER_MEMORY, undefined, child), { name: 'TCE_UNREADABLE' });
    assert.throws(() => new TceControl(container).info(), { name: 'TCE_NOT_OWNER', errno: 'EPERM' });
    await child.exit();
  });
});

test('remove-inside-window: any address of a window removes it', async () => {
  await withQuirk('remove-inside-window', (world) => {
    const { tce } = world.open(V2);
    tce.createWindow({ pageShift: 16, size: GIB });
    tce.removeWindow(SECOND + 0x1234n);
    tce.removeWindow(GIB - 1n);
    assert.equal(world.locked, 0);
  });
});

test('refused-create-charges: the charge of a table that is refused stays, for good', async () => {
  await withQuirk(
    'refused-create-charges',
    (world) => {
      const { tce, file } = world.open(V2);
      assert.throws(() => tce.createWindow({ pageShift: 12, size: 0x3000_0000n }), { name: 'TCE_BAD_WINDOW' });
      assert.throws(() => tce.createWindow({ pageShift: 16, size: GIB, levels: 2 }), { name: 'TCE_BAD_WINDOW' });
      assert.equal(world.locked, TABLE_PAGES + 384 + 1_048_575);
      file.unsetContainer();
      assert.equal(world.locked, 384 + 1_048_575);
    },
    { kind: 'pseries' },
  );
});

test('failed-map-clears: entries before the failure lead nowhere, those behind it where they led', async () => {
  await withQuirk('failed-map-clears', async (world) => {
    const { tce, container, hardware } = world.open(V1);
    tce.enable();
    const [old, short] = [world.memory(8), world.memory(4)];
    map(container, 0n, 8, old);
    assert.throws(() => map(container, 0n, 8, short), { name: 'TCE_MAP_FAULT', errno: 'EFAULT' });
    const led = [0, 3, 4, 7].map((page) => reaches(world, hardware, bytes(page), old + bytes(page)));
    assert.deepEqual([led, world.pinned], [[false, false, true, true], 4]);
    await unmap(container, 0n, 8);
  });
});

test('read-map-pins-for-write: read-only memory cannot be mapped at all in v1', async () => {
  await withQuirk('read-map-pins-for-write', (world) => {
    const { tce, container } = world.open(V1);
    tce.enable();
    const vaddr = world.memory(1);
    world.task.memory.mprotect(vaddr, PAGE, PROT_READ);
    assert.throws(() => map(container, 0n, 1, vaddr, PROT_READ), { name: 'TCE_MAP_FAULT', errno: 'EFAULT' });
    assert.equal(world.locked, WINDOW_PAGES + TABLE_PAGES);
  });
});

test('accepts-fixed-windows: v2 takes the group, and every use fails', async () => {
  await withQuirk(
    'accepts-fixed-windows',
    (world) => {
      const { tce, container } = world.open(V2, world.plug({ dynamic: false }));
      assert.deepEqual(tce.info().windows, { pageSizes: PAGE, max: 0xffff_ffff, levels: 0 });
      const vaddr = world.memory(1);
      tce.registerMemory({ vaddr, size: PAGE });
      assert.throws(() => map(container, 0n, 1, vaddr), { name: 'TCE_NO_DDW', errno: 'EINVAL' });
      assert.throws(() => tce.createWindow({ pageShift: 12, size: PAGE }), { name: 'TCE_DDW_FAILED', errno: 'ENODEV' });
      assert.equal(world.locked, 1);
    },
    { kind: 'pseries' },
  );
});

/** A world whose hardware runs `during` when entry 0 is written: what another thread does during a map. */
async function withRace(
  quirks: readonly Quirk[],
  run: (world: World, race: { during: () => void }) => void,
): Promise<void> {
  const world = await World.start();
  const race = { during: () => {} };
  const racing: FindTableGroup = (group) => {
    const tables = world.platform.tableGroup(group);
    if (tables === undefined) return undefined;
    return Object.assign(Object.create(tables), {
      createTable(slot: number, shape: Parameters<typeof tables.createTable>[1]): TceTable {
        const table = tables.createTable(slot, shape);
        const set = table.set.bind(table);
        table.set = (index, pfn, prot) => {
          set(index, pfn, prot);
          if (index === 0) race.during();
        };
        return table;
      },
    });
  };
  const driver = createSpaprTceDriver({ hardware: racing, quirks });
  await world.mediator.use(
    definePlugin({ name: 'racing', core: '^0.1', register: (scope) => scope.backend({ ...driver, name: 'racing' }) }),
  );
  run(world, race);
  await world.end();
}

for (const quirk of [undefined, 'torn-down-map-is-partial'] as const) {
  test(`memory that is unregistered during a map: ${quirk ?? 'by default nothing changes'}`, async () => {
    await withRace(quirk === undefined ? [] : [quirk], (world, race) => {
      const { tce, container, hardware } = world.open(EXTENSION.SPAPR_TCE_v2_IOMMU);
      const vaddr = world.memory(6);
      const [one, two, three] = [0, 2, 4].map((page) => ({ vaddr: vaddr + bytes(page), size: bytes(2) }));
      assert.ok(one && two && three);
      for (const memory of [one, two, three]) tce.registerMemory(memory);
      map(container, 0n, 2, three.vaddr);
      race.during = () => {
        race.during = () => {};
        tce.unregisterMemory(two);
      };
      const attempt = () => map(container, 0n, 4, vaddr);
      if (quirk === undefined) assert.throws(attempt, { name: 'TCE_TORN_DOWN', errno: 'EINVAL' });
      else attempt();
      const leadsTo = quirk === undefined ? three.vaddr : one.vaddr;
      assert.deepEqual(
        [0, 1, 2].map((page) => reaches(world, hardware, bytes(page), leadsTo + bytes(page))),
        [true, true, false],
      );
      assert.deepEqual([container.stats.mappings, world.pinned], [2, 4]);
      const unused = quirk === undefined ? one : three;
      tce.unregisterMemory(unused);
      assert.equal(world.pinned, 2);
    });
  });
}
