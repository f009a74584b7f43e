import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DMA_QUIRKS, type DmaQuirk } from '@pinion/dma';
import { play } from './play.js';
import { playIova } from './play-iova.js';
import { type Difference, type Operation, readRecordings, type Scenario } from './recording.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const own = join(root, 'test', 'golden-dma', 'data');
const shared = join(root, '..', 'shared', 'golden-dma');

/** Plays a folder. @returns what differed, and how many scenarios were played. */
function playFolder(folder: string, kind: 'iova' | 'dma'): { readonly failures: string[]; readonly played: number } {
  const failures: string[] = [];
  let played = 0;
  for (const { file, scenarios } of readRecordings(folder, kind)) {
    let next = 0;
    for (const scenario of scenarios) {
      const outcome = kind === 'iova' ? { differences: playIova(scenario), next } : play(scenario, next);
      next = outcome.next;
      played += 1;
      const [first] = outcome.differences;
      if (first !== undefined) failures.push(`${file} ${scenario.name}: ${JSON.stringify(first)}`);
    }
  }
  return { failures, played };
}

for (const [kind, least] of [
  ['iova', 8],
  ['dma', 30],
] as const) {
  test(`own recordings of ${kind} are answered as recorded`, () => {
    const { failures, played } = playFolder(own, kind);
    assert.deepEqual(failures, []);
    assert.ok(played >= least, `${played} scenarios`);
  });

  const skip = existsSync(shared) ? false : 'the folder ../shared/golden-dma is not there';
  test(`shared recordings of ${kind} are answered as recorded`, { skip }, () => {
    const { failures, played } = playFolder(shared, kind);
    assert.deepEqual(failures, []);
    assert.ok(played > 200, `${played} scenarios`);
  });
}

/** The scenario with one answer made wrong. */
function falsify(scenario: Scenario, at: number, field: string): Scenario {
  const wrong = (op: Operation): Operation => {
    const value = op.r?.[field];
    return { ...op, r: { ...op.r, [field]: typeof value === 'number' ? value + 1 : 'wrong' } };
  };
  return { ...scenario, ops: scenario.ops.map((op, index) => (index === at ? wrong(op) : op)) };
}

const UNCOMPARED = new Set([
  'klog',
  'type',
  'need_sync',
  'untrusted',
  'windows',
  'resv',
  'pool0',
  'pool1',
  'pool2',
  'pool3',
  'pool_bits',
]);

test('a wrong answer is noticed, whatever field it is in', () => {
  const scenarios = readRecordings(own, 'dma-strict').flatMap(({ scenarios: all }) => [...all]);
  const seen = new Set<string>();
  for (const scenario of scenarios) {
    for (const [index, op] of scenario.ops.entries()) {
      for (const field of Object.keys(op.r ?? {})) {
        if (UNCOMPARED.has(field) || seen.has(`${op.op}.${field}`)) continue;
        seen.add(`${op.op}.${field}`);
        const differences: readonly Difference[] = play(falsify(scenario, index, field), 0).differences;
        assert.equal(differences.length, 1, `${scenario.name} ${op.op}.${field}`);
        assert.deepEqual([differences[0]?.index, differences[0]?.field], [index, field]);
      }
    }
  }
  assert.ok(seen.size > 30);
});

test('an operation that nobody knows is no answer', () => {
  const [recording] = readRecordings(own, 'dma-strict');
  const scenario = recording?.scenarios[0];
  assert.ok(scenario);
  const wrong = { ...scenario, ops: [{ op: 'teleport', r: {} }] };
  for (const differences of [play(wrong, 0).differences, playIova(wrong)]) {
    assert.deepEqual(
      differences.map(({ field }) => field),
      ['failure'],
    );
  }
});

/** Hardware looseness shows only where a device reads a page it may only write. */
test('every quirk is needed by some own recording', () => {
  const scenarios = readRecordings(own, 'dma').flatMap(({ scenarios: all }) => [...all]);
  const matters = (quirk: DmaQuirk): boolean =>
    scenarios.some((scenario) => scenario.env.iommu !== 'none' && play(scenario, 0, [quirk]).differences.length > 0);
  // why: Object.keys forgets the key type
  const needless = (Object.keys(DMA_QUIRKS) as DmaQuirk[]).filter((quirk) => !matters(quirk));
  assert.deepEqual(needless, []);
});
