import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames } from '@pinion/core';
import { DMA_QUIRKS, dmaDebugErrors, dmaErrors } from '@pinion/dma';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('the README has a row for every error and every report, and no other', () => {
  const rows = [...readme.matchAll(/^\| `(DMA(?:DEBUG)?_\w+)` \|/gm)].map(([, name]) => name);
  const known = [...errorNames('DMA', dmaErrors), ...errorNames('DMADEBUG', dmaDebugErrors)];
  assert.deepEqual(rows.sort(), known.sort());
});

test('the README names every quirk', () => {
  for (const quirk of Object.keys(DMA_QUIRKS)) assert.ok(readme.includes(`| \`${quirk}\` |`), quirk);
});
