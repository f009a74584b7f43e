import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { GVT_QUIRKS, gvtErrors } from '@pinion/gvt';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const rows = [...readme.matchAll(/^\| `(GVT_\w+)` \| (E\w+) \|/gm)].map(([, name]) => name);

test('the README has one row for every error and no other', () => {
  assert.deepEqual([...rows].sort(), errorNames('GVT', gvtErrors).sort());
});

test('the README names every quirk', () => {
  for (const quirk of Object.keys(GVT_QUIRKS)) assert.ok(readme.includes(`| \`${quirk}\` |`), quirk);
});

test('errno and message', () => {
  const error = gvtErrors.NOT_CONTIGUOUS({ first: 0x200, last: 0x3ff });
  assert.equal(
    error.toString(),
    'GVT_NOT_CONTIGUOUS (EINVAL): guest pages [0x200000, 0x3fffff] are not one run of host pages; map them as 4 KiB pages',
  );
});
