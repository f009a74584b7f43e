// The example with an unmodified Linux whose console is on a vGPU.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { PNG } from 'pngjs';
import { ROOT } from '../source-code.js';

const LIMIT = 240_000;

test('examples/linux-console', async () => {
  const example = join(ROOT, 'examples', 'linux-console');
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(example, 'dist', 'main.js')], {
    timeout: LIMIT,
  });
  assert.equal(stderr, '');
  assert.match(stdout, /console of 1920x1200/);
  assert.match(stdout, /^0 mappings, 0 pins, 0 locked pages\n$/m);
  const { width, height, data } = PNG.sync.read(readFileSync(join(example, 'out', 'console.png')));
  assert.deepEqual([width, height], [1920, 1200]);
  const red = data.filter((byte, at) => at % 4 === 0 && byte > 0x80 && (data[at + 1] ?? 0) < 0x40).length;
  assert.ok(red > 1000, 'the banner is there, in colour');
});
