import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AdaptivePinTable,
  createPinTable,
  MAX_REFERENCES,
  PIN_TABLE_KINDS,
  type PinTable,
  type PinTableKind,
  RadixPinTable,
  SEGMENT_PAGES,
  TreePinTable,
} from '@pinion/type1';
import fc from 'fast-check';

type Pin = { pfn: number; references: number };
type Model = Map<number, Pin>;
const NPAGES = 1 << 20;
const BIG_PFN = 2 ** 52 - 1;

/** The model's pins of first..last, in the form that `listed` gives. */
const expected = (model: Model, first: number, last: number): number[][] =>
  [...model]
    .filter(([page]) => first <= page && page <= last)
    .sort(([a], [b]) => a - b)
    .map(([page, pin]) => [page, pin.pfn, pin.references]);

const listed = (table: PinTable, first: number, last: number): number[][] => {
  const seen: number[][] = [];
  table.forEach(first, last, (page, pfn, references) => seen.push([page, pfn, references]));
  return seen;
};

/** One random step, done to both; the answers must agree. */
type Step = (table: PinTable, model: Model) => void;

const pin =
  (page: number, pfn: number): Step =>
  (table, model) => {
    const known = model.get(page);
    assert.equal(table.acquire(page), known?.pfn ?? -1);
    if (known === undefined) table.insert(page, pfn);
    model.set(page, { pfn: known?.pfn ?? pfn, references: (known?.references ?? 0) + 1 });
  };

const unpin =
  (page: number): Step =>
  (table, model) => {
    const known = model.get(page);
    const left = known === undefined ? -1 : known.references - 1;
    assert.equal(table.release(page), left);
    if (known !== undefined && left === 0) assert.equal(table.releasedPfn, known.pfn);
    if (left === 0) model.delete(page);
    else if (known !== undefined) known.references = left;
  };

const look =
  (page: number): Step =>
  (table, model) => {
    assert.equal(table.pfn(page), model.get(page)?.pfn ?? -1);
    assert.equal(table.references(page), model.get(page)?.references ?? 0);
  };

const list =
  (first: number, length: number): Step =>
  (table, model) => {
    const want = expected(model, first, first + length);
    assert.deepEqual(listed(table, first, first + length), want);
    assert.equal(table.firstIn(first, first + length), want[0]?.[0] ?? -1);
  };

/** Pins or unpins every `stride`th page of a stretch, forwards or backwards: what makes chunks crowded and thin again. */
const sweep =
  (what: 'pin' | 'unpin', first: number, stride: number, count: number): Step =>
  (table, model) => {
    for (let i = 0; i < count; i++) {
      const page = (first + i * stride) % NPAGES;
      if (what === 'pin') pin(page, page * 3)(table, model);
      else unpin(page)(table, model);
    }
  };

const pages = fc.oneof(
  { weight: 4, arbitrary: fc.nat({ max: 1500 }) },
  { weight: 1, arbitrary: fc.nat({ max: NPAGES - 1 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 511, 512, 513, 262143, 262144, NPAGES - 1) },
);
const pfns = fc.oneof(fc.nat({ max: 2 ** 31 - 1 }), fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 7, BIG_PFN));
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(pages, pfns).map(([page, pfn]) => pin(page, pfn)) },
  { weight: 5, arbitrary: pages.map(unpin) },
  { weight: 2, arbitrary: pages.map(look) },
  { weight: 1, arbitrary: fc.tuple(pages, fc.nat({ max: 3000 })).map(([first, length]) => list(first, length)) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc.constantFrom('pin' as const, 'unpin' as const),
        pages,
        fc.constantFrom(1, 2, 5, 64),
        fc.nat({ max: 700 }),
      )
      .map(([what, first, stride, count]) => sweep(what, first, stride, count)),
  },
);

for (const kind of PIN_TABLE_KINDS) {
  test(`${kind}: answers as a map of counted pins does`, () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 80, size: 'max' }), (script) => {
        const table = createPinTable(kind, NPAGES);
        const model: Model = new Map();
        for (const step of script) step(table, model);
        assert.equal(table.pages, model.size);
        assert.deepEqual(listed(table, 0, NPAGES - 1), expected(model, 0, NPAGES - 1));
        for (const [page, { references }] of model) for (let i = 0; i < references; i++) table.release(page);
        assert.equal(table.pages, 0);
        assert.deepEqual(listed(table, 0, NPAGES - 1), []);
      }),
      { numRuns: kind === 'flat' ? 15 : 60 },
    );
  });

  test(`${kind}: a full mapping pinned in scattered order, unpinned in another`, () => {
    const table = createPinTable(kind, 8192);
    for (let i = 0; i < 8192; i++) table.insert((i * 4099) % 8192, i + 1);
    assert.equal(table.pages, 8192);
    assert.equal(table.pfn(4099), 2);
    for (let i = 0; i < 8192; i++) assert.equal(table.release((i * 1021) % 8192), 0);
    assert.equal(table.pages, 0);
    assert.equal(table.firstIn(0, 8191), -1);
  });

  test(`${kind}: counts beyond 16 bits and up to the last reference`, () => {
    const table = createPinTable(kind, 16);
    table.insert(3, 9);
    for (let i = 0; i < 70_000; i++) table.acquire(3);
    assert.equal(table.references(3), 70_001);
    for (let i = 0; i < 70_000; i++) table.release(3);
    assert.equal(table.release(3), 0);
    assert.equal(table.release(3), -1);
    assert.equal(table.pages, 0);
  });

  test(`${kind}: frames of every width, and the first wide one after narrow ones`, () => {
    const table = createPinTable(kind, 4096);
    const wide = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 45 + 1, BIG_PFN];
    for (let page = 0; page < 2048; page++) table.insert(page, page % 2 === 0 ? page : (wide[page % 8] ?? 0));
    for (let page = 0; page < 2048; page++) {
      assert.equal(table.acquire(page), page % 2 === 0 ? page : wide[page % 8]);
    }
    for (let page = 0; page < 2048; page++) table.release(page);
    for (let page = 2047; page >= 0; page--) {
      assert.equal(table.release(page), 0);
      assert.equal(table.releasedPfn, page % 2 === 0 ? page : wide[page % 8]);
    }
    // A narrow frame where a wide one was.
    table.insert(7, 5);
    assert.equal(table.pfn(7), 5);
    table.clear();
    assert.equal(table.pages, 0);
  });

  test(`${kind}: a visitor may release the page it is shown`, () => {
    const table = createPinTable(kind, 4096);
    const want: number[] = [];
    for (let page = 0; page < 4096; page += page % 1024 < 300 ? 1 : 37) {
      table.insert(page, page + 10);
      want.push(page);
    }
    const seen: number[] = [];
    table.forEach(0, 4095, (page, pfn) => {
      assert.equal(pfn, page + 10);
      assert.equal(table.release(page), 0);
      seen.push(page);
    });
    assert.deepEqual(seen, want);
    assert.equal(table.pages, 0);
  });

  test(`${kind}: clear forgets pins, and the table serves on`, () => {
    const table = createPinTable(kind, 2000);
    for (let page = 0; page < 2000; page++) table.insert(page, page);
    table.clear();
    assert.equal(table.pages, 0);
    assert.equal(table.byteSize(), 0);
    assert.equal(table.acquire(5), -1);
    table.insert(5, 6);
    assert.deepEqual(listed(table, 0, 1999), [[5, 6, 1]]);
    assert.equal(table.release(5), 0);
  });

  test(`${kind}: what is no page of the mapping is not pinned`, () => {
    const table = createPinTable(kind, 100);
    table.insert(1, 1);
    for (const page of [-1, 100, 0.5, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 32 + 1, 2 ** 53]) {
      assert.equal(table.acquire(page), -1, `acquire(${page})`);
      assert.equal(table.release(page), -1, `release(${page})`);
      assert.equal(table.pfn(page), -1, `pfn(${page})`);
      assert.equal(table.references(page), 0, `references(${page})`);
    }
    assert.deepEqual(listed(table, -5, 2 ** 40), [[1, 1, 1]]);
    assert.deepEqual(listed(table, 2, 1), []);
    assert.equal(table.firstIn(200, 300), -1);
    assert.equal(table.release(1), 0);
  });

  for (const [what, page, pfn, name, errno] of [
    ['the page after the mapping', 100, 1, 'TYPE1_PIN_OUTSIDE', 'EINVAL'],
    ['a negative page', -1, 1, 'TYPE1_PIN_OUTSIDE', 'EINVAL'],
    ['half a page', 1.5, 1, 'TYPE1_PIN_OUTSIDE', 'EINVAL'],
    ['no number as page', Number.NaN, 1, 'TYPE1_PIN_OUTSIDE', 'EINVAL'],
    ['a negative frame', 2, -1, 'TYPE1_PIN_BAD_PFN', 'EINVAL'],
    ['a frame beyond 2^52', 2, 2 ** 52, 'TYPE1_PIN_BAD_PFN', 'EINVAL'],
    ['half a frame', 2, 0.5, 'TYPE1_PIN_BAD_PFN', 'EINVAL'],
    ['no number as frame', 2, Number.NaN, 'TYPE1_PIN_BAD_PFN', 'EINVAL'],
    ['a page that is pinned', 50, 7, 'TYPE1_PIN_EXISTS', 'EEXIST'],
  ] as const) {
    test(`${kind}: insert refuses ${what} and changes nothing`, () => {
      const table = createPinTable(kind, 100);
      table.insert(50, 77);
      assert.throws(() => table.insert(page, pfn), { name, errno });
      assert.deepEqual(listed(table, 0, 99), [[50, 77, 1]]);
      assert.equal(table.pages, 1);
      assert.equal(table.release(50), 0);
    });
  }

  for (const npages of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 52 + 1]) {
    test(`${kind}: no table of ${npages} pages`, () => {
      assert.throws(() => createPinTable(kind, npages), { name: 'TYPE1_PIN_TABLE_SIZE', errno: 'EINVAL' });
    });
  }
}

for (const kind of ['tree', 'radix', 'adaptive'] as const) {
  for (const npages of [2 ** 31, 2 ** 33 + 5, 2 ** 52]) {
    test(`${kind}: the ends of a mapping of ${npages} pages, without memory for what lies between`, () => {
      const table = createPinTable(kind, npages);
      const ends = [0, 511, 2 ** 18, 2 ** 27 + 3, 2 ** 31 - 1, npages / 2 - 0.5 * (npages % 2), npages - 1];
      const far = [...new Set(ends)].sort((a, b) => a - b);
      for (const page of far) table.insert(page, page % 1000);
      assert.deepEqual(
        listed(table, 0, npages - 1),
        far.map((page) => [page, page % 1000, 1]),
      );
      assert.equal(
        table.firstIn(2 ** 27 + 4, npages - 1),
        far.find((page) => page > 2 ** 27 + 3),
      );
      assert.equal(table.firstIn(npages - 1, npages - 1), npages - 1);
      assert.ok(table.byteSize() < 120_000, `${table.byteSize()} bytes`);
      for (const page of far) assert.equal(table.acquire(page), page % 1000);
      assert.throws(() => table.insert(npages - 1, 1), { name: 'TYPE1_PIN_EXISTS' });
      assert.throws(() => table.insert(npages, 1), { name: 'TYPE1_PIN_OUTSIDE' });
      for (const page of far) assert.equal(table.release(page), 1);
      for (const page of far) {
        assert.equal(table.release(page), 0);
        assert.equal(table.releasedPfn, page % 1000);
      }
      assert.equal(table.pages, 0);
    });
  }
}

test('flat: refuses a mapping above 1 TiB', () => {
  assert.throws(() => createPinTable('flat', 2 ** 28 + 1), { name: 'TYPE1_PIN_TABLE_FLAT_SIZE', errno: 'E2BIG' });
  assert.equal(createPinTable('flat', 2 ** 28).byteSize(), 0);
});

test('an unknown kind is refused by name', () => {
  const kind = 'list' as PinTableKind; // why: what a caller without types may pass
  assert.throws(() => createPinTable(kind, 1), { name: 'TYPE1_PIN_TABLE_KIND', errno: 'EINVAL', message: /'list'/ });
});

test('adaptive: few pins stand in an array, scattered ones in a hash, crowded chunks in leaves, and back', () => {
  const table = new AdaptivePinTable(SEGMENT_PAGES);
  assert.equal(table.byteSize(), 0);
  for (let i = 0; i < 8; i++) table.insert(i * 100_000, i);
  assert.deepEqual(table.places, { few: 8, scattered: 0, leaves: 0 });
  table.insert(9, 9);
  assert.deepEqual(table.places, { few: 0, scattered: 9, leaves: 0 });
  for (let page = 1024; page < 1536; page++) table.insert(page, page);
  assert.deepEqual(table.places, { few: 0, scattered: 9, leaves: 1 });
  for (let page = 1024; page < 1024 + 448; page++) table.release(page);
  assert.deepEqual(table.places, { few: 0, scattered: 9, leaves: 1 });
  table.release(1472);
  assert.deepEqual(table.places, { few: 0, scattered: 9 + 63, leaves: 0 });
  for (let page = 1473; page < 1536; page++) assert.equal(table.pfn(page), page);
  for (let page = 1473; page < 1536; page++) table.release(page);
  for (let i = 0; i < 8; i++) table.release(i * 100_000);
  assert.deepEqual(table.places, { few: 1, scattered: 0, leaves: 0 });
  assert.equal(table.release(9), 0);
  assert.equal(table.byteSize(), 0);
});

test('adaptive: references and wide frames survive every move', () => {
  const table = new AdaptivePinTable(1 << 20);
  for (let page = 0; page < 512; page++) {
    table.insert(page, 2 ** 33 + page);
    for (let i = 0; i < page % 4; i++) table.acquire(page);
  }
  assert.equal(table.places.leaves, 1);
  for (let page = 511; page >= 60; page--) for (let i = 0; i <= page % 4; i++) table.release(page);
  assert.deepEqual(table.places, { few: 0, scattered: 60, leaves: 0 });
  assert.deepEqual(listed(table, 58, 100), [
    [58, 2 ** 33 + 58, 3],
    [59, 2 ** 33 + 59, 4],
  ]);
  table.clear();
});

test('adaptive: a page pinned and unpinned in turn beside a full chunk moves nothing', () => {
  const table = new AdaptivePinTable(1 << 20);
  for (let page = 0; page < 512; page++) table.insert(page, page);
  const { leaves } = table.places;
  for (let i = 0; i < 10; i++) {
    table.insert(512, 1);
    assert.equal(table.places.leaves, leaves + 1);
    assert.equal(table.release(512), 0);
    assert.equal(table.places.leaves, leaves);
  }
  table.clear();
});

for (const kind of PIN_TABLE_KINDS) {
  test(`${kind}: between a page's failed acquire and its insert others may come and go`, () => {
    const table = createPinTable(kind, NPAGES);
    const model: Model = new Map();
    const pageOf = (i: number): number => (i * 7919 * 64) % NPAGES;
    for (let i = 0; i < 100; i++) pin(pageOf(i), i)(table, model);
    for (let i = 100; i < 3000; i++) {
      assert.equal(table.acquire(pageOf(i)), -1);
      unpin(pageOf(i - 100))(table, model);
      if (i % 3 === 0) pin(pageOf(i) + 1, i)(table, model);
      table.insert(pageOf(i), i);
      model.set(pageOf(i), { pfn: i, references: 1 });
      if (i % 3 === 0) unpin(pageOf(i) + 1)(table, model);
    }
    assert.deepEqual(listed(table, 0, NPAGES - 1), expected(model, 0, NPAGES - 1));
    for (const page of [...model.keys()]) unpin(page)(table, model);
    assert.equal(table.pages, 0);
  });
}

test('adaptive: never above 64 bytes per page once there are a hundred', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 60 }), fc.nat({ max: 511 })), { minLength: 100, maxLength: 1500 }),
      (all) => {
        const table = new AdaptivePinTable(1 << 15);
        for (const [chunk, slot] of all) if (table.acquire(chunk * 512 + slot) < 0) table.insert(chunk * 512 + slot, 1);
        assert.ok(table.byteSize() <= 64 * table.pages, `${table.byteSize()} bytes for ${table.pages} pages`);
        table.clear();
      },
    ),
    { numRuns: 30 },
  );
});

test('adaptive: what keys happen to collide does not change an answer (two tables, one history)', () => {
  const [one, other] = [new AdaptivePinTable(1 << 20), new TreePinTable(1 << 20)];
  for (let i = 0; i < 3000; i++) for (const table of [one, other]) table.insert((i * 349_525) % (1 << 20), i);
  assert.deepEqual(listed(one, 0, 1 << 20), listed(other, 0, 1 << 20));
  for (const table of [one, other]) table.clear();
});

test('radix: levels come with the pages that need them and go with the last pin', () => {
  const table = new RadixPinTable(SEGMENT_PAGES);
  assert.equal(table.levels, 0);
  for (const [page, levels] of [
    [0, 1],
    [2 ** 18 - 1, 1],
    [2 ** 18, 2],
    [2 ** 27, 3],
    [2 ** 31 - 1, 3],
  ] as const) {
    table.insert(page, 1);
    assert.equal(table.levels, levels);
  }
  const full = table.byteSize();
  table.insert(1000, 1);
  assert.equal(table.byteSize(), full + 4096);
  assert.equal(table.release(1000), 0);
  assert.equal(table.byteSize(), full);
  assert.equal(table.release(2 ** 27), 0);
  // The leaf and the directory that held nothing else; the directory above holds 2^31 - 1 too.
  assert.equal(table.byteSize(), full - 4096 - 2 * 4096);
  for (const page of [0, 2 ** 18 - 1, 2 ** 18, 2 ** 31 - 1]) table.release(page);
  assert.equal(table.levels, 0);
  assert.equal(table.byteSize(), 0);
});

test('radix: the first page far up gets one path of directories', () => {
  const table = new RadixPinTable(SEGMENT_PAGES);
  table.insert(2 ** 27, 1);
  assert.equal(table.byteSize(), 3 * 4096 + 4096);
  assert.equal(table.release(2 ** 27), 0);
});

test('tree: stays red-black through random insertions and removals', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 80 }), { maxLength: 200, size: 'max' }), (script) => {
      const table = new TreePinTable(100);
      for (const page of script) {
        if (table.release(page) < 0) table.insert(page, page);
        assert.ok(table.blackHeight() > 0);
      }
      table.clear();
    }),
    { numRuns: 100 },
  );
});

/** Where a table keeps the references of its only page, 2: four billion calls would take minutes. */
const countCells: readonly (readonly [kind: PinTableKind, path: readonly string[], cell: number])[] = [
  ['tree', ['counts'], 1],
  ['flat', ['run', 'words'], 4],
  ['radix', ['cached', 'words'], 4],
  ['adaptive', ['few', 'cells'], 2],
];
for (const [kind, path, cell] of countCells) {
  test(`${kind}: the reference after the last is refused`, () => {
    const table = createPinTable(kind, 4);
    table.insert(2, 5);
    const cells: object = path.reduce((object: object, name) => Reflect.get(object, name), table);
    Reflect.set(cells, cell, MAX_REFERENCES);
    assert.equal(table.references(2), MAX_REFERENCES);
    assert.throws(() => table.acquire(2), { name: 'TYPE1_PIN_OVERFLOW', errno: 'EOVERFLOW' });
    assert.equal(table.references(2), MAX_REFERENCES);
    assert.equal(table.release(2), MAX_REFERENCES - 1);
    assert.equal(table.acquire(2), 5);
    table.clear();
  });
}
