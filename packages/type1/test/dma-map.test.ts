import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAST_FRAME } from '@pinion/core';
import { DmaMap } from '@pinion/type1';
import fc from 'fast-check';

interface Entry {
  readonly first: number;
  readonly last: number;
}

const entry = (first: number, last: number): Entry => ({ first, last });
const holding = (all: readonly Entry[], frame: number): Entry | undefined =>
  all.find(({ first, last }) => first <= frame && frame <= last);

/** Every lookup of `map` at `frame` (and of the range frame..until) against the same question to a sorted array. */
function compare(map: DmaMap<Entry>, model: readonly Entry[], frame: number, until: number): void {
  assert.equal(map.find(frame), holding(model, frame));
  assert.equal(
    map.firstAtOrAfter(frame),
    model.find(({ last }) => last >= frame),
  );
  assert.equal(
    map.next(frame),
    model.find(({ first }) => first > frame),
  );
  assert.equal(
    map.findOverlap(frame, until),
    model.find(({ first, last }) => first <= until && frame <= last),
  );
}

type Step = (map: DmaMap<Entry>, model: Entry[]) => void;

const insert =
  (first: number, length: number): Step =>
  (map, model) => {
    const added = entry(first, Math.min(LAST_FRAME, first + length));
    if (model.some((other) => other.first <= added.last && added.first <= other.last)) {
      assert.throws(() => map.insert(added), { name: 'TYPE1_ENTRY_OVERLAP', errno: 'EEXIST' });
      return;
    }
    map.insert(added);
    model.push(added);
    model.sort((a, b) => a.first - b.first);
  };

const remove =
  (nth: number): Step =>
  (map, model) => {
    const [gone] = model.splice(nth % Math.max(1, model.length), 1);
    if (gone === undefined) return;
    assert.equal(map.remove({ ...gone }), false, 'an equal entry is not the entry');
    assert.equal(map.remove(gone), true);
    assert.equal(map.remove(gone), false, 'it went already');
  };

const look =
  (frame: number, length: number): Step =>
  (map, model) =>
    compare(map, model, frame, frame + length);

/** Looks so often that the map indexes its entries, then looks through the index. */
const study =
  (around: number): Step =>
  (map, model) => {
    for (let i = 0; i < model.length + 70; i++) assert.equal(map.find(LAST_FRAME + 1 + i), undefined);
    for (let i = 0; i < 20; i++) compare(map, model, around + i * 3, around + i * 5);
    for (const { first, last } of model.filter((_, i) => i % 7 === 0)) {
      for (const frame of [first - 1, first, last, last + 1]) assert.equal(map.find(frame), holding(model, frame));
    }
  };

/** Many small entries at once, forwards or backwards, so that chunks fill, split and overflow into neighbours. */
const fill =
  (first: number, count: number, gap: number, backwards: boolean): Step =>
  (map, model) => {
    for (let i = 0; i < count; i++) insert(first + (backwards ? count - 1 - i : i) * gap, 0)(map, model);
  };

const drain =
  (from: number, count: number): Step =>
  (map, model) => {
    for (let i = 0; i < count && model.length > 0; i++) remove(from)(map, model);
  };

const frames = fc.oneof(
  { weight: 5, arbitrary: fc.nat({ max: 3000 }) },
  { weight: 1, arbitrary: fc.nat({ max: 2000 }).map((back) => LAST_FRAME - back) },
  { weight: 1, arbitrary: fc.maxSafeNat().map((any) => any % (LAST_FRAME + 1)) },
);
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(frames, fc.nat({ max: 20 })).map(([first, length]) => insert(first, length)) },
  { weight: 3, arbitrary: fc.nat({ max: 5000 }).map(remove) },
  { weight: 4, arbitrary: fc.tuple(frames, fc.nat({ max: 100 })).map(([frame, length]) => look(frame, length)) },
  { weight: 2, arbitrary: frames.map(study) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat({ max: 3000 }), fc.nat({ max: 300 }), fc.constantFrom(1, 2, 7), fc.boolean())
      .map(([first, count, gap, backwards]) => fill(first, count, gap, backwards)),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat({ max: 500 }), fc.nat({ max: 200 })).map(([from, count]) => drain(from, count)),
  },
);

test('answers as a sorted array of intervals does', () => {
  fc.assert(
    fc.property(fc.array(steps, { maxLength: 80, size: 'max' }), (script) => {
      const map = new DmaMap<Entry>();
      const model: Entry[] = [];
      for (const step of script) step(map, model);
      assert.equal(map.size, model.length);
      assert.deepEqual([...map], model);
      for (const { first, last } of model.slice(0, 50)) {
        for (const frame of [first - 1, first, last, last + 1]) compare(map, model, frame, frame + 1);
      }
      for (const each of model) assert.equal(map.remove(each), true);
      assert.equal(map.size, 0);
      assert.equal(map.first(), undefined);
    }),
    { numRuns: 60 },
  );
});

test('five thousand entries in scattered order, taken out in another', () => {
  const map = new DmaMap<Entry>();
  const all = Array.from({ length: 5000 }, (_, i) => entry(i * 10, i * 10 + 4));
  for (let i = 0; i < 5000; i++) map.insert(all[(i * 1877) % 5000] ?? entry(-1, -1));
  assert.deepEqual([...map], all);
  for (let i = 0; i < 5000; i++) {
    const gone = all[(i * 2741) % 5000] ?? entry(-1, -1);
    assert.equal(map.find(gone.first + 4), gone);
    assert.equal(map.find(gone.first + 5), undefined);
    assert.equal(map.remove(gone), true);
    assert.equal(map.find(gone.first), undefined);
  }
  assert.equal(map.size, 0);
});

test('the last frame of the address space is an ordinary frame', () => {
  const map = new DmaMap<Entry>();
  const [low, high] = [entry(0, 0), entry(LAST_FRAME - 1, LAST_FRAME)];
  map.insert(high);
  map.insert(low);
  assert.equal(map.find(LAST_FRAME), high);
  assert.equal(map.find(LAST_FRAME - 2), undefined);
  assert.equal(map.find(LAST_FRAME + 1), undefined);
  assert.equal(map.next(LAST_FRAME), undefined);
  assert.equal(map.next(0), high);
  assert.equal(map.firstAtOrAfter(LAST_FRAME), high);
  assert.equal(map.findOverlap(1, LAST_FRAME - 2), undefined);
  assert.deepEqual([...map], [low, high]);
  assert.equal(map.remove(high), true);
  assert.equal(map.remove(low), true);
});

test('one entry may be the whole space', () => {
  const map = new DmaMap<Entry>();
  const whole = entry(0, LAST_FRAME);
  map.insert(whole);
  assert.equal(map.find(2 ** 51), whole);
  assert.throws(() => map.insert(entry(5, 5)), { name: 'TYPE1_ENTRY_OVERLAP' });
  assert.equal(map.remove(whole), true);
  assert.equal(map.size, 0);
});

for (const [what, first, last] of [
  ['a negative first frame', -1, 5],
  ['a last frame before the first', 5, 4],
  ['a last frame beyond the space', 5, LAST_FRAME + 1],
  ['half a first frame', 0.5, 5],
  ['half a last frame', 0, 5.5],
  ['no number first', Number.NaN, 5],
  ['no number last', 0, Number.NaN],
  ['an infinite last frame', 0, Number.POSITIVE_INFINITY],
] as const) {
  test(`insert refuses ${what} and changes nothing`, () => {
    const map = new DmaMap<Entry>();
    assert.throws(() => map.insert(entry(first, last)), { name: 'TYPE1_ENTRY_RANGE', errno: 'EINVAL' });
    assert.equal(map.size, 0);
    assert.deepEqual([...map], []);
  });
}

for (const [what, first, last] of [
  ['the same frames', 10, 19],
  ['a part of it', 12, 13],
  ['more than it', 0, 30],
  ['its first frame', 5, 10],
  ['its last frame', 19, 25],
] as const) {
  test(`insert refuses an entry that covers ${what} of another, by name`, () => {
    const map = new DmaMap<Entry>();
    const there = entry(10, 19);
    map.insert(there);
    assert.throws(() => map.insert(entry(first, last)), {
      name: 'TYPE1_ENTRY_OVERLAP',
      errno: 'EEXIST',
      message: /\[0xa000, 0x13fff\]/,
    });
    assert.deepEqual([...map], [there]);
    assert.equal(map.remove(there), true);
  });
}

test('lookups outside the space find nothing, or what comes after', () => {
  const map = new DmaMap<Entry>();
  const there = entry(10, 19);
  map.insert(there);
  for (const frame of [-1, -(2 ** 53), Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    assert.equal(map.find(frame), undefined, `find(${frame})`);
  }
  assert.equal(map.firstAtOrAfter(-5), there);
  assert.equal(map.firstAtOrAfter(Number.POSITIVE_INFINITY), undefined);
  assert.equal(map.findOverlap(20, 10), undefined);
  assert.equal(map.remove(entry(12, 13)), false);
  assert.equal(map.remove(there), true);
});

for (const [what, at] of [
  ['evenly spread', (i: number) => i * 16],
  ['in two far clumps', (i: number) => (i % 2) * (LAST_FRAME - 20_000) + i * 4],
  ['ever farther apart', (i: number) => Math.floor(1.0002 ** (i * 40) + i * 4)],
  ['all at the end but one', (i: number) => (i === 0 ? 0 : LAST_FRAME - 20_000 + i * 4)],
] as const) {
  test(`two thousand entries ${what} are found before and after the index is made, and after it is dropped`, () => {
    const map = new DmaMap<Entry>();
    const all = Array.from({ length: 2000 }, (_, i) => entry(at(i), at(i) + 2));
    for (const each of all) map.insert(each);
    for (let round = 0; round < 3; round++) {
      for (const { first, last } of all) {
        assert.equal(map.find(first)?.first, first);
        assert.equal(map.find(last)?.last, last);
        assert.equal(map.find(last + 1), undefined);
      }
    }
    for (const each of all) {
      assert.equal(map.remove(each), true);
      assert.equal(map.find(each.first), undefined);
    }
    assert.equal(map.size, 0);
  });
}

test('a walk survives what is removed and inserted on the way', () => {
  const map = new DmaMap<Entry>();
  const all = Array.from({ length: 1000 }, (_, i) => entry(i * 4, i * 4 + 1));
  for (const each of all) map.insert(each);
  const seen: number[] = [];
  for (const each of map) {
    seen.push(each.first);
    map.remove(each);
    const after = map.next(each.last);
    if (after !== undefined && after.first % 12 === 0) map.remove(after);
    // Behind the walk: not shown.
    map.insert(entry(each.first, each.first));
  }
  assert.deepEqual(
    seen,
    all.map(({ first }) => first).filter((first) => first === 0 || first % 12 !== 0),
  );
  for (const each of [...map]) assert.equal(map.remove(each), true);
  assert.equal(map.size, 0);
});

test('bytes follow the entries: small when few, at most 38 each when many, given back when drained', () => {
  const map = new DmaMap<Entry>();
  map.insert(entry(0, 0));
  assert.ok(map.byteSize() <= 160, `${map.byteSize()} bytes for one`);
  const all = Array.from({ length: 20_000 }, (_, i) =>
    entry(2 + ((i * 7919) % 20_000) * 2, 3 + ((i * 7919) % 20_000) * 2),
  );
  for (const each of all) map.insert(each);
  assert.ok(map.byteSize() <= 38 * map.size, `${map.byteSize() / map.size} bytes per entry`);
  for (const each of all) map.remove(each);
  assert.ok(map.byteSize() <= 1024, `${map.byteSize()} bytes for one after the flood`);
  map.clear();
  assert.equal(map.size, 0);
  assert.equal(map.find(0), undefined);
});
