/** The C yardstick: compiled when a compiler is there, absent otherwise. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Nanoseconds per operation, by the operation's name. */
export type Timings = Readonly<Record<string, number>>;

/** A function that runs the C program; without a compiler it answers undefined, after one notice. */
export function compileYardstick(): (...args: string[]) => Timings | undefined {
  // dist-test/bench -> bench/yardstick
  const source = fileURLToPath(new URL('../../bench/yardstick/calls.c', import.meta.url));
  const program = join(mkdtempSync(join(tmpdir(), 'pinion-bench-')), 'calls');
  const compiler = process.env['CC'] ?? 'cc';
  const done = spawnSync(compiler, ['-O2', '-o', program, source], { encoding: 'utf8' });
  if (done.status !== 0) {
    const reason = done.error?.message ?? done.stderr?.split('\n')[0] ?? 'no reason given';
    process.stdout.write(`notice: no ratios, '${compiler}' did not compile the yardstick (${reason})\n`);
    return () => undefined;
  }
  // why: the program prints one flat JSON object of numbers; it is ours.
  return (...args) => JSON.parse(execFileSync(program, args, { encoding: 'utf8' })) as Timings;
}
