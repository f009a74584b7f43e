import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'examples', 'custom-backend');
const execute = promisify(execFile);

const count = (report: string, what: string): number => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(report)?.[1]);

test('the backend of examples/custom-backend passes the suite, as a reader would run it', async () => {
  const { NODE_TEST_CONTEXT: _ours, ...env } = process.env;
  const args = ['--test', '--test-reporter=tap', join(folder, 'dist', 'minimal.test.js')];
  const { stdout } = await execute(process.execPath, args, { env });
  assert.equal(count(stdout, 'fail'), 0);
  assert.ok(count(stdout, 'pass') > 60, stdout.slice(-200));
  assert.match(stdout, /# SKIP it does not declare passthrough/);
});

test('it is a backend that one can read: under 150 lines', () => {
  const lines = readFileSync(join(folder, 'src', 'minimal.ts'), 'utf8')
    .trimEnd()
    .split('\n');
  assert.ok(lines.length < 150, `${lines.length} lines`);
});
