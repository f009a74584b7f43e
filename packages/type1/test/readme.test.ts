import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorNames, PinionError } from '@pinion/core';
import {
  createPinTable,
  DEFAULT_PIN_TABLE,
  dmaMapErrors,
  PIN_TABLE_KINDS,
  PROFILES,
  pinTableErrors,
  QUIRKS,
  type1Errors,
} from '@pinion/type1';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const column = (row: RegExp): string[][] => [...readme.matchAll(row)].map(([, ...cells]) => cells);

test('the README has a row for every error of its catalogues, and no other', () => {
  const rows = column(/^\| `(TYPE1_\w+)` \| (\w+) \|/gm);
  const names = [
    ...errorNames('TYPE1', type1Errors),
    ...errorNames('TYPE1', pinTableErrors),
    ...errorNames('TYPE1', dmaMapErrors),
  ];
  assert.deepEqual(rows.map(([name]) => name).sort(), names.sort());
  assert.equal(new Set(names).size, names.length, 'the catalogues share no name');
});

test('the README has the errno of every error', () => {
  const rows = new Map(column(/^\| `TYPE1_(\w+)` \| (\w+) \|/gm).map(([name, errno]) => [name, errno]));
  const details = { range: { first: 0, last: 0 }, other: { first: 0, last: 0 }, mapping: { first: 0, last: 0 } };
  const more = {
    reserved: details.range,
    aperture: details.range,
    culprits: [],
    frames: [],
    flags: 0,
    iova: 0n,
    size: 0n,
  };
  for (const [name, make] of Object.entries({ ...type1Errors, ...pinTableErrors })) {
    // why: every factory takes its own details; the message does not matter here, only the errno
    const error = (make as (about: object) => unknown)({
      ...details,
      ...more,
      page: 0n,
      npages: 1,
      granted: 0,
      wanted: 0,
      value: 0n,
    });
    assert.ok(error instanceof PinionError);
    assert.equal(rows.get(name), error.errno, name);
  }
});

test('the README has every quirk with its kernels, in the order of the table', () => {
  const want = Object.entries(QUIRKS).map(([name, { kernels }]) => [
    name,
    kernels.map((kernel) => kernel.replace('linux-', '')).join(', '),
  ]);
  assert.deepEqual(column(/^\| `([a-z-]+)` \| ((?:\d\.\d+(?:, )?)+) \|/gm), want);
});

test('the README names every profile and every pin table, and the default', () => {
  for (const profile of PROFILES) assert.ok(readme.includes(`\`${profile}\``), profile);
  for (const kind of PIN_TABLE_KINDS) assert.ok(readme.includes(`\`${kind}\``), kind);
  assert.ok(readme.includes(`| \`pinTable\` | \`${DEFAULT_PIN_TABLE}\` |`));
  assert.equal(createPinTable(DEFAULT_PIN_TABLE, 1).pages, 0);
});
