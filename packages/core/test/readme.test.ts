import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { MediatorEvents } from '@pinion/core';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('the README lists every event and no other', () => {
  const declared = [...read('src/bus.ts').matchAll(/^ {2}'([a-z]+:[a-z-]+)': \[/gm)].map(([, name]) => name);
  const rows = [...read('README.md').matchAll(/^\| (`[a-z]+:.*?) \|/gm)].map(([, names]) => names ?? '');
  const documented = rows.flatMap((row) => [...row.matchAll(/`([a-z:-]+)`/g)].map(([, name]) => name));
  assert.deepEqual(documented.sort(), declared.sort());
  const one: keyof MediatorEvents = 'dma:unmapped';
  assert.ok(declared.includes(one), 'the events were found');
});

test('the README has a row for every method of a backend', () => {
  const [, body = ''] = /export interface IommuBackend \{([\s\S]*?)\n\}/.exec(read('src/backend.ts')) ?? [];
  const methods = [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[(:]/gm)].map(([, name]) => name ?? '');
  const readme = read('README.md');
  assert.ok(methods.includes('unmap'), 'the methods were found');
  assert.deepEqual(
    methods.filter((name) => !new RegExp(`^\\|.*\`${name}\\??[\`(]`, 'm').test(readme)),
    [],
  );
});
