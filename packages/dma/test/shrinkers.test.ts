import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PinionError } from '@pinion/core';
import {
  DIRECTION,
  DMA_MAPPING_ERROR,
  type DmaShrinker,
  DmaShrinkers,
  formatShrinkReport,
  SHRINK_PRIORITY,
} from '@pinion/dma';
import { behindIommu, piece } from './harness.js';

const { PURGEABLE, IDLE, ACTIVE } = SHRINK_PRIORITY;
const shortage = { device: 'nic', pages: 4, mayWait: true };

/** A shrinker with `stock` pages that notes when it was asked. */
function keeper(name: string, priority: 0 | 1 | 2, stock: number, asked: string[]): DmaShrinker {
  let left = stock;
  return {
    name,
    priority,
    count: () => left,
    shrink: (_shortage, pages) => {
      asked.push(name);
      const freed = Math.min(pages, left);
      left -= freed;
      return freed;
    },
  };
}

test('the cheapest are asked first, until there is enough', () => {
  const asked: string[] = [];
  const shrinkers = new DmaShrinkers();
  shrinkers.register(keeper('active', ACTIVE, 9, asked));
  shrinkers.register(keeper('idle', IDLE, 3, asked));
  shrinkers.register(keeper('idle-2', IDLE, 9, asked));
  shrinkers.register(keeper('purgeable', PURGEABLE, 2, asked));
  assert.equal(shrinkers.count(shortage), 23);
  assert.equal(shrinkers.count({ ...shortage, mayWait: false }), 14);
  let tries = 0;
  assert.equal(
    shrinkers.retry(shortage, () => (++tries === 2 ? 'mapped' : undefined)),
    'mapped',
  );
  assert.deepEqual(asked, ['purgeable', 'idle']);
  assert.deepEqual(
    shrinkers.lastReport?.rounds.map(({ shrinker, freed }) => [shrinker, freed]),
    [
      ['purgeable', 2],
      ['idle', 2],
    ],
  );
  assert.equal(shrinkers.freed, 4);
});

test('it ends when nobody frees anything any more, and says so', () => {
  const asked: string[] = [];
  const shrinkers = new DmaShrinkers();
  shrinkers.register(keeper('idle', IDLE, 6, asked));
  assert.equal(
    shrinkers.retry(shortage, () => undefined),
    undefined,
  );
  assert.deepEqual(asked, ['idle', 'idle', 'idle']);
  const report = shrinkers.lastReport;
  assert.ok(report);
  assert.equal(
    formatShrinkReport(report),
    'nic wanted 4 pages: idle gave 4, idle gave 2, idle gave 0; 6 pages freed, still no space',
  );
  assert.equal(
    formatShrinkReport({ ...report, rounds: [], freed: 0 }),
    'nic wanted 4 pages: nobody to ask; 0 pages freed, still no space',
  );
});

test('who cannot wait is not offered the active', () => {
  const asked: string[] = [];
  const shrinkers = new DmaShrinkers();
  shrinkers.register(keeper('active', ACTIVE, 9, asked));
  assert.equal(
    shrinkers.retry({ ...shortage, mayWait: false }, () => undefined),
    undefined,
  );
  assert.deepEqual(asked, []);
});

test('a shrinker that fails has freed nothing, and the others are asked', () => {
  const warned: string[] = [];
  const asked: string[] = [];
  const shrinkers = new DmaShrinkers({ info: () => {}, warn: (message) => warned.push(message) });
  shrinkers.register({
    name: 'broken',
    priority: PURGEABLE,
    count: () => 1,
    shrink: () => {
      throw new RangeError('oops');
    },
  });
  shrinkers.register(keeper('idle', IDLE, 4, asked));
  let tries = 0;
  assert.equal(
    shrinkers.retry(shortage, () => (++tries === 2 ? 1 : undefined)),
    1,
  );
  assert.deepEqual([asked, warned, shrinkers.running], [['idle'], ['dma shrinker broken failed'], undefined]);
});

test('a shrinker that only says it frees does not keep a mapping busy for ever', () => {
  const shrinkers = new DmaShrinkers();
  shrinkers.register({ name: 'liar', priority: IDLE, count: () => 1, shrink: () => 1 });
  let tries = 0;
  assert.equal(
    shrinkers.retry({ ...shortage, pages: 1 }, () => {
      tries += 1;
      return undefined;
    }),
    undefined,
  );
  assert.equal(tries, 65);
});

test('names are unique, and an undone registration is not asked', () => {
  const asked: string[] = [];
  const shrinkers = new DmaShrinkers();
  const undo = shrinkers.register(keeper('a', IDLE, 1, asked));
  assert.throws(() => shrinkers.register(keeper('a', ACTIVE, 1, asked)), {
    name: 'DMA_SHRINKER_EXISTS',
    errno: 'EEXIST',
  });
  void undo();
  void undo();
  assert.equal(
    shrinkers.retry(shortage, () => undefined),
    undefined,
  );
  assert.deepEqual(asked, []);
});

test('a mapping from inside a shrinker is refused at once, even if there were space', () => {
  const shrinkers = new DmaShrinkers();
  const { raw, ops } = behindIommu({ shrinkers, mask: 0x1_ffffn }); // 31 frames
  const big = raw.mapPage(piece(0, 0, 16 * 4096), DIRECTION.BIDIRECTIONAL);
  let inner: unknown;
  shrinkers.register({
    name: 'greedy',
    priority: IDLE,
    count: () => 16,
    shrink: () => {
      try {
        raw.mapPage(piece(20), DIRECTION.BIDIRECTIONAL);
      } catch (error) {
        inner = error;
      }
      return 0;
    },
  });
  assert.equal(raw.mapPage(piece(0, 0, 16 * 4096), DIRECTION.BIDIRECTIONAL), DMA_MAPPING_ERROR);
  assert.ok(inner instanceof PinionError);
  assert.deepEqual([inner.name, inner.errno], ['DMA_SHRINK_RECURSION', 'EDEADLK']);
  assert.match(inner.message, /greedy/);
  raw.unmapPage({ dma: big, length: 16 * 4096 }, DIRECTION.BIDIRECTIONAL);
  assert.equal(ops.frames, 0);
});
