import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ExploredWorld, explore, FakeClock, replay, type Scenario } from '@pinion/testkit';
import fc from 'fast-check';

const scenario = (start: () => ExploredWorld): Scenario => ({ name: 'test', start });

/** Two actors with so many steps each, which write down what they do. */
function orders(a: number, b: number, seen: string[]): Scenario {
  return scenario(() => {
    const done: string[] = [];
    const steps = (name: string, count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, at) => [`${at}`, () => void done.push(name)]));
    return {
      actors: [
        { name: 'a', steps: steps('a', a) },
        { name: 'b', steps: steps('b', b) },
      ],
      end: () => void seen.push(done.join('')),
    };
  });
}

describe('which schedules are played', () => {
  test('all orders of two actors’ steps, each once', async () => {
    const seen: string[] = [];
    const result = await explore(orders(3, 3, seen));
    assert.deepEqual([seen.length, new Set(seen).size, result.schedules, result.exhausted], [20, 20, 20, true]);
    assert.equal(seen[0], 'aaabbb');
    assert.ok(seen.every((order) => [...order].sort().join('') === 'aaabbb'));
  });

  test('as many as binomials say, for any lengths', async () => {
    const binomial = (n: number, k: number): number => (k === 0 ? 1 : (binomial(n - 1, k - 1) * n) / k);
    const length = fc.integer({ min: 1, max: 4 });
    await fc.assert(
      fc.asyncProperty(length, length, async (a, b) => {
        const seen: string[] = [];
        const result = await explore(orders(a, b, seen), { bound: 100 });
        assert.deepEqual([seen.length, new Set(seen).size, result.exhausted], [binomial(a + b, a), seen.length, true]);
      }),
      { numRuns: 16 },
    );
  });

  test('the bound: whole levels first, then a sample that depends on the seed alone', async () => {
    const runs: string[][] = [];
    for (const seed of [7, 7, 8]) {
      const seen: string[] = [];
      const result = await explore(orders(6, 6, seen), { bound: 40, seed });
      assert.deepEqual([result.schedules, result.exhausted, new Set(seen).size], [40, false, 40]);
      assert.equal(result.depth, 2);
      runs.push(seen);
    }
    assert.deepEqual(runs[0], runs[1]);
    assert.notDeepEqual(runs[0], runs[2]);
  });

  test('a bound that is exactly met', async () => {
    const result = await explore(orders(2, 1, []), { bound: 3 });
    assert.deepEqual([result.schedules, result.exhausted], [3, true]);
  });
});

/** Reads a counter, waits, writes it back: an update is lost if two do so at once. */
function counters(updates: number): Scenario {
  return scenario(() => {
    let count = 0;
    const add = async (): Promise<void> => {
      const read = count;
      await null;
      await null;
      count = read + 1;
    };
    return {
      actors: ['a', 'b'].map((name) => ({ name, steps: { adds: add } })),
      end: () => assert.equal(count, updates, 'an update was lost'),
    };
  });
}

describe('a bug that only some orders have', () => {
  test('is found between two turns of a promise, and seen again by its schedule', async () => {
    const result = await explore(counters(2));
    assert.ok(result.failed);
    assert.match(String(result.failed.error), /an update was lost/);
    assert.deepEqual(result.failed.trace, ['a: adds', 'b: adds', 'a: adds: done', 'b: adds: done']);
    const again = await replay(counters(2), result.failed.schedule);
    assert.deepEqual([again?.schedule, again?.trace], [result.failed.schedule, result.failed.trace]);
    assert.equal(await replay(counters(2), 'default'), undefined);
  });

  test('those with fewer deviations are played before those with more', async () => {
    const deviations: number[] = [];
    for (let nth = 1; nth <= 20; nth++) {
      let ends = 0;
      const base = orders(3, 3, []);
      const start = async () => ({ ...(await base.start()), end: () => assert.ok(++ends < nth, 'this one') });
      const { schedules, failed } = await explore({ name: 'nth', start });
      assert.equal(schedules, nth);
      deviations.push(failed?.schedule === 'default' ? 0 : (failed?.schedule.split(' ').length ?? -1));
    }
    assert.deepEqual(deviations, [...deviations].sort());
    assert.deepEqual([deviations[0], deviations[1]], [0, 1]);
  });

  const places: readonly (readonly [
    where: string,
    world: () => Partial<ExploredWorld> & Pick<ExploredWorld, 'actors'>,
  ])[] = [
    ['a step that throws', () => ({ actors: [{ name: 'a', steps: { breaks: () => assert.fail('here') } }] })],
    ['a step that rejects', () => ({ actors: [{ name: 'a', steps: { breaks: async () => assert.fail('here') } }] })],
    ['the check', () => ({ actors: [{ name: 'a', steps: { goes: () => {} } }], check: () => assert.fail('here') })],
    ['the end', () => ({ actors: [{ name: 'a', steps: {} }], end: () => assert.fail('here') })],
  ];
  for (const [where, world] of places) {
    test(`in ${where}: named, and the world is tidied up`, async () => {
      let abandoned = 0;
      const result = await explore(scenario(() => ({ end: () => {}, abandon: () => void abandoned++, ...world() })));
      assert.match(String(result.failed?.error), /here/);
      assert.deepEqual([abandoned, result.schedules, result.depth], [1, 1, -1]);
    });
  }
});

describe('time', () => {
  const timed = (horizon: number | undefined, seen: string[]): Scenario =>
    scenario(() => {
      const clock = new FakeClock();
      const done: string[] = [];
      for (const due of [0, 5, 50]) clock.after(due, () => void done.push(`${due}`));
      return {
        actors: [{ name: 'a', steps: { goes: () => void done.push('a') } }],
        clock,
        ...(horizon === undefined ? {} : { horizon }),
        end: () => void seen.push(done.join(' ')),
      };
    });

  test('timers run in their order, at any place, up to the horizon', async () => {
    const seen: string[] = [];
    assert.equal((await explore(timed(10, seen))).exhausted, true);
    assert.deepEqual(seen.sort(), ['0 5 a', '0 a 5', 'a 0 5']);
  });

  test('without a horizon only what is due at the start', async () => {
    const seen: string[] = [];
    await explore(timed(undefined, seen));
    assert.deepEqual(seen.sort(), ['0 a', 'a 0']);
  });

  test('a promise that needs a timer gets it', async () => {
    const clocked = scenario(() => {
      const clock = new FakeClock();
      const waits = () => new Promise<void>((resolve) => void clock.after(3, resolve));
      return {
        actors: [{ name: 'a', steps: { waits, goes: () => {} } }],
        clock,
        horizon: 3,
        end: () => assert.equal(clock.now(), 3),
      };
    });
    assert.equal((await explore(clocked)).exhausted, true);
  });
});

describe('scenarios that never end', () => {
  test('a promise that never settles is named', async () => {
    const stuck = scenario(() => ({
      actors: [{ name: 'vmm', steps: { unmaps: () => new Promise<void>(() => {}) } }],
      end: () => {},
    }));
    const { failed } = await explore(stuck);
    assert.match(String(failed?.error), /vmm wait\(s\) for something that never comes, after 'vmm: unmaps'/);
  });

  test('a timer that starts itself again', async () => {
    const endless = scenario(() => {
      const clock = new FakeClock();
      const again = (): void => void clock.after(0, again);
      again();
      return { actors: [{ name: 'a', steps: {} }], clock, end: () => {} };
    });
    const { failed } = await explore(endless);
    assert.match(String(failed?.error), /more than \d+ steps/);
  });
});

const bad: readonly (readonly [text: string, why: RegExp])[] = [
  ['', /choice point:option/],
  ['1', /choice point:option/],
  ['1:0', /choice point:option/],
  ['-1:1', /choice point:option/],
  ['1:1;2:1', /choice point:option/],
  ['2:1 1:1', /must ascend/],
  ['1:1 1:1', /must ascend/],
  ['0:5', /there are 2 options at choice point 0/],
  ['99:1', /has \d+ choice points/],
];
for (const [text, why] of bad) {
  test(`replay refuses '${text}'`, async () => {
    await assert.rejects(replay(orders(2, 2, []), text), { name: 'SIM_BAD_SCHEDULE', errno: 'EINVAL', message: why });
  });
}
