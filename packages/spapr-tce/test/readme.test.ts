import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { QUIRKS, tceErrors } from '@pinion/spapr-tce';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const rowsOf = (pattern: RegExp): string[] => [...readme.matchAll(pattern)].map(([, name = '']) => name).sort();

test('the README has a row for every error, and no other', () => {
  assert.deepEqual(rowsOf(/^\| `(TCE_\w+)` \|/gm), errorNames('TCE', tceErrors).sort());
});

test('the README has a row for every quirk, and no other', () => {
  assert.deepEqual(rowsOf(/^\| `([a-z0-9-]+)` \|/gm), Object.keys(QUIRKS).sort());
});
