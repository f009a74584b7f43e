import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InfoResult } from '@pinion/core';
import { MAX_BITMAP_SIZE } from '@pinion/type1';
import { frame, World } from './world.js';

const ids = (info: InfoResult): string[] => info.capabilities.map(({ id }) => id);

describe('info', () => {
  test('argsz: below 16 refused, too few for the capabilities leaves them out and says what is needed', async () => {
    const world = await World.start({ passthrough: ['P'] });
    for (const argsz of [0, 15, -1]) world.refuses('TYPE1_BAD_ARGSZ', 'EINVAL', () => world.container.info(argsz));
    // 24 of the struct, 32 migration, 16 available, 16 and two ranges of 16.
    const needed = 24 + 32 + 16 + 16 + 2 * 16;
    for (const argsz of [16, 23, 24, needed - 1]) {
      const info = world.container.info(argsz);
      assert.deepEqual([info.argsz, info.flags, info.capabilities], [needed, 3, []]);
    }
    assert.deepEqual(ids(world.container.info(needed)), ['migration', 'dma-avail', 'iova-range']);
    assert.deepEqual(world.container.info(needed), world.container.info());
    await world.end();
  });

  test('mediated only: every page size from 4 KiB up, no ranges at all', async () => {
    const world = await World.start();
    assert.deepEqual(world.container.info(), {
      argsz: 24 + 32 + 16,
      flags: 3,
      pgsizes: 0xffff_ffff_ffff_f000n,
      capabilities: [
        { id: 'migration', flags: 0, pgsizes: 0x1000n, maxBitmapSize: MAX_BITMAP_SIZE },
        { id: 'dma-avail', available: 65_535 },
      ],
    });
    await world.end();
  });

  test('passthrough: the page sizes of the hardware, ranges without reserved regions', async () => {
    const world = await World.start({ mediated: [], passthrough: ['P'], iommu: { pageSizes: 0x20_1000n } });
    world.attachPassthrough('Q', { reserved: [{ range: { first: frame(0), last: frame(0xf) }, kind: 'direct' }] });
    const { pgsizes, capabilities } = world.container.info();
    assert.equal(pgsizes, 0x20_1000n);
    assert.deepEqual(capabilities[2], {
      id: 'iova-range',
      ranges: [
        [0x10000n, 0xfedfffffn],
        [0xfef00000n, (1n << 48n) - 1n],
      ],
    });
    world.detachPassthrough('Q');
    assert.deepEqual(world.container.info().capabilities[2], {
      id: 'iova-range',
      ranges: [
        [0n, 0xfedfffffn],
        [0xfef00000n, (1n << 48n) - 1n],
      ],
    });
    await world.end();
  });

  test('T11: what is left of the entry limit', async () => {
    const world = await World.start({ parameters: () => ({ dmaEntryLimit: 2 }) });
    const left = (): unknown => world.container.info().capabilities[1];
    const seen = [left()];
    world.map(0n, 1);
    seen.push(left());
    world.map(0x1000n, 1);
    seen.push(left());
    world.refuses('TYPE1_ENTRY_LIMIT', 'ENOSPC', () => world.map(0x2000n, 1));
    world.refuses('TYPE1_OVERLAP', 'EEXIST', () => world.map(0x1000n, 1));
    seen.push(left());
    await world.unmap(0n, 1);
    seen.push(left());
    world.map(0x2000n, 1);
    seen.push(left());
    assert.deepEqual(
      seen,
      [2, 1, 0, 0, 1, 0].map((available) => ({ id: 'dma-avail', available })),
    );
    await world.end();
  });
});
