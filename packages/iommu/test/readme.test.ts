import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { iommuErrors } from '@pinion/iommu';

test('the README has a row for every error, and no other', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| `(IOMMU_\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows.sort(), [...errorNames('IOMMU', iommuErrors), 'IOMMU_INJECTED'].sort());
});
