// Finds every compiled test and hands the list to node's own runner: directories and quoted globs mean
// different things to `node --test` in Node 20, 22 and 24, an explicit list means the same in all.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const below = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? below(join(folder, entry.name)) : [join(folder, entry.name)],
      )
    : [];
const packages = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'dist-test'));
const filter = process.argv[2] ?? '';
const files = [...packages, join(root, 'test', 'dist')]
  .flatMap(below)
  .filter((file) => file.endsWith('.test.js') && file.includes(filter))
  .map((file) => relative(root, file))
  .sort();
if (files.length === 0) {
  process.stderr.write(`no test file matches '${filter}'\n`);
  process.exit(1);
}
const node = process.env.PINION_NODE ?? process.execPath;
const done = spawnSync(node, ['--enable-source-maps', '--test', '--test-reporter=spec', ...files], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(done.status ?? 1);
