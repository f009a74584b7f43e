import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PROFILES, type Profile, type Quirk, quirksOf } from '@pinion/type1';
import { play } from './play.js';
import { NoRecording, readFolder, type Scenario } from './scenario.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const own = join(root, 'test', 'golden', 'data');
const shared = join(root, '..', 'shared', 'golden');

/** Folders below `folder` that are named after a kernel profile. */
const profileFolders = (folder: string): { path: string; profile: Profile }[] =>
  readdirSync(folder).flatMap((name) => {
    const profile = PROFILES.find((known) => known === name);
    return profile === undefined ? [] : [{ path: join(folder, name), profile }];
  });

async function playFolder(path: string, profile: Profile): Promise<number> {
  const failures: string[] = [];
  let played = 0;
  for (const { scenarios } of readFolder(path)) {
    for (const scenario of scenarios) {
      played += 1;
      const differences = await play(scenario, { profile });
      if (differences.length > 0) failures.push(`${scenario.name}: ${JSON.stringify(differences[0])}`);
    }
  }
  assert.deepEqual(failures, []);
  return played;
}

for (const { path, profile } of profileFolders(own)) {
  test(`own recordings of ${profile} are answered as recorded`, async () => {
    assert.ok((await playFolder(path, profile)) > 0);
  });
}

if (existsSync(shared)) {
  for (const { path, profile } of profileFolders(shared)) {
    test(`shared recordings of ${profile} are answered as recorded`, async () => {
      assert.ok((await playFolder(path, profile)) > 400);
    });
  }
} else {
  test('shared recordings', {
    skip: 'the folder ../shared/golden is not there; only the own recordings were played',
  }, () => {});
}

/** The own recordings of Linux 6.12 as changeable objects. */
const recorded = (): Scenario[] => readFolder(join(own, 'linux-6.12')).flatMap(({ scenarios }) => [...scenarios]);

test('a wrong answer is noticed, whatever field it is in', async () => {
  const scenario = recorded().find((candidate) =>
    candidate.ops.some((op) => op.op === 'pin' && op.r?.['pages'] !== undefined),
  );
  assert.ok(scenario);
  for (const [index, op] of scenario.ops.entries()) {
    for (const [field, value] of Object.entries(op.r ?? {})) {
      if (field === 'klog' || field === 'fuzzy') continue;
      const wrong = typeof value === 'number' ? value + 1 : 'wrong';
      const ops = scenario.ops.map((other, at) => (at === index ? { ...op, r: { ...op.r, [field]: wrong } } : other));
      const differences = await play({ ...scenario, ops }, { profile: 'linux-6.12' });
      assert.equal(differences.length, 1, `${op.op}.${field}`);
      assert.equal(differences[0]?.index, index);
    }
  }
});

test('an end that does not come, and one that comes too early, are noticed', async () => {
  const bug = recorded().find((candidate) => candidate.end.end === 'bug');
  const fine = recorded().find((candidate) => candidate.end.end === 'ok');
  assert.ok(bug && fine);
  assert.notDeepEqual(await play({ ...bug, end: { ...bug.end, end: 'ok' } }, { profile: 'linux-6.12' }), []);
  assert.notDeepEqual(await play({ ...fine, end: { ...fine.end, end: 'bug' } }, { profile: 'linux-6.12' }), []);
  assert.notDeepEqual(await play({ ...fine, end: { ...fine.end, pin_leak: 7 } }, { profile: 'linux-6.12' }), []);
});

const refused: readonly (readonly [what: string, file: string, content: string, message: RegExp])[] = [
  ['a folder without recordings', 'notes.txt', '{}', /there is no \*\.jsonl/],
  ['a line that is no JSON', 'a.jsonl', '\nnonsense\n', /a\.jsonl:2: no JSON/],
  ['a number', 'a.jsonl', '5\n', /a\.jsonl:1: no scenario/],
  ['null', 'a.jsonl', 'null\n', /a\.jsonl:1: no scenario/],
  ['no name', 'a.jsonl', '{"env":{"iommu":""},"ops":[],"end":{}}\n', /a\.jsonl:1: no scenario/],
  ['no machine', 'a.jsonl', '{"name":"a","ops":[],"end":{}}\n', /a\.jsonl:1: no scenario/],
  ['no end', 'a.jsonl', '{"name":"a","env":{"iommu":""},"ops":[]}\n', /a\.jsonl:1: no scenario/],
  [
    'an operation without an answer',
    'a.jsonl',
    '{"name":"a","env":{"iommu":""},"ops":[{"op":"map"}],"end":{}}',
    /:1: no scenario/,
  ],
];
for (const [what, file, content, message] of refused) {
  test(`${what} is refused, with the place`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'pinion-golden-'));
    try {
      writeFileSync(join(folder, file), content);
      assert.throws(
        () => readFolder(folder),
        (error) => error instanceof NoRecording && message.test(error.message),
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test('a folder that is not there is refused by its name', () => {
  assert.throws(() => readFolder('/nowhere'), /^Error: \/nowhere: this folder cannot be read/);
});

/** Quirks that no own recording can show, and why. */
const UNRECORDED: readonly string[] = [
  'late-bisect-succeeds', // needs a second process at work during one unmap
  'aperture-check-wraps', // needs a passthrough group that left before the mapping was made
  'dirty-shift-in-place', // answers it touches are compared as supersets
];

/** Whether some own recording of `profile` is answered otherwise without `quirk`. */
async function matters(profile: Profile, quirk: Quirk): Promise<boolean> {
  for (const { scenarios } of readFolder(join(own, profile))) {
    for (const scenario of scenarios) {
      if ((await play(scenario, { profile, without: [quirk] })).length > 0) return true;
    }
  }
  return false;
}

test('every quirk is needed by some recording or known not to be recorded', async () => {
  const needed = new Set<string>();
  const all = new Set<string>();
  for (const { profile } of profileFolders(own)) {
    for (const quirk of quirksOf(profile)) {
      all.add(quirk);
      if (!needed.has(quirk) && (await matters(profile, quirk))) needed.add(quirk);
    }
  }
  assert.deepEqual([...all].filter((quirk) => !needed.has(quirk)).sort(), [...UNRECORDED].sort());
});
