import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Quirk, quirksOf } from '@pinion/spapr-tce';
import { readFolder, type Scenario } from '../golden/scenario.js';
import { play } from './play.js';
import { recordedProfile } from './recorded-profile.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const own = join(root, 'test', 'golden-tce', 'data');
const shared = join(root, '..', 'shared', 'golden-tce');
const PROFILE = 'linux-6.12';

const scenariosOf = (folder: string): Scenario[] => readFolder(folder).flatMap(({ scenarios }) => [...scenarios]);

async function failuresOf(scenarios: readonly Scenario[]): Promise<string[]> {
  const failures: string[] = [];
  for (const scenario of scenarios) {
    const [first] = await play(scenario, { profile: PROFILE });
    if (first !== undefined) failures.push(`${scenario.name}: ${JSON.stringify(first)}`);
  }
  return failures;
}

const find = (name: string): Scenario => {
  const scenario = scenariosOf(own).find((candidate) => candidate.name === name);
  assert.ok(scenario, `${name} is among the own recordings`);
  return scenario;
};

test('own recordings are answered as recorded', async () => {
  const scenarios = scenariosOf(own);
  assert.ok(scenarios.length >= 20);
  assert.deepEqual(await failuresOf(scenarios), []);
});

if (existsSync(shared)) {
  test('shared recordings are answered as recorded', async () => {
    const scenarios = scenariosOf(shared);
    assert.ok(scenarios.length > 200);
    assert.deepEqual(await failuresOf(scenarios), []);
  });
} else {
  test('shared recordings', {
    skip: 'the folder ../shared/golden-tce is not there; only the own recordings were played',
  }, () => {});
}

test('a wrong answer is noticed, whatever field of whatever operation it is in', async () => {
  for (const name of ['v1/dma_prot', 'groups/late_first', 'win/account']) {
    const scenario = find(name);
    for (const [index, op] of scenario.ops.entries()) {
      for (const [field, value] of Object.entries(op.r ?? {})) {
        if (field === 'klog') continue;
        const wrong = typeof value === 'number' ? value + 1 : 'wrong';
        const ops = scenario.ops.map((other, at) => (at === index ? { ...op, r: { ...op.r, [field]: wrong } } : other));
        const differences = await play({ ...scenario, ops }, { profile: PROFILE });
        assert.deepEqual(
          differences.map((difference) => [difference.index, difference.field]),
          [[index, field]],
        );
      }
    }
  }
});

test('pins that leak, and pins that should have, are noticed', async () => {
  for (const name of ['v1/basic', 'reg/busy_leak']) {
    const scenario = find(name);
    const end = { ...scenario.end, pin_leak: (scenario.end.pin_leak ?? 0) + 1 };
    const [difference] = await play({ ...scenario, end }, { profile: PROFILE });
    assert.deepEqual([difference?.index, difference?.field], [scenario.ops.length, 'pin_leak']);
  }
});

test('where a kernel stopped, success is wrong, and nothing after it is compared', async () => {
  const scenario = find('oops1/v2_map_end');
  const at = scenario.ops.findIndex((op) => op.r === null);
  const harmless = scenario.ops.map((op, index) => (index === at ? { ...op, size: '0x1000' } : op));
  const differences = await play({ ...scenario, ops: harmless }, { profile: PROFILE });
  assert.deepEqual(
    differences.map(({ index, field }) => [index, field]),
    [[at, 'ret']],
  );
});

test('an operation that nobody knows is a difference, not skipped', async () => {
  const scenario = find('v1/basic');
  const strange = { op: 'levitate', r: { ret: 0, lck: 0, pin: 0 } };
  const [difference] = await play({ ...scenario, ops: [strange, ...scenario.ops] }, { profile: PROFILE });
  assert.equal(difference?.field, 'exception');
});

test('a scenario’s kernel names its profile', () => {
  const at = (kernel: string): Scenario => ({
    ...find('v1/basic'),
    env: Object.assign({ iommu: 'spapr-tce' }, { kernel }),
  });
  assert.equal(recordedProfile(at('6.12.107+deb13-powerpc64le')), 'linux-6.12');
  assert.equal(recordedProfile(at('6.1.0')), undefined);
  assert.equal(recordedProfile(at('fixed')), undefined);
  assert.equal(recordedProfile({ ...find('v1/basic'), env: { iommu: 'spapr-tce' } }), 'linux-6.12');
});

/** Quirks that no recording can show, and why. */
const UNRECORDED: readonly Quirk[] = [
  'torn-down-map-is-partial', // needs a second thread during one map
];

test('every quirk is needed by some own recording or known not to be recorded', async () => {
  const unneeded: Quirk[] = [];
  const scenarios = scenariosOf(own);
  for (const quirk of quirksOf(PROFILE)) {
    let needed = false;
    for (const scenario of scenarios) {
      needed ||= (await play(scenario, { profile: PROFILE, without: [quirk] })).length > 0;
    }
    if (!needed) unneeded.push(quirk);
  }
  assert.deepEqual(unneeded, UNRECORDED);
});
