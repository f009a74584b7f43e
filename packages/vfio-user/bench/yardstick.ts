/** The C program: compiled when a compiler is there, absent otherwise; and the CPU that everything shares. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Nanoseconds per operation, by the operation's name. */
export type Timings = Readonly<Record<string, number>>;

/** Runs the C program with `args`; undefined without a compiler, after one notice. */
export function compileYardstick(): ((...args: string[]) => Timings) | undefined {
  // dist-test/bench -> bench/yardstick
  const source = fileURLToPath(new URL('../../bench/yardstick/wire.c', import.meta.url));
  const program = join(mkdtempSync(join(tmpdir(), 'pinion-bench-')), 'wire');
  const compiler = process.env['CC'] ?? 'cc';
  const done = spawnSync(compiler, ['-O2', '-o', program, source], { encoding: 'utf8' });
  if (done.status !== 0) {
    const reason = done.error?.message ?? done.stderr?.split('\n')[0] ?? 'no reason given';
    process.stdout.write(`notice: nothing is measured, '${compiler}' did not compile the client (${reason})\n`);
    return undefined;
  }
  return (...args) => {
    const [file, ...rest] = [...onOneCpu(program), ...args];
    // why: the program prints one flat JSON object of numbers; it is ours.
    return JSON.parse(execFileSync(file, rest, { encoding: 'utf8' })) as Timings;
  };
}

/** The command line that runs a program on the last CPU; the program alone where there is no taskset. */
export function onOneCpu(program: string): readonly [file: string, ...args: string[]] {
  return hasTaskset ? ['taskset', '-c', String(availableParallelism() - 1), program] : [program];
}

const hasTaskset = spawnSync('taskset', ['-V']).status === 0;
if (!hasTaskset)
  process.stdout.write(
    'notice: there is no taskset; processes may run on different CPUs, where a wake-up costs more\n',
  );
