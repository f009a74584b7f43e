import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PNG } from 'pngjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const execute = promisify(execFile);

/** Runs an example as a person would, in a process of its own. @throws if it does not end with exit status 0. */
async function run(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(process.execPath, [join(root, 'examples', name, 'dist', 'main.js'), ...args]);
  return stdout;
}

const lastLine = (text: string): string => text.trimEnd().split('\n').pop() ?? '';

test('mixed ends with nothing mapped, pinned or locked, and has drawn a PNG', async () => {
  const output = await run('mixed');
  assert.equal(lastLine(output), '0 mappings, 0 pins, 0 locked pages');
  assert.doesNotMatch(output, /^ +FAIL/im);
  const png = readFileSync(join(root, 'examples', 'mixed', 'out', 'frame.png'));
  assert.deepEqual([...png.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
});

test('mixed --hypervisor v86 ends with nothing left, too, and says what it does without', async () => {
  const output = await run('mixed', '--hypervisor', 'v86');
  assert.equal(lastLine(output), '0 mappings, 0 pins, 0 locked pages');
  assert.doesNotMatch(output, /^ +FAIL/im);
  assert.match(output, /^without dasd: vfio-ccw devices belong to s390 machines/m);
});

test('mixed --json prints one JSON document and nothing else', async () => {
  const document: unknown = JSON.parse(await run('mixed', '--json'));
  assert.ok(typeof document === 'object' && document !== null);
});

test('an argument that there is not is refused with the usage', async () => {
  await assert.rejects(run('mixed', '--jsn'), /'--jsn'.*\nusage: npm start/s);
  await assert.rejects(run('mixed', 'json'), /'json'.*\nusage: npm start/s);
  await assert.rejects(run('five-mixes', '--jsn'), /'--jsn'.*usage: npm run five-mixes/s);
});

test('five-mixes finds no difference from Linux', async () => {
  assert.match(lastLine(await run('five-mixes')), /^7 combinations, 0 differences from Linux$/);
});

test('five-mixes on sPAPR TCE differs from type1 where Linux does, and says why', async () => {
  const output = await run('five-mixes', '--backend', 'spapr-tce');
  assert.match(lastLine(output), /^7 combinations, 0 differences from Linux$/);
  assert.match(output, /plug the vGPU +1024 +EINVAL +EINVAL/);
  assert.match(output, /sPAPR cannot, and refuses its group/);
  await assert.rejects(run('five-mixes', '--backend', 'abacus'), /there is no backend 'abacus'; usage:/);
});

test('crypto loses no request, and nothing is left when its guests end', async () => {
  const output = await run('crypto', '--seconds', '0.3');
  assert.match(lastLine(output), /^ok +no mapping, no pin, no locked page, no thread is left$/);
  assert.doesNotMatch(output, /^FAIL/m);
  const { ok, guests } = JSON.parse(await run('crypto', '--seconds', '0.2', '--json'));
  assert.deepEqual([ok, guests.length], [true, 3]);
  await assert.rejects(run('crypto', '--seconds', 'soon'), /usage:/);
});

test('dasd copies a dataset that the guest IPLed from, and holds nothing at the end', async () => {
  const output = await run('dasd');
  assert.match(output, /at the end +0 pages pinned/);
  assert.match(lastLine(output), /^verified +1000 records on the FBA image are those of the ECKD image$/);
});

test('vgpu: two guests share a GPU by weight, hang, sleep and die, and every page comes back', async () => {
  const output = await run('vgpu');
  assert.doesNotMatch(output, /^!/m);
  assert.match(output, /left runs a batch without end +VM_GPU_HUNG/);
  assert.match(lastLine(output), /at the end +0 pages of the host are referenced$/);
  const { width, height, data } = PNG.sync.read(readFileSync(join(root, 'examples', 'vgpu', 'out', 'vgpu.png')));
  assert.deepEqual([width, height], [1096, 560]);
  const pixel = (x: number, y: number): string => data.toString('hex', (y * width + x) * 4, (y * width + x) * 4 + 3);
  const night = '0b0d1e';
  assert.equal(pixel(24 + 500, 24 + 10), night, 'above the triangle');
  assert.notEqual(pixel(24 + 2, 24 + 300), night, 'its left edge');
  assert.notEqual(pixel(24 + 400, 24 + 510), night, 'its last row');
  assert.notEqual(pixel(560 + 4, 24 + 4), night, 'where the curve begins');
  assert.equal(pixel(560 + 8, 24 + 8), night, 'between its strokes');
});

test('dma-lifetimes finds who leaks, and draws it', async () => {
  const output = await run('dma-lifetimes');
  assert.match(output, /^Leaks: +per-vma, per-vma \+ shrinker$/m);
  assert.match(output, /^first-bind: nothing$/m);
  assert.match(output, /^get-pages: nothing$/m);
  const svg = readFileSync(join(root, 'examples', 'dma-lifetimes', 'out', 'dma-lifetimes.svg'), 'utf8');
  assert.match(svg, /^<svg/);
});

test('custom-plugin counts, and holds nothing after the unmap', async () => {
  const output = await run('custom-plugin');
  assert.match(output, /the guest reads its counter: 3/);
  assert.equal(lastLine(output), 'after unmap: 0 page(s) pinned, 0 locked');
});

test('custom-backend refuses what is over the quota, by either backend', async () => {
  const output = await run('custom-backend');
  assert.match(output, /QUOTA_SPENT \(ENOMEM\)/);
  assert.match(output, /MINIMAL_SPENT \(ENOMEM\)/);
});

test('custom-hypervisor names what its killed guest left, and ends with no grant', async () => {
  const output = await run('custom-hypervisor');
  assert.match(output, /left over on .*: gfn 0x6 size 0x1000 refs 1, mapped by display buffer 0x1\n/);
  assert.match(lastLine(output), /0 table entries, 0 grants$/);
});
