import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ERRNO } from '@pinion/core';
import { foldersIn, ROOT, readText, sourcesBelow } from './source-code.js';

/** One error as `NAME (ERRNO)`. */
type Row = string;

const CATALOGUE = /\bcatalogue\(\s*'([A-Z0-9]+)',\s*\{([\s\S]*?)\n\}(?:\s+satisfies[^)]*)?,?\s*\)/g;
const ENTRY = /^ {2}([A-Z][A-Z0-9_]*):\s*\[\s*'(E[A-Z0-9]+)'/gm;

/** The rows that a package's sources declare. */
function declared(name: string): Row[] {
  const sources = sourcesBelow(`packages/${name}/src`).map(readText);
  const catalogues = sources.flatMap((source) => [...source.matchAll(CATALOGUE)]);
  return catalogues
    .flatMap(([, prefix, rows = '']) =>
      [...rows.matchAll(ENTRY)].map(([, row, errno]) => `${prefix}_${row} (${errno})`),
    )
    .sort();
}

/** The rows of a README's table: | `NAME` | ERRNO | meaning | */
function documented(name: string): Row[] {
  const readme = readText(`packages/${name}/README.md`);
  const rows = [...readme.matchAll(/^\| `([A-Z][A-Z0-9_]+)` \| (E[A-Z0-9]+) \| (.*\S) \|$/gm)];
  return rows.map(([, row, errno]) => `${row} (${errno})`).sort();
}

/** Names of the rows of the catalogues that a package exports, without their prefix; undefined if it exports none. */
async function exported(name: string): Promise<string[] | undefined> {
  const index: Readonly<Record<string, unknown>> = await import(`@pinion/${name}`);
  const catalogues = Object.entries(index).filter(([key]) => /^(?:\w+E|e)rrors$/.test(key));
  if (catalogues.length === 0) return undefined;
  return catalogues.flatMap(([, rows]) => Object.keys(Object(rows))).sort();
}

const withErrors = foldersIn('packages')
  .filter((name) => readText('tsconfig.json').includes(`"packages/${name}"`))
  .filter((name) => existsSync(join(ROOT, 'packages', name, 'src', 'errors.ts')));

describe('every package documents its errors', () => {
  for (const name of withErrors) {
    test(`${name}: the README's table and the catalogue are the same`, () => {
      assert.ok(declared(name).length > 0, 'the catalogue was found');
      assert.deepEqual(documented(name), declared(name));
    });

    test(`${name}: the catalogue is exported, and holds what its source declares`, async () => {
      const rows = declared(name).map((row) => row.replace(/^[A-Z0-9]+_/, '').replace(/ .*/, ''));
      assert.deepEqual(await exported(name), rows.sort());
    });

    test(`${name}: every errno is one that core knows`, () => {
      const unknown = declared(name).filter((row) => !Object.hasOwn(ERRNO, /\((\w+)\)/.exec(row)?.[1] ?? ''));
      assert.deepEqual(unknown, []);
    });
  }

  test('no two packages use one name', () => {
    const names = withErrors.flatMap((name) => [...new Set(declared(name).map((row) => row.split('_')[0]))]);
    assert.deepEqual(
      names.filter((name, index) => names.indexOf(name) !== index),
      [],
    );
  });
});
