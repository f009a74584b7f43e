/** Every quirk beside the default: what each answers to the same. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DIRTY_FLAG, EXTENSION, type FrameRange, PinionError, PROT_READ } from '@pinion/core';
import { PROFILES, QUIRKS, type Quirk, quirksOf } from '@pinion/type1';
import { frame, PAGE, pages, World, type WorldOptions } from './world.js';

const TOP = 1n << 64n;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** `NAME ERRNO` of a refusal, or what the action answered. */
async function answer(action: () => unknown): Promise<unknown> {
  try {
    return await action();
  } catch (failure) {
    if (failure instanceof PinionError) return `${failure.name} ${failure.errno}`;
    throw failure;
  }
}

interface Case {
  readonly options?: WorldOptions;
  /** Quirks that both sides have, because without them the difference cannot be seen. */
  readonly with?: readonly Quirk[];
  readonly run: (world: World) => Promise<unknown> | unknown;
  readonly fixed: unknown;
  readonly quirk: unknown;
  /** Pages that stay pinned for ever under the quirk. */
  readonly lost?: number;
}

/** Reads the dirty bits of the first 128 pages. */
function bits(world: World): number[] {
  const data = new Uint8Array(16);
  const bitmap = { pgsize: PAGE, size: 16n, data };
  world.container.dirty({ flags: DIRTY_FLAG.GET_BITMAP, iova: 0n, size: pages(128), bitmap });
  return Array.from({ length: 128 }, (_, bit) => bit).filter((bit) => ((data[bit >> 3] ?? 0) >> (bit & 7)) & 1);
}

function pinAt(world: World, iova: bigint): number {
  const out = new Float64Array(1);
  world.seat('A').device.pins.pinAt(iova, 1, PROT_READ, out);
  return out[0] ?? 0;
}

const CASES: { readonly [Q in Quirk]: Case } = {
  'top-mapping-invisible': {
    run: async (world) => {
      world.map(TOP - PAGE, 1);
      return [
        await answer(() => world.map(TOP - PAGE, 1) > 0n),
        await answer(() => world.pin('A', 2 ** 52 - 1).length),
        await answer(() => world.unmap(TOP - pages(4), 4)),
        await answer(() => world.container.unmapAll()),
        world.container.stats.mappings,
      ];
    },
    fixed: ['TYPE1_OVERLAP EEXIST', 1, PAGE, { size: 0n }, 0],
    quirk: [true, 'TYPE1_NOT_MAPPED EINVAL', 0n, { size: 0n }, 2],
  },
  'wrap-is-eoverflow': {
    run: async (world) => {
      const map = (iova: bigint, size: bigint) =>
        answer(() => world.container.mapDma({ iova, size, vaddr: 0n, prot: 1 }));
      const unmap = (iova: bigint, size: bigint) => answer(() => world.container.unmapDma({ iova, size }));
      return [
        await map(TOP - PAGE, pages(2)),
        await map(TOP - PAGE + 1n, pages(2)),
        await map(TOP - PAGE, 0n),
        await unmap(TOP - PAGE, pages(2)),
        await unmap(TOP - PAGE, PAGE),
      ];
    },
    fixed: [
      'TYPE1_WRAPS EINVAL',
      'TYPE1_BAD_ALIGNMENT EINVAL',
      'TYPE1_BAD_ALIGNMENT EINVAL',
      'TYPE1_WRAPS EINVAL',
      { size: 0n },
    ],
    quirk: [
      'TYPE1_TOO_LARGE EOVERFLOW',
      'TYPE1_TOO_LARGE EOVERFLOW',
      'TYPE1_BAD_ALIGNMENT EINVAL',
      'TYPE1_TOO_LARGE EOVERFLOW',
      { size: 0n },
    ],
  },
  'no-nesting-type': {
    options: { type: 0 },
    run: async (world) => [
      world.container.checkExtension(EXTENSION.TYPE1_NESTING_IOMMU),
      await answer(() => world.container.setIommu(EXTENSION.TYPE1_NESTING_IOMMU)),
    ],
    fixed: [1, undefined],
    quirk: [0, 'CORE_NO_BACKEND ENODEV'],
  },
  'aperture-check-needs-ranges': {
    run: (world) => {
      world.map(1n << 48n, 1);
      return answer(() => world.attachPassthrough('P'));
    },
    fixed: 'TYPE1_APERTURE EINVAL',
    quirk: 'IOMMU_BEYOND_WIDTH ERANGE',
  },
  'aperture-check-wraps': {
    options: { passthrough: ['P'] },
    run: (world) => {
      world.detachPassthrough('P');
      world.map(1n << 48n, 1);
      return answer(() => world.attachPassthrough('P'));
    },
    fixed: 'TYPE1_APERTURE EINVAL',
    quirk: 'IOMMU_BEYOND_WIDTH ERANGE',
  },
  'replay-from-attacher': {
    run: async (world) => {
      const vaddr = world.map(0n, 2);
      const child = world.task.fork('child');
      child.memory.munmap(vaddr, pages(2));
      const attached = await answer(() => typeof world.attachPassthrough('P', {}, child));
      await child.exit();
      return [attached, world.locked];
    },
    fixed: ['object', 2],
    quirk: ['SIM_FAULT EFAULT', 0],
  },
  'unaligned-pins': {
    run: async (world) => {
      const vaddr = world.buffer(3);
      world.map(0x10000n, 2, { vaddr: vaddr + PAGE });
      const aligned = pinAt(world, 0x10000n);
      const inside = pinAt(world, 0x10800n);
      const below = await answer(() => pinAt(world, 0xf800n) === aligned - 1);
      const charged = world.locked;
      const { pins } = world.seat('A').device;
      for (const iova of [0x10000n, 0x10800n, 0xf800n]) pins.unpinAt(iova, 1);
      return [inside === aligned, below, charged, world.locked];
    },
    fixed: [true, 'TYPE1_NOT_MAPPED EINVAL', 1, 0],
    quirk: [true, true, 3, 0],
  },
  'pins-without-owner': {
    options: { mediated: ['A', 'B'] },
    run: (world) => {
      world.map(0n, 1);
      world.pin('A', 0);
      world.unpin('B', 0);
      return [world.locked, world.container.stats.pinnedPages, world.reports.length];
    },
    fixed: [1, 1, 1],
    quirk: [0, 0, 1],
  },
  'close-keeps-pins': {
    run: async (world) => {
      world.map(0n, 1);
      world.pin('A', 0);
      world.ops('A').closing = () => {};
      return [await answer(() => world.close('A')), world.locked, world.reports[0]];
    },
    fixed: ['CORE_PINS_LEFT EBUSY', 0, 'leaked test 0'],
    quirk: [undefined, 1, 'leaked test 0'],
    lost: 1,
  },
  'unpin-stops-at-hole': {
    with: ['pins-without-owner'],
    run: (world) => {
      world.map(0n, 2);
      world.map(0x3000n, 2);
      world.pin('A', 0, 2);
      world.pin('A', 3, 2);
      world.unpin('A', 0, 5);
      return [world.locked, world.reports.includes('bad-unpin')];
    },
    fixed: [0, true],
    quirk: [2, true],
    lost: 2,
  },
  'dirty-shift-in-place': {
    run: (world) => {
      world.map(pages(10), 60);
      world.container.dirty({ flags: DIRTY_FLAG.START });
      world.pin('A', 65);
      world.unpin('A', 65);
      return [bits(world), bits(world)];
    },
    fixed: [[65], []],
    quirk: [[65], [75]],
  },
  'failed-pin-dirties': {
    run: async (world) => {
      world.map(0n, 2);
      world.container.dirty({ flags: DIRTY_FLAG.START });
      return [await answer(() => world.pin('A', 1, 2)), bits(world)];
    },
    fixed: ['TYPE1_NOT_MAPPED EINVAL', []],
    quirk: ['TYPE1_NOT_MAPPED EINVAL', [1]],
  },
  'failed-copy-is-clean': {
    run: async (world) => {
      const vaddr = world.map(0n, 4);
      world.task.memory.munmap(vaddr + pages(2), PAGE);
      world.container.dirty({ flags: DIRTY_FLAG.START });
      const copied = await answer(() => world.container.dmaRw(0x800n, new Uint8Array(8192).fill(1), true));
      return [copied, world.task.memory.peek(vaddr + 0x1fffn, 1)[0], bits(world)];
    },
    fixed: ['TYPE1_RW_FAULT EFAULT', 1, [0, 1, 2]],
    quirk: ['TYPE1_RW_FAULT EFAULT', 1, []],
  },
  'late-bisect-succeeds': {
    run: async (world) => {
      world.map(0n, 4);
      world.map(0x10000n, 4);
      world.pin('A', 0x11);
      let open = (): void => {};
      const opened = new Promise<void>((resolve) => {
        open = resolve;
      });
      world.ops('A').unmapping = async (range: FrameRange) => {
        await opened;
        world.ops('A').giveBack(range);
      };
      const unmapped = answer(() => world.unmap(0n, 0x22));
      await settle();
      world.map(0x21000n, 4);
      open();
      return [await unmapped, world.container.stats.mappings];
    },
    fixed: ['TYPE1_BISECTS EINVAL', 2],
    quirk: [pages(4), 2],
  },
  'shared-zero-page': {
    run: (world) => {
      world.map(0n, 2, { prot: PROT_READ });
      world.pin('A', 0, 2, PROT_READ);
      return [world.locked, world.container.stats.pinnedPages];
    },
    fixed: [2, 2],
    quirk: [0, 2],
  },
};

describe('each quirk beside the default', () => {
  // why: `CASES` has a case for every quirk by its type; Object.entries only loses the key's type
  for (const [quirk, each] of Object.entries(CASES) as [Quirk, Case][]) {
    test(quirk, async () => {
      const base = each.with ?? [];
      const fixed = await World.start({ ...each.options, quirks: base });
      assert.deepEqual(await each.run(fixed), each.fixed);
      await fixed.end();
      // The zero page is the address space's doing.
      const os = quirk === 'shared-zero-page' ? { readOnlyUntouched: 'zero-page' as const } : {};
      const odd = await World.start({ ...each.options, quirks: [...base, quirk], os });
      assert.deepEqual(await each.run(odd), each.quirk);
      await odd.end({ pinnedPages: each.lost ?? 0, livePages: each.lost ?? 0 });
    });
  }
});

describe('profiles', () => {
  test('the default has no quirk, every other profile those that name it', () => {
    assert.deepEqual([...quirksOf('fixed')], []);
    for (const profile of PROFILES.filter((name) => name !== 'fixed')) {
      const want = Object.entries(QUIRKS).filter(([, { kernels }]) => kernels.some((kernel) => kernel === profile));
      assert.deepEqual(
        [...quirksOf(profile)],
        want.map(([name]) => name),
      );
      assert.ok(want.length > 0);
    }
  });

  test('quirks can be added to a profile one by one', async () => {
    const world = await World.start({ profile: 'linux-6.12', quirks: ['no-nesting-type'], type: 0 });
    assert.equal(world.container.checkExtension(EXTENSION.TYPE1_NESTING_IOMMU), 0);
    world.container.setIommu(EXTENSION.TYPE1v2_IOMMU);
    world.map(TOP - PAGE, 1);
    world.map(TOP - PAGE, 1);
    await world.end();
  });

  test('pins inside a page have references and charges of their own', async () => {
    const world = await World.start({ quirks: ['unaligned-pins', 'pins-without-owner'] });
    world.map(0x10000n, 4);
    for (const iova of [0x10800n, 0x10800n, 0x11004n, 0x11000n]) pinAt(world, iova);
    const seen = [world.locked];
    const { pins } = world.seat('A').device;
    for (const iova of [0x10800n, 0x10808n, 0x10800n, 0x11004n, 0x11000n]) {
      pins.unpinAt(iova, 1);
      seen.push(world.locked);
    }
    assert.deepEqual(seen, [3, 3, 3, 2, 1, 0]);
    await world.end();
  });

  test('a pin inside a page is charged beside its page when passthrough joins, and that stays: the kernel’s sums', async () => {
    const world = await World.start({ quirks: ['unaligned-pins', 'pins-without-owner'] });
    world.map(0x10000n, 4);
    for (const iova of [0x10800n, 0x11000n]) pinAt(world, iova);
    const seen = [world.locked];
    world.attachPassthrough('P');
    seen.push(world.locked);
    world.detachPassthrough('P');
    seen.push(world.locked);
    for (const iova of [0x10800n, 0x11000n]) world.seat('A').device.pins.unpinAt(iova, 1);
    seen.push(world.locked);
    assert.deepEqual(seen, [2, 5, 3, 1]);
    assert.equal(world.os.host.pinnedPages, 0);
    await world.end();
  });

  test('pins inside a page mark their page dirty as long as they stand', async () => {
    const world = await World.start({ quirks: ['unaligned-pins'] });
    world.map(0x10000n, 4);
    pinAt(world, 0x11004n);
    world.container.dirty({ flags: DIRTY_FLAG.START });
    assert.deepEqual([bits(world), bits(world)], [[0x11], [0x11]]);
    world.seat('A').device.pins.unpinAt(0x11004n, 1);
    await world.end();
  });

  test('where the top is invisible, a range up to 2^64 wraps for dirty pages too', async () => {
    const world = await World.start({ quirks: ['top-mapping-invisible'] });
    const bitmap = { pgsize: PAGE, size: 8n, data: new Uint8Array(8) };
    const request = { flags: DIRTY_FLAG.GET_BITMAP, iova: TOP - PAGE, size: PAGE, bitmap };
    world.container.dirty({ flags: DIRTY_FLAG.START });
    world.refuses('TYPE1_WRAPS', 'EINVAL', () => world.container.dirty(request));
    world.container.dirty({ ...request, iova: TOP - pages(2) });
    await world.end();
  });

  test('under 7.3 nothing can be pinned past the end', async () => {
    const world = await World.start({ profile: 'linux-7.3' });
    world.map(TOP - PAGE, 1);
    const { backend } = world.container;
    const { group } = world.seat('A').device;
    const pin = (count: number): unknown =>
      backend?.pinPages?.(group, frame(2 ** 52 - 1), 0, count, PROT_READ, new Float64Array(2));
    world.refuses('TYPE1_TOO_LARGE', 'EOVERFLOW', () => pin(2));
    pin(1);
    backend?.unpinPages?.(frame(2 ** 52 - 1), 0, 1);
    await world.end();
  });
});
