import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { checkImage } from '@pinion/v86';
import { guestFile, startPc } from './pc.js';

const BUILT = ['self-test.elf', 'devices.elf', 'studio.elf'] as const;
/** Who built the files that are in the repository. Another compiler or linker makes other code of the same sources. */
const BUILDER = readFileSync(guestFile('built-with'), 'utf8').trim();

/** Compiler and linker of this machine, as `built-with` names them; undefined if one is missing. */
function builder(): string | undefined {
  const lines = ['gcc', 'ld'].map((tool) => {
    const { status, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' });
    return status === 0 ? stdout.split('\n')[0]?.trim() : undefined;
  });
  return lines.includes(undefined) ? undefined : lines.join('\n');
}

/** Whether `gcc` can make code for i386 at all: one of an ARM machine cannot. */
const can32 = (): boolean => spawnSync('gcc', ['-m32', '-E', '-x', 'c', '-'], { input: '' }).status === 0;

test('the sources make the guests that are in the repository', async (t) => {
  const found = builder();
  if (found === undefined || !can32()) return t.skip('there is no gcc that knows -m32');
  const folder = mkdtempSync(join(tmpdir(), 'pinion-guests-'));
  t.after(() => rmSync(folder, { recursive: true }));
  execFileSync('sh', [fileURLToPath(guestFile('build.sh')), folder], { stdio: 'pipe' });
  const built = BUILT.map((name) => new Uint8Array(readFileSync(join(folder, name))));
  if (found === BUILDER) {
    for (const [n, name] of BUILT.entries())
      assert.ok(
        built[n] !== undefined && Buffer.from(built[n]).equals(readFileSync(guestFile(name))),
        `${name} differs`,
      );
    return;
  }
  t.diagnostic(`built with ${found}, not with ${BUILDER}: bytes may differ, so what they do is compared`);
  const [, image] = built;
  assert.ok(image !== undefined);
  checkImage(image, 4 << 20);
  const pc = await startPc(t, { image });
  await pc.vm.run();
  const shipped = await startPc(t);
  await shipped.vm.run();
  assert.deepEqual(pc.lines, shipped.lines);
});
