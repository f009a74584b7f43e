import { appendFileSync } from 'node:fs';

const ROUNDS = 5;

/** One figure: nanoseconds per operation, median of the rounds; or how many times another one. */
export interface Row {
  readonly name: string;
  readonly ns: number;
  readonly rounds: number;
  readonly unit?: 'times';
}

/** Runs `round` several times, each on what `prepare` made, and gives the median per operation. */
export function measure<T>(
  name: string,
  operations: number,
  job: { readonly prepare: () => T; readonly round: (prepared: T) => unknown },
): Row {
  job.round(job.prepare()); // compiled before it is timed
  const times: number[] = [];
  for (let index = 0; index < ROUNDS; index += 1) {
    const prepared = job.prepare();
    const start = process.hrtime.bigint();
    job.round(prepared);
    times.push(Number(process.hrtime.bigint() - start) / operations);
  }
  times.sort((a, b) => a - b);
  return { name, ns: Math.round((times[ROUNDS >> 1] ?? 0) * 10) / 10, rounds: ROUNDS };
}

/** Prints figures and writes them as JSON lines where the runner wants them. */
export function publish(bench: string, rows: readonly Row[]): void {
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, ns, unit } of rows)
    process.stdout.write(`${name.padEnd(width)}  ${ns.toFixed(1).padStart(10)} ${unit ?? 'ns'}\n`);
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ bench, rows })}\n`);
}
