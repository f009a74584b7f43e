import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asGfn, asIovaFrame, asPfn, frameRange } from '@pinion/core';
import { DmaCache, type GvtQuirk, NO_OWNER, SIZE_2M, SIZE_4K } from '@pinion/gvt';
import fc from 'fast-check';
import { type FakeMemoryOptions, FakePins } from './fake-guest.js';

const start = (options: FakeMemoryOptions & { quirks?: readonly GvtQuirk[] } = {}) => {
  const pins = new FakePins({ pages: 2048, ...options });
  return { pins, cache: new DmaCache(pins, new Set(options.quirks)) };
};
const range = (first: number, count: number) => frameRange(asIovaFrame(first), count);

describe('references', () => {
  test('map, map, pin, unmap three times: the third unpins, a fourth is ignored', () => {
    const { pins, cache } = start();
    const dma = cache.map(asGfn(5), SIZE_4K);
    assert.equal(dma, pins.hostFrame(5));
    assert.equal(cache.map(asGfn(5), SIZE_4K), dma);
    cache.pin(dma);
    assert.deepEqual([cache.refs(asGfn(5)), pins.count(asIovaFrame(5))], [3, 1]);
    cache.unmap(dma);
    cache.unmap(dma);
    assert.equal(pins.pages, 1);
    cache.unmap(dma);
    assert.equal(pins.pages, 0);
    cache.unmap(dma);
    assert.deepEqual([cache.entries, cache.refs(asGfn(5))], [0, 0]);
  });

  test('an address that nothing maps cannot be pinned', () => {
    const { cache } = start();
    assert.throws(() => cache.pin(asPfn(0x40005)), { name: 'GVT_DMA_UNKNOWN', errno: 'ENOMEM' });
  });

  const badSizes = [0, 1, 4095, 8192, 65536, SIZE_2M * 2, -4096, Number.NaN];
  for (const size of badSizes) {
    test(`size ${size} is refused before anything is pinned`, () => {
      const { pins, cache } = start();
      assert.throws(() => cache.map(asGfn(5), size), { name: 'GVT_BAD_PAGE_SIZE', errno: 'EINVAL' });
      assert.equal(pins.pinCalls, 0);
    });
  }

  test('a page that cannot be pinned leaves no entry', () => {
    const { pins, cache } = start();
    assert.throws(() => cache.map(asGfn(5000), SIZE_4K), { errno: 'EINVAL' });
    assert.deepEqual([cache.entries, pins.pages], [0, 0]);
  });

  test('two guest pages on one host page are two entries; unmap drops one reference of either', () => {
    const { pins, cache } = start({ place: (gfn) => (gfn === 9 ? 8 : gfn) });
    const dma = cache.map(asGfn(8), SIZE_4K);
    assert.equal(cache.map(asGfn(9), SIZE_4K), dma);
    assert.equal(cache.entries, 2);
    cache.unmap(dma);
    assert.equal(cache.entries, 1);
    cache.unmap(dma);
    assert.deepEqual([cache.entries, pins.pages], [0, 0]);
  });
});

describe('2 MiB', () => {
  test('pins 512 pages and gives them back', () => {
    const { pins, cache } = start();
    const dma = cache.map(asGfn(0x200), SIZE_2M);
    assert.deepEqual([dma, pins.pages, cache.pages], [pins.hostFrame(0x200), 512, 512]);
    cache.unmap(dma);
    assert.equal(pins.pages, 0);
  });

  const holes = [1, 255, 511];
  for (const hole of holes) {
    test(`is refused when host page ${hole} lies elsewhere, and no pin is left`, () => {
      const { pins, cache } = start({ place: (gfn) => (gfn === 0x200 + hole ? 0 : gfn) });
      assert.throws(() => cache.map(asGfn(0x200), SIZE_2M), { name: 'GVT_NOT_CONTIGUOUS', errno: 'EINVAL' });
      assert.deepEqual([pins.pages, cache.entries], [0, 0]);
    });
  }

  test('a limit in the middle leaves nothing', () => {
    const { pins, cache } = start({ limit: 511 });
    assert.throws(() => cache.map(asGfn(0x200), SIZE_2M), { errno: 'ENOMEM' });
    assert.deepEqual([pins.pages, cache.entries], [0, 0]);
  });
});

describe('a frame mapped with two sizes', () => {
  test('grows, and every holder keeps a good address', () => {
    const { pins, cache } = start();
    const dma = cache.map(asGfn(5), SIZE_4K);
    cache.map(asGfn(5), SIZE_4K);
    assert.equal(cache.map(asGfn(5), SIZE_2M), dma);
    assert.deepEqual([cache.refs(asGfn(5)), pins.pages, pins.count(asIovaFrame(5))], [3, 512, 1]);
    cache.unmap(dma);
    cache.unmap(dma);
    assert.equal(pins.pages, 512);
    cache.unmap(dma);
    assert.equal(pins.pages, 0);
  });

  test('the smaller size is served by the larger mapping', () => {
    const { pins, cache } = start();
    const dma = cache.map(asGfn(5), SIZE_2M);
    assert.equal(cache.map(asGfn(5), SIZE_4K), dma);
    assert.deepEqual([cache.entries, cache.refs(asGfn(5)), pins.pages], [1, 2, 512]);
    cache.destroy();
    assert.equal(pins.pages, 0);
  });

  test('that cannot grow stays as it was', () => {
    const { pins, cache } = start({ place: (gfn) => (gfn === 6 ? 1000 : gfn) });
    const dma = cache.map(asGfn(5), SIZE_4K);
    assert.throws(() => cache.map(asGfn(5), SIZE_2M), { name: 'GVT_NOT_CONTIGUOUS' });
    assert.deepEqual([cache.refs(asGfn(5)), pins.pages, cache.pages], [1, 1, 1]);
    cache.unmap(dma);
    assert.equal(pins.pages, 0);
  });

  test('quirk size-mismatch-drops-holders: the old references are lost, and their unmap is ignored', () => {
    const away = (gfn: number) => gfn + 1024;
    const { pins, cache } = start({
      quirks: ['size-mismatch-drops-holders'],
      place: (gfn) => (gfn === 5 ? 5 : away(gfn) % 2048),
      migrate: away,
    });
    const old = cache.map(asGfn(5), SIZE_4K);
    cache.map(asGfn(5), SIZE_4K);
    const dma = cache.map(asGfn(5), SIZE_2M);
    assert.notEqual(dma, old);
    assert.deepEqual([cache.refs(asGfn(5)), pins.pages], [1, 512]);
    cache.unmap(old);
    assert.deepEqual([cache.refs(asGfn(5)), pins.pages], [1, 512]);
    cache.unmap(dma);
    assert.deepEqual([cache.entries, pins.pages], [0, 0]);
  });

  test('quirk size-mismatch-drops-holders: a page that did not move gives the new mapping the old address', () => {
    const { pins, cache } = start({ quirks: ['size-mismatch-drops-holders'] });
    const old = cache.map(asGfn(5), SIZE_4K);
    assert.equal(cache.map(asGfn(5), SIZE_2M), old);
    cache.unmap(old); // the old holder's
    assert.deepEqual([cache.entries, pins.pages], [0, 0]);
  });

  test('quirk size-mismatch-drops-holders: a new mapping that fails leaves the frame unmapped under its holder', () => {
    const { pins, cache } = start({
      quirks: ['size-mismatch-drops-holders'],
      place: (gfn) => (gfn === 6 ? 1000 : gfn),
    });
    cache.map(asGfn(5), SIZE_4K);
    assert.throws(() => cache.map(asGfn(5), SIZE_2M), { name: 'GVT_NOT_CONTIGUOUS' });
    assert.deepEqual([cache.entries, pins.pages], [0, 0]);
  });
});

describe('releaseRange', () => {
  const cases: readonly (readonly [what: string, first: number, count: number, released: number])[] = [
    ['the page itself', 0x105, 1, 1],
    ['it as first page', 0x105, 16, 1],
    ['it as middle page', 0x100, 16, 1],
    ['it as last page', 0xf6, 16, 1],
    ['the page before', 0x104, 1, 0],
    ['the page after', 0x106, 1, 0],
    ['all there is', 0, 2 ** 52, 1],
    ['the end of the address space', 2 ** 52 - 1, 1, 0],
  ];
  for (const [what, first, count, released] of cases) {
    test(`4 KiB entry at 0x105 with three references, range over ${what}`, () => {
      const { pins, cache } = start();
      for (let n = 0; n < 3; n++) cache.map(asGfn(0x105), SIZE_4K);
      assert.equal(cache.releaseRange(range(first, count)), released);
      assert.equal(pins.pages, 1 - released);
      cache.destroy();
    });
  }

  const straddles: readonly (readonly [
    what: string,
    first: number,
    count: number,
    touched: boolean,
    inRange: boolean,
  ])[] = [
    ['its first page', 0x200, 1, true, true],
    ['its second page', 0x201, 1, true, false],
    ['its last page', 0x3ff, 1, true, false],
    ['from its middle on', 0x300, 0x400, true, false],
    ['from far below into it', 0, 0x201, true, true],
    ['the page before', 0x1ff, 1, false, false],
    ['the page after', 0x400, 1, false, false],
    ['all there is from its second page', 0x201, 2 ** 51, true, false],
  ];
  for (const [what, first, count, touched, inRange] of straddles) {
    test(`2 MiB entry at 0x200, range over ${what}`, () => {
      const { pins, cache } = start();
      cache.map(asGfn(0x200), SIZE_2M);
      assert.equal(cache.releaseRange(range(first, count)), touched ? 1 : 0);
      assert.equal(pins.pages, touched ? 0 : 512);
      cache.destroy();
    });

    test(`quirk straddle-missed: the same, found only by its start (${what})`, () => {
      const { pins, cache } = start({ quirks: ['straddle-missed'] });
      cache.map(asGfn(0x200), SIZE_2M);
      assert.equal(cache.releaseRange(range(first, count)), inRange ? 1 : 0);
      assert.equal(pins.pages, inRange ? 0 : 512);
      cache.destroy();
    });
  }

  test('an address from before does nothing afterwards', () => {
    const { pins, cache } = start();
    const dma = cache.map(asGfn(5), SIZE_4K);
    cache.map(asGfn(5), SIZE_4K);
    assert.equal(cache.releaseRange(range(5, 1)), 1);
    cache.unmap(dma);
    assert.throws(() => cache.pin(dma), { name: 'GVT_DMA_UNKNOWN' });
    assert.equal(pins.pages, 0);
  });
});

describe('destroy', () => {
  test('takes everything whatever its references; list had named it', () => {
    const { pins, cache } = start();
    cache.map(asGfn(7), SIZE_4K);
    cache.map(asGfn(7), SIZE_4K);
    cache.map(asGfn(0x200), SIZE_2M);
    assert.deepEqual(
      [...cache.list()],
      [
        { gfn: 7, size: SIZE_4K, refs: 2, owner: NO_OWNER },
        { gfn: 0x200, size: SIZE_2M, refs: 1, owner: NO_OWNER },
      ],
    );
    assert.equal(cache.destroy(), 2);
    assert.deepEqual([pins.pages, cache.entries, cache.pages, [...cache.list()]], [0, 0, 0, []]);
    assert.equal(cache.destroy(), 0);
  });

  test('the cache can be filled again', () => {
    const { pins, cache } = start();
    for (let gfn = 0; gfn < 1000; gfn++) cache.map(asGfn(gfn), SIZE_4K);
    assert.equal(cache.destroy(), 1000);
    for (let gfn = 500; gfn < 1500; gfn++) cache.map(asGfn(gfn), SIZE_4K);
    assert.deepEqual([cache.entries, pins.pages], [1000, 1000]);
    cache.destroy();
  });
});

test('an entry costs less than 64 bytes when the arrays are full', () => {
  const { cache } = start();
  for (let gfn = 0; gfn < 1024; gfn++) cache.map(asGfn(gfn), SIZE_4K);
  assert.ok(cache.bytes / cache.entries < 64, `${cache.bytes / cache.entries}`);
  cache.destroy();
});

type Step =
  | { readonly kind: 'map'; readonly gfn: number; readonly size: number }
  | { readonly kind: 'unmap' | 'pin'; readonly gfn: number }
  | { readonly kind: 'release'; readonly gfn: number; readonly count: number };

const gfns = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 510, max: 520 }));
const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ kind: fc.constant('map' as const), gfn: gfns, size: fc.constantFrom(SIZE_4K, SIZE_4K, SIZE_2M) }),
    fc.record({ kind: fc.constantFrom('unmap' as const, 'pin' as const), gfn: gfns }),
    fc.record({ kind: fc.constant('release' as const), gfn: gfns, count: fc.integer({ min: 1, max: 600 }) }),
  ),
  { maxLength: 60 },
);

/** The rules once more, as slowly and plainly as they can be said. */
class Model {
  readonly entries = new Map<number, { pages: number; refs: number }>();

  apply(step: Step): void {
    const entry = this.entries.get(step.gfn);
    if (step.kind === 'map') {
      const pages = step.size / 4096;
      this.entries.set(step.gfn, { pages: Math.max(pages, entry?.pages ?? 0), refs: (entry?.refs ?? 0) + 1 });
    } else if (step.kind === 'pin' && entry) entry.refs += 1;
    else if (step.kind === 'unmap' && entry && --entry.refs === 0) this.entries.delete(step.gfn);
    else if (step.kind === 'release') {
      for (const [gfn, { pages }] of this.entries) {
        if (gfn < step.gfn + step.count && step.gfn < gfn + pages) this.entries.delete(gfn);
      }
    }
  }
}

const perform = (cache: DmaCache, pins: FakePins, step: Step): void => {
  if (step.kind === 'map') cache.map(asGfn(step.gfn), step.size);
  else if (step.kind === 'release') cache.releaseRange(range(step.gfn, step.count));
  else if (step.kind === 'unmap') cache.unmap(pins.hostFrame(step.gfn));
  else if (cache.refs(asGfn(step.gfn)) > 0) cache.pin(pins.hostFrame(step.gfn));
};

test('any order of steps gives the references and pins of a plain model', () => {
  fc.assert(
    fc.property(steps, (todo) => {
      const { pins, cache } = start();
      const model = new Model();
      for (const step of todo) {
        perform(cache, pins, step);
        model.apply(step);
      }
      const held = [...cache.list()].map(({ gfn, size, refs }) => [gfn, size / 4096, refs]).sort();
      assert.deepEqual(held, [...model.entries].map(([gfn, { pages, refs }]) => [gfn, pages, refs]).sort());
      const pinned = new Set<number>();
      for (const [gfn, { pages }] of model.entries) for (let page = 0; page < pages; page++) pinned.add(gfn + page);
      assert.equal(pins.pages, pinned.size);
      cache.destroy();
      assert.equal(pins.pages, 0);
    }),
    { numRuns: 150 },
  );
});
