import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { CCW_QUIRKS, ccwErrors } from '@pinion/ccw';
import { errorNames } from '@pinion/core';

test('every error and every quirk has its row in the README, and no row is left over', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| `(CCW_\w+)` \| (\w+) \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows.sort(), errorNames('CCW', ccwErrors).sort());
  for (const quirk of Object.keys(CCW_QUIRKS)) assert.ok(readme.includes(`| \`${quirk}\` |`), quirk);
});
