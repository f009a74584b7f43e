import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { simErrors } from '@pinion/testkit';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('the README lists every error, and no other', () => {
  const documented = [...readme.matchAll(/^\| `(SIM_\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(documented.sort(), errorNames('SIM', simErrors).sort());
});

test('an error tells who, what and where', () => {
  const fault = simErrors.FAULT({ mm: 'vmm', vaddr: 0x7f0000001000n, write: true });
  assert.equal(
    fault.toString(),
    'SIM_FAULT (EFAULT): write of vmm at 0x7f0000001000: nothing mapped there, or not for this access',
  );
  const limit = simErrors.LOCK_LIMIT({ mm: 'vmm', call: 'mlock', vaddr: 0x1000n, pages: 9, limit: 8 });
  assert.match(limit.message, /^mlock in vmm at 0x1000: 9 locked pages .* limit of 8; raise it or grant CAP_IPC_LOCK$/);
});
