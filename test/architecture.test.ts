import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';
import { codeOnly, foldersIn, importsOf, lineOf, ROOT, readJson, readText, sourcesBelow } from './source-code.js';

/** Which of our packages a package may import. Nothing but these names a package of ours. */
const MAY_IMPORT: Readonly<Record<string, readonly string[] | 'anything'>> = {
  core: [],
  sys: [],
  type1: ['core'],
  'spapr-tce': ['core'],
  noiommu: ['core'],
  iommu: ['core'],
  pci: ['core'],
  dma: ['core'],
  gem: ['core', 'dma'],
  gvt: ['core'],
  ccw: ['core'],
  ap: ['core'],
  trace: ['core'],
  testkit: ['core'],
  'vfio-user': ['core', 'sys'],
  vm: 'anything',
  v86: 'anything',
  cli: 'anything',
};

/** Packages of other people, and the only packages of ours that may use them. */
const FOREIGN: Readonly<Record<string, readonly string[]>> = {
  core: ['eventemitter3', 'typedi'],
  cli: ['commander'],
  sys: ['koffi'],
  vm: ['pngjs', 'yaml'],
  v86: ['v86'],
};

/** The one file that may know a package of other people. */
const ONLY_IN: Readonly<Record<string, string>> = {
  typedi: 'packages/core/src/tokens.ts',
  eventemitter3: 'packages/core/src/bus.ts',
  v86: 'packages/v86/src/v86-adapter.ts',
};

const ANY = /[:<|&,]\s*any\b(?!\s*[(:])|\bas\s+any\b|=>\s*any\b/g;
const NON_NULL = /[\w)\]]!(?=[\s.;,)\][}]|$)(?!\s*=)/gm;
const CAST = /\bas\s+(?!const\b)[\w({['"`<]/g;

const CORE_BUILTINS = ['node:async_hooks'];
/** The files that may know real time: the clock, and the process of the command, which must stay alive while a VM runs. */
const CLOCKS = ['packages/core/src/system-clock.ts', 'packages/cli/src/main.ts'];

/** Packages of the house: those that the whole build builds. A folder that was only begun is not one yet. */
const packages = foldersIn('packages').filter((name) => readText('tsconfig.json').includes(`"packages/${name}"`));
/** Those that have more than an empty index. */
const begun = packages.filter((name) => readText(`packages/${name}/src/index.ts`).trim() !== 'export {};');
const sources = packages.flatMap((name) => sourcesBelow(`packages/${name}/src`).map((path) => ({ name, path })));

/** The package that a specifier names: `@pinion/core/x` -> `@pinion/core`, `yaml/x` -> `yaml`. */
const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');

const isOwn = (specifier: string): boolean => specifier.startsWith('@pinion/');
const isBuiltin = (specifier: string): boolean => specifier.startsWith('node:');
const isRelative = (specifier: string): boolean => specifier.startsWith('.');

/** Packages that the sources of a package import, sorted. */
function importedBy(folder: string): string[] {
  const specifiers = sourcesBelow(`${folder}/src`).flatMap((path) => importsOf(readText(path)).map((i) => i.specifier));
  const named = specifiers.filter((specifier) => !isRelative(specifier) && !isBuiltin(specifier));
  return [...new Set(named.map(packageOf))].sort();
}

const dependenciesOf = (folder: string): string[] =>
  Object.keys(Object(readJson(`${folder}/package.json`)['dependencies'] ?? {})).sort();

/** Examples that a package may import, where they are: the command serves the example devices by name. */
const EXAMPLES: Readonly<Record<string, string>> = { '@pinion/example-devices': 'examples/devices' };
const EXAMPLES_FOR = ['cli'];

const folderOf = (specifier: string): string => EXAMPLES[specifier] ?? specifier.replace('@pinion/', 'packages/');

/** Violations as lines `file:line what`, for a message that can be acted on. */
function assertNone(violations: readonly string[]): void {
  assert.equal(violations.length, 0, `\n${violations.join('\n')}`);
}

/** Every match of `pattern` in the code (not in comments or strings) of the packages' sources. */
function matches(
  pattern: RegExp,
  accept: (path: string, source: string, line: number) => boolean = () => false,
): string[] {
  return sources.flatMap(({ path }) => {
    const source = readText(path);
    return [...codeOnly(source).matchAll(pattern)]
      .map((match) => ({ line: lineOf(source, match.index), text: match[0].trim() }))
      .filter(({ line }) => !accept(path, source, line))
      .map(({ line, text }) => `${path}:${line} ${text}`);
  });
}

describe('the house', () => {
  test('the top level holds three folders and the files that belong there', () => {
    const folders = ['packages', 'examples', 'test'];
    const files = [
      'package.json',
      'package-lock.json',
      'tsconfig.json',
      'biome.json',
      'README.md',
      'LICENSE',
      'CHANGELOG.md',
    ];
    const made = ['node_modules', 'coverage', 'out'];
    const known = new Set([...folders, ...files, ...made]);
    const odd = readdirSync(ROOT).filter((name) => !name.startsWith('.') && !known.has(name));
    assert.deepEqual(odd, []);
  });

  test('every package has a place in the table of who may import whom', () => {
    assert.deepEqual(
      packages.filter((name) => MAY_IMPORT[name] === undefined),
      [],
    );
  });

  for (const name of packages) {
    test(`${name} has its files, its name and one way in`, () => {
      const present = readdirSync(join(ROOT, 'packages', name));
      for (const file of ['package.json', 'tsconfig.json', 'README.md', 'src', 'test']) {
        assert.ok(present.includes(file), `packages/${name}/${file}`);
      }
      const manifest = readJson(`packages/${name}/package.json`);
      assert.equal(manifest['name'], `@pinion/${name}`);
      assert.deepEqual(manifest['exports'], { '.': { types: './dist/index.d.ts', default: './dist/index.js' } });
    });
  }
});

describe('who imports whom', () => {
  for (const name of packages) {
    test(`${name} imports only what it may`, () => {
      const allowed = MAY_IMPORT[name] ?? [];
      const imported = importedBy(`packages/${name}`);
      const foreign = imported.filter((specifier) => !isOwn(specifier) && !(FOREIGN[name] ?? []).includes(specifier));
      const own = imported.filter(isOwn).map((specifier) => specifier.slice('@pinion/'.length));
      const forbidden = own.filter((other) => other === name || (allowed !== 'anything' && !allowed.includes(other)));
      const examples = imported.filter((each) => EXAMPLES[each] !== undefined && !EXAMPLES_FOR.includes(name));
      assert.deepEqual({ foreign, forbidden, examples }, { foreign: [], forbidden: [], examples: [] });
    });
  }

  for (const folder of begun.map((name) => `packages/${name}`)) {
    test(`${folder}: package.json and tsconfig.json name exactly what the sources import`, () => {
      const imported = importedBy(folder);
      assert.deepEqual(dependenciesOf(folder), imported);
      const references: unknown = readJson(`${folder}/tsconfig.json`)['references'] ?? [];
      assert.ok(Array.isArray(references));
      const referenced = references.map(({ path }: { path: string }) => normalize(join(folder, path)));
      assert.deepEqual(referenced.sort(), imported.filter(isOwn).map(folderOf).sort());
    });
  }

  for (const folder of foldersIn('examples').map((name) => `examples/${name}`)) {
    test(`${folder} names in its package.json what it imports`, () => {
      const named = dependenciesOf(folder);
      assert.deepEqual(
        importedBy(folder).filter((specifier) => !named.includes(specifier)),
        [],
      );
    });
  }

  test('nobody reaches into another package, out of its own, or past its index', () => {
    const reaching = sources.flatMap(({ name, path }) =>
      importsOf(readText(path))
        .map(({ specifier }) => specifier)
        .filter((specifier) => {
          if (isOwn(specifier)) return specifier !== packageOf(specifier);
          if (!isRelative(specifier)) return false;
          return (
            !specifier.endsWith('.js') || !normalize(join(dirname(path), specifier)).startsWith(`packages/${name}/src/`)
          );
        })
        .map((specifier) => `${path} imports ${specifier}`),
    );
    assertNone(reaching);
  });

  test('examples and tests use package roots too', () => {
    const paths = [...sourcesBelow('examples'), ...sourcesBelow('test')].filter((path) => !path.includes('/dist/'));
    const deep = paths.flatMap((path) =>
      importsOf(readText(path))
        .filter(({ specifier }) =>
          isOwn(specifier) ? specifier !== packageOf(specifier) : /packages\//.test(specifier),
        )
        .map(({ specifier }) => `${path} imports ${specifier}`),
    );
    assertNone(deep);
  });

  for (const [foreign, file] of Object.entries(ONLY_IN)) {
    test(`only ${file} knows ${foreign}`, () => {
      const users = sources.filter(({ path }) =>
        importsOf(readText(path)).some(({ specifier }) => specifier === foreign),
      );
      assert.deepEqual(
        users.map(({ path }) => path),
        [file],
      );
    });
  }

  test('core needs of Node only what it says', () => {
    const builtins = sources
      .filter(({ name }) => name === 'core')
      .flatMap(({ path }) =>
        importsOf(readText(path))
          .map(({ specifier }) => specifier)
          .filter(isBuiltin),
      );
    assert.deepEqual([...new Set(builtins)], CORE_BUILTINS);
  });

  // `import type` leaves nothing at run time, so it makes no cycle: two classes may know each other's type.
  for (const name of packages) {
    test(`${name} has no cycle of imports`, () => {
      const graph = new Map<string, string[]>();
      for (const path of sourcesBelow(`packages/${name}/src`)) {
        const targets = importsOf(readText(path)).filter(
          ({ specifier, typeOnly }) => isRelative(specifier) && !typeOnly,
        );
        graph.set(
          path,
          targets.map(({ specifier }) => normalize(join(dirname(path), specifier.replace(/\.js$/, '.ts')))),
        );
      }
      assert.deepEqual(cycleIn(graph), []);
    });
  }
});

/** The files of one cycle, empty when there is none. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>): readonly string[] {
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): readonly string[] => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return [];
    for (const next of graph.get(path) ?? []) {
      const cycle = visit(next, [...trail, path]);
      if (cycle.length > 0) return cycle;
    }
    done.add(path);
    return [];
  };
  for (const path of graph.keys()) {
    const cycle = visit(path, []);
    if (cycle.length > 0) return cycle;
  }
  return [];
}

describe('the style', () => {
  test('files are named in kebab-case for what they hold', () => {
    const odd = sources.filter(
      ({ path }) => !/^(?:[a-z0-9]+(?:-[a-z0-9]+)*\/)*[a-z0-9]+(?:-[a-z0-9]+)*\.ts$/.test(path),
    );
    const vague = sources.filter(({ path }) => /(?:^|[/-])(?:utils?|helpers?|common|misc|types-all)\.ts$/.test(path));
    assertNone([...odd, ...vague].map(({ path }) => path));
  });

  test('no file grows beyond 450 lines', () => {
    const long = sources.map(({ path }) => ({ path, lines: readText(path).split('\n').length }));
    assertNone(long.filter(({ lines }) => lines > 450).map(({ path, lines }) => `${path}: ${lines} lines`));
  });

  test('no `any`', () => {
    assertNone(matches(ANY));
  });

  test('no non-null `!`', () => {
    assertNone(matches(NON_NULL));
  });

  test('every cast says why, beside it or in the same paragraph above', () => {
    assertNone(matches(CAST, (_path, source, line) => isRename(source, line) || saysWhy(source, line)));
  });

  test('time comes from the clock', () => {
    const time = /\bDate\.now\b|\bnew Date\b|\bset(?:Timeout|Interval)\b|\bperformance\.now\b|\bprocess\.hrtime\b/g;
    assertNone(matches(time, (path) => CLOCKS.includes(path)));
  });

  test('errors have a name and an errno, and none is swallowed', () => {
    assertNone(matches(/\bnew Error\(|\bcatch\s*(?:\(\s*\w+\s*\)\s*)?\{\s*\}/g));
  });

  test('packages do not write to the console', () => {
    assertNone(matches(/\bconsole\s*\./g, (path) => path.startsWith('packages/cli/')));
  });
});

/** Whether the `as` of this line renames in an import or export. */
function isRename(source: string, line: number): boolean {
  const lines = source.split('\n');
  const before = lines.slice(0, line).join('\n');
  const statement = before.slice(Math.max(before.lastIndexOf(';'), 0));
  return (
    /(?:^|\n)\s*(?:import|export)\s+(?:type\s+)?[*{][^}]*$/.test(statement) ||
    /^\s*(?:import|export)\b.*\bfrom\b/.test(lines[line - 1] ?? '')
  );
}

/** Whether a `why` stands on this line or above it in the same paragraph (without an empty line between). */
function saysWhy(source: string, line: number): boolean {
  const lines = source.split('\n');
  for (let at = line - 1; at >= 0 && lines[at]?.trim() !== ''; at -= 1) {
    if (/(?:\/\/|\*|\/\*).*\bwhy\b/.test(lines[at] ?? '')) return true;
  }
  return false;
}

describe('the scanner of these tests', () => {
  const found: readonly (readonly [rule: string, pattern: RegExp, yes: readonly string[], no: readonly string[]])[] = [
    ['a cast', CAST, ['a as B', 'f(a as { b: C })', 'a as [B]', 'a as unknown as B'], ['a as const', 'alas b', 'a.as']],
    ['any', ANY, ['a: any', 'A<any>', 'a as any', '(a: B, c: any) => any'], ['many', 'any(x)', 'a.any', '{ any: 1 }']],
    ['non-null', NON_NULL, ['a!.b', 'f(a!)', 'a[0]!;', 'a()!'], ['a !== b', '!a', 'a && !b', 'return !a']],
  ];
  for (const [rule, pattern, yes, no] of found) {
    test(`finds ${rule}`, () => {
      const hits = (texts: readonly string[]): string[] => texts.filter((text) => text.match(pattern) !== null);
      assert.deepEqual([hits(yes), hits(no)], [yes, []]);
    });
  }

  const samples: readonly (readonly [what: string, source: string, code: string])[] = [
    ['a line comment', 'a // any', 'a       '],
    ['a block comment', 'a /* any\nb */ c', 'a       \n     c'],
    ['strings', `f('any', "x\\"as y")`, 'f(     ,          )'],
    ['a template', '`as @{b as C} any` + d', '      b as C       + d'],
    ['a template in a template', '`@{`any @{x}`}` y', '          x     y'],
    ['an object in a template', '`@{f({ a: 1 })}` b', '   f({ a: 1 })   b'],
    ['a regular expression', 'x = /any["\'/]/.test(y)', 'x =           .test(y)'],
    ['a division', 'a / b / c', 'a / b / c'],
  ];
  for (const [what, source, code] of samples) {
    test(`blanks ${what}`, () => assert.equal(codeOnly(source.replaceAll('@', '$')), code));
  }

  test('finds imports, exports from and dynamic imports, and which are types', () => {
    const source = `import a from 'a';\nimport type { B } from './b.js';\nimport {\n  c,\n  type D,\n} from './c.js';
export * from './d.js';\nexport type { E } from './e.js';\nimport 'f';\nawait import('g');\nconst x = 'from';`;
    assert.deepEqual(
      importsOf(source).map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? ' type' : ''}`),
      ['a', './b.js type', './c.js', './d.js', './e.js type', 'f', 'g'],
    );
  });

  test('finds a cycle and no other', () => {
    const graph = (edges: Readonly<Record<string, readonly string[]>>) => new Map(Object.entries(edges));
    assert.deepEqual(cycleIn(graph({ a: ['b', 'c'], b: ['c'], c: [] })), []);
    assert.deepEqual(cycleIn(graph({ a: ['b'], b: ['c'], c: ['b'] })), ['b', 'c', 'b']);
    assert.deepEqual(cycleIn(graph({ a: ['a'] })), ['a', 'a']);
  });

  test('accepts a why beside a cast or in its paragraph, and no other', () => {
    assert.equal(saysWhy('const a = b as C; // why: because', 1), true);
    assert.equal(saysWhy('// why: because\nconst a =\n  b as C;', 3), true);
    assert.equal(saysWhy('// why: because\n\nconst a = b as C;', 3), false);
    assert.equal(saysWhy('const why = b as C;', 1), false);
  });
});
