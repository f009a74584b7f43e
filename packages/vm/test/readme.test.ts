import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { errorNames } from '@pinion/core';
import { createRegistry, EmbeddedVm, Host, readDescription, vmErrors } from '@pinion/vm';
import { held, imageFolder, NOTHING, TurnClock } from './small-vm.js';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('the README has one row for every error, and none for another', () => {
  const rows = [...readme.matchAll(/^\| `(VM_\w+)` \| E\w+ \|/gm)].map((match) => match[1]);
  assert.deepEqual(rows, errorNames('VM', vmErrors));
});

test('the description that the README shows is a good one, and starts', async (t) => {
  const folder = imageFolder(t);
  const [, text = ''] = /```yaml\n(.*?)```/s.exec(readme) ?? [];
  const result = readDescription({ text, folder }, createRegistry());
  assert.ok(result.ok);
  const host = await Host.create(result.description, { clock: new TurnClock() });
  t.after(() => host.close());
  const vm = await EmbeddedVm.start(host, result.description);
  assert.equal(held(vm).locked, 16_384);
  await vm.stop();
  assert.deepEqual(held(vm), NOTHING);
});
