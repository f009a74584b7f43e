import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { errorNames } from '@pinion/core';
import { vmErrors } from '@pinion/vm';

test('the README has one row for every error, and none for another', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| `(VM_\w+)` \| E\w+ \|/gm)].map((match) => match[1]);
  assert.deepEqual(rows, errorNames('VM', vmErrors));
});
