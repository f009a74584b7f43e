import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { GEM_QUIRKS, gemErrors } from '@pinion/gem';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('the README has a row for every error, and no other', () => {
  const rows = [...readme.matchAll(/^\| `(GEM_\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows.sort(), errorNames('GEM', gemErrors).sort());
});

test('the README names every quirk', () => {
  for (const quirk of Object.keys(GEM_QUIRKS)) assert.ok(readme.includes(`| \`${quirk}\` |`), quirk);
});
