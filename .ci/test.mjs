// Finds every compiled test and hands the list to node's own runner: directories and quoted globs mean
// different things to `node --test` in Node 20, 22 and 24, an explicit list means the same in all.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const below = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? below(join(folder, entry.name)) : [join(folder, entry.name)],
      )
    : [];
const testsIn = (folder) => readdirSync(join(root, folder)).map((name) => join(root, folder, name, 'dist-test'));
const packages = testsIn('packages');
const devices = testsIn('examples/devices');
// an example that has a test keeps it beside its sources, so that a folder that is copied has it, too
const examples = readdirSync(join(root, 'examples')).map((name) => join(root, 'examples', name, 'dist'));
const [filter = '', ...rest] = process.argv.slice(2);
if (filter.startsWith('-') || rest.length > 0) {
  process.stderr.write(`test: unknown argument '${rest[0] ?? filter}'\nusage: node .ci/test.mjs [FILTER]\n`);
  process.exit(2);
}
const files = [...packages, ...devices, ...examples, join(root, 'test', 'dist')]
  .flatMap(below)
  .filter((file) => file.endsWith('.test.js') && file.includes(filter))
  .map((file) => relative(root, file))
  .sort();
if (files.length === 0) {
  process.stderr.write(`no test file matches '${filter}'\n`);
  process.exit(1);
}
const node = process.env.PINION_NODE ?? process.execPath;
// node leaves one CPU to itself, so that on two CPUs one test file would run at a time and the other CPU idle
const concurrency = `--test-concurrency=${Math.max(2, availableParallelism() - 1)}`;
const done = spawnSync(node, ['--enable-source-maps', '--test', '--test-reporter=spec', concurrency, ...files], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(done.status ?? 1);
