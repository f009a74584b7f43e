/** Sets up QEMU and a guest kernel from Debian packages. usage: npm run qemu:setup [-- --again] [-- --if-possible] */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findQemuKit, kitFolder } from '@pinion/vm';
import { buildKit } from './build.js';
import { Missing } from './missing.js';

const args = process.argv.slice(2);
const known = ['--again', '--if-possible'];
const unknown = args.find((arg) => !known.includes(arg));
const folder = kitFolder();
const began = performance.now();
const say = (what: string): void => {
  process.stdout.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${what}\n`);
};

function isThere(): boolean {
  try {
    findQemuKit(folder);
    return true;
  } catch {
    return false; // why: whatever is there is replaced
  }
}

/** Everything is made beside the kit and put in its place by one rename: a kit is whole or not there. */
function setUp(): void {
  mkdirSync(dirname(folder), { recursive: true });
  const work = mkdtempSync(`${folder}.work-`);
  process.once('SIGINT', () => {
    rmSync(work, { recursive: true, force: true });
    process.exit(130);
  });
  try {
    const made = join(work, 'kit');
    buildKit(made, work, say);
    if (existsSync(folder)) rmSync(folder, { recursive: true });
    renameSync(made, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function main(): number {
  if (unknown !== undefined) {
    process.stderr.write(
      `qemu:setup: unknown argument '${unknown}'\nusage: npm run qemu:setup [-- ${known.join('] [')}]\n`,
    );
    return 2;
  }
  try {
    if (args.includes('--again') || !isThere()) setUp();
    const { qemuVersion, kernelVersion } = findQemuKit(folder);
    say(`ready in ${folder}: QEMU ${qemuVersion}, Linux ${kernelVersion}`);
    return 0;
  } catch (cause) {
    if (!(cause instanceof Missing)) throw cause;
    process.stderr.write(`qemu:setup: this machine lacks ${cause.message}\n`);
    return 3;
  }
}

process.exitCode = main();
