// Real QEMU and real guests: sets up what they need, then runs every compiled *.e2e.js, one file at a time.
// usage: npm run test:e2e [-- FILTER] [-- --if-possible]     With --if-possible a machine that cannot have a QEMU is no failure.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'test', 'dist', 'e2e');
const IF_POSSIBLE = '--if-possible';
const CANNOT = 3; // exit status of the set-up
const args = process.argv.slice(2).filter((arg) => arg !== IF_POSSIBLE);
const ifPossible = process.argv.includes(IF_POSSIBLE);
const [filter = '', ...rest] = args;
if (filter.startsWith('-') || rest.length > 0) {
  process.stderr.write(
    `e2e: unknown argument '${rest[0] ?? filter}'\nusage: npm run test:e2e [-- FILTER] [-- ${IF_POSSIBLE}]\n`,
  );
  process.exit(2);
}
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.e2e.js') && name.includes(filter))
  .sort()
  .map((name) => join('test', 'dist', 'e2e', name));
if (files.length === 0) {
  process.stderr.write(`e2e: no file matches '${filter}'\n`);
  process.exit(1);
}
const setup = spawnSync(process.execPath, [join(folder, 'kit', 'main.js')], { cwd: root, stdio: 'inherit' });
if (setup.status === CANNOT && ifPossible) {
  process.stdout.write(
    'e2e: SKIPPED, because this machine cannot have a QEMU (the reason stands above); nothing was tested\n',
  );
  process.exit(0);
}
if (setup.status !== 0) process.exit(setup.status ?? 1);
const done = spawnSync(
  process.execPath,
  ['--enable-source-maps', '--test', '--test-reporter=spec', '--test-concurrency=1', ...files],
  { cwd: root, stdio: 'inherit' },
);
process.exit(done.status ?? 1);
