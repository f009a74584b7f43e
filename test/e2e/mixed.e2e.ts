// The main example with a real QEMU: one description, two devices, one container.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../source-code.js';

const LIMIT = 240_000;

test('examples/mixed --hypervisor qemu', async () => {
  const args = [join(ROOT, 'examples', 'mixed', 'dist', 'main.js'), '--hypervisor', 'qemu', '--json'];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { timeout: LIMIT });
  const { ok, absent, steps, left } = JSON.parse(stdout);
  assert.equal(stderr, '');
  assert.deepEqual(Object.keys(absent).sort(), ['crypto', 'dasd', 'disk', 'vgpu']);
  assert.match(absent.dasd, /s390/);
  const failed = steps.flatMap(({ checks }: { checks: readonly { ok: boolean; what: string }[] }) =>
    checks.filter((check) => !check.ok),
  );
  assert.deepEqual([failed, left, ok], [[], { mappings: 0, pins: 0, lockedPages: 0 }, true]);
  assert.deepEqual(
    steps.map(({ step }: { step: string }) => step),
    [
      'Linux booted, its drivers bound',
      'picture read and copied on the disk',
      'lamps switched on and off',
      'archive unplugged',
      'archive plugged in again',
      'QEMU killed mid-I/O',
      'QEMU and devices ended',
    ],
  );
});
