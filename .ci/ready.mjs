// Makes the checkout ready: installs what the lock file names if that changed, then compiles what changed.
// Plain JavaScript without dependencies, because it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const args = process.argv.slice(2);
const quiet = args.includes('--quiet');
const projects = args.filter((arg) => !arg.startsWith('--'));

const run = (command, commandArgs) => {
  const done = spawnSync(command, commandArgs, {
    cwd: root,
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
    encoding: 'utf8',
  });
  if (done.status === 0) return;
  if (quiet) process.stderr.write(`${done.stdout}${done.stderr}`);
  process.stderr.write(
    `ready: '${command} ${commandArgs.join(' ')}' failed (${done.error?.message ?? `exit ${done.status}`})\n`,
  );
  process.exit(1);
};

const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');
const marker = join(root, 'node_modules', '.ready');
if (!existsSync(marker) || readFileSync(marker, 'utf8') !== wanted) {
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(marker, wanted);
}
run(process.execPath, [
  join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
  '-b',
  ...(projects.length > 0 ? projects : ['.']),
]);
