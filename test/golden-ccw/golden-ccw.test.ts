import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ccwQuirksOf } from '@pinion/ccw';
import { readFolder, type Scenario } from '../golden/scenario.js';
import { play } from './play.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const own = join(root, 'test', 'golden-ccw', 'data');
const shared = join(root, '..', 'shared', 'golden-ccw');
const profile = 'linux-6.12';

const scenariosOf = (folder: string): Scenario[] => readFolder(folder).flatMap(({ scenarios }) => [...scenarios]);

async function failuresOf(scenarios: readonly Scenario[]): Promise<string[]> {
  const failures: string[] = [];
  for (const scenario of scenarios) {
    const differences = await play(scenario, { profile });
    if (differences.length > 0) failures.push(`${scenario.name}: ${JSON.stringify(differences[0])}`);
  }
  return failures;
}

test('own recordings of vfio-ccw are answered as recorded', async () => {
  const scenarios = scenariosOf(own);
  assert.ok(scenarios.length >= 12);
  assert.deepEqual(await failuresOf(scenarios), []);
});

test('shared recordings of vfio-ccw are answered as recorded', {
  skip: !existsSync(shared) && 'the folder ../shared/golden-ccw is not there; only the own recordings were played',
}, async () => {
  const scenarios = scenariosOf(shared);
  assert.ok(scenarios.length > 200);
  assert.deepEqual(await failuresOf(scenarios), []);
});

/** What the recording itself decides, because the channel is replayed: an error there is replayed, too. */
const REPLAYED: ReadonlySet<string> = new Set(['klog', 'irq', 'count', 'irb', 'data']);

test('a wrong answer is noticed, whatever field it is in', async () => {
  for (const scenario of scenariosOf(own).slice(0, 3)) {
    for (const [index, op] of scenario.ops.entries()) {
      for (const [field, value] of Object.entries(op.r ?? {})) {
        if (REPLAYED.has(field)) continue;
        const wrong = typeof value === 'number' ? value + 1 : field === 'ev' ? [['never']] : 'wrong';
        const ops = scenario.ops.map((other, at) => (at === index ? { ...op, r: { ...op.r, [field]: wrong } } : other));
        const differences = await play({ ...scenario, ops }, { profile });
        assert.ok(
          differences.some((difference) => difference.index === index && difference.field === field),
          `${scenario.name} ${index} ${op.op}.${field}`,
        );
      }
    }
  }
});

test('an address of the copy that the guest would see is noticed', async () => {
  const scenario = scenariosOf(own).find(({ name }) => name === 'g6');
  assert.ok(scenario);
  const ops = scenario.ops.map((op) =>
    typeof op.r?.['irb'] === 'string'
      ? { ...op, r: { ...op.r, irb: op.r['irb'].replace(/^.{16}/, '0080401740000008') } }
      : op,
  );
  assert.notDeepEqual(await play({ ...scenario, ops }, { profile }), []);
});

test('pins that are left at the end are noticed', async () => {
  const scenario = scenariosOf(own)[0];
  assert.ok(scenario);
  const differences = await play({ ...scenario, end: { ...scenario.end, pins: 3 } as Scenario['end'] }, { profile }); // why: the recorder's field
  assert.deepEqual(
    differences.map(({ operation, field }) => [operation, field]),
    [['end', 'pins']],
  );
});

/** Quirks that no own recording can show, and why. */
const UNRECORDED: readonly string[] = [
  'crw-read-pops', // no recording reads a queued report in pieces
  'quiesce-tells', // no recording looks at the IRB after a halt that a reset wanted
];

test('every quirk is needed by some recording or known not to be recorded', async () => {
  const scenarios = scenariosOf(own);
  const needless: string[] = [];
  for (const quirk of ccwQuirksOf(profile)) {
    let needed = false;
    for (const scenario of scenarios) needed ||= (await play(scenario, { profile, without: [quirk] })).length > 0;
    if (!needed) needless.push(quirk);
  }
  assert.deepEqual(needless.sort(), [...UNRECORDED].sort());
});
