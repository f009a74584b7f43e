import { spawnSync } from 'node:child_process';

/** Runs a program to its end. @returns its standard output. @throws Error with the end of what it said, if it fails. */
export function run(program: string, args: readonly string[], input?: Uint8Array): Buffer {
  const done = spawnSync(program, args, { maxBuffer: 1 << 30, ...(input === undefined ? {} : { input }) });
  if (done.status === 0) return done.stdout;
  const said = `${done.stderr ?? ''}`.trim().split('\n').slice(-4).join('\n');
  throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${done.error?.message ?? `exit ${done.status}`}\n${said}`);
}
