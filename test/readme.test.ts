import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { coreErrors } from '@pinion/core';
import { iommuErrors } from '@pinion/iommu';
import { type1Errors } from '@pinion/type1';
import { vmErrors } from '@pinion/vm';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const NEWLINE = '\n';

test('the code in the README is the code of the examples', () => {
  const blocks = [...readme.matchAll(/<!-- file: (\S+) -->\n```ts\n([\s\S]*?)```/g)];
  assert.equal(blocks.length, 2);
  for (const [, file = '', code] of blocks) {
    const source = readFileSync(join(root, file), 'utf8');
    assert.equal(code, source, file);
    assert.ok(source.split(NEWLINE).length <= 42, `${file} is longer than the README says`);
  }
});

test('the errors in the README exist', () => {
  const known = new Set([
    ...Object.keys(coreErrors).map((name) => `CORE_${name}`),
    ...Object.keys(type1Errors).map((name) => `TYPE1_${name}`),
    ...Object.keys(iommuErrors).map((name) => `IOMMU_${name}`),
    ...Object.keys(vmErrors).map((name) => `VM_${name}`),
  ]);
  const named = [...readme.matchAll(/^\| `([A-Z0-9]+_[A-Z0-9_]+)` \|/gm)].map(([, name = '']) => name);
  assert.ok(named.length > 10);
  assert.deepEqual(
    named.filter((name) => !known.has(name)),
    [],
  );
});

test('every path that the README links to exists', () => {
  const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, path = '']) => path);
  assert.ok(links.length > 8);
  assert.deepEqual(
    links.filter((path) => !existsSync(join(root, path))),
    [],
  );
});

test('every npm script that the README names exists', () => {
  const { scripts }: { scripts: Record<string, string> } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const named = [...readme.matchAll(/npm run ([a-z0-9:-]+)/g)].map(([, name = '']) => name);
  assert.ok(named.length > 4);
  assert.deepEqual(
    named.filter((name) => scripts[name] === undefined),
    [],
  );
});
