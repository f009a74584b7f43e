// Runs every compiled benchmark in turn, alone on the machine as far as we can tell. An argument filters by file name,
// `--json FILE` collects one line per benchmark. Plain JavaScript, as all of .ci.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const args = process.argv.slice(2);
const json = args.indexOf('--json');
const file = json < 0 ? undefined : args[json + 1];
if (json >= 0 && (file === undefined || file.startsWith('--'))) fail('--json needs the name of a file');
const [filter = '', ...rest] = args.filter((_, i) => json < 0 || (i !== json && i !== json + 1));
const unknown = [filter, ...rest].find((arg) => arg.startsWith('-'));
if (unknown !== undefined || rest.length > 0) fail(`unknown argument '${unknown ?? rest[0]}'`);

function fail(problem) {
  process.stderr.write(`bench: ${problem}\nusage: npm run bench [-- FILTER] [-- --json FILE]\n`);
  process.exit(2);
}

const below = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? below(join(folder, entry.name)) : [join(folder, entry.name)],
      )
    : [];
const packages = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'dist-test', 'bench'));
const benches = [...packages, join(root, 'test', 'dist', 'bench')]
  .flatMap(below)
  .filter((path) => path.endsWith('.bench.js') && relative(root, path).includes(filter))
  .sort();
if (benches.length === 0) fail(`no benchmark matches '${filter}'`);

const env = { ...process.env };
if (file !== undefined) {
  env.PINION_BENCH_JSON = resolve(file);
  writeFileSync(env.PINION_BENCH_JSON, '');
}
const failed = [];
for (const [i, bench] of benches.entries()) {
  process.stdout.write(`[${i + 1}/${benches.length}] ${relative(root, bench)}\n`);
  const begin = performance.now();
  const { status } = spawnSync(process.execPath, [bench], { cwd: root, env, stdio: 'inherit' });
  if (status !== 0) failed.push(basename(bench));
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  process.stdout.write(`${status === 0 ? 'done' : `FAILED (exit ${status})`} in ${seconds} s\n\n`);
}
if (failed.length > 0) process.stderr.write(`bench: failed: ${failed.join(', ')}\n`);
process.exit(failed.length === 0 ? 0 : 1);
