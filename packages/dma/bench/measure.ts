import { appendFileSync } from 'node:fs';

const ROUNDS = 7;

/** One figure: nanoseconds per operation, median of the rounds; or how many times another one. */
export interface Row {
  readonly name: string;
  readonly ns: number;
  readonly rounds: number;
  readonly unit?: 'times';
}

/** What is measured: `round` on what `prepare` made, neither timed nor reused. */
export interface Job<T> {
  readonly prepare: () => T;
  readonly round: (prepared: T) => unknown;
}

/** Runs a job several times and gives the median per operation. */
export function measure<T>(name: string, operations: number, job: Job<T>): Row {
  const [row] = measureAlternately(operations, [{ name, ...job }]);
  if (row === undefined) throw new RangeError('one job gives one row');
  return row;
}

/** Runs several jobs in turn, so that whatever else happens on the machine meets them alike. */
export function measureAlternately<T>(
  operations: number,
  jobs: readonly (Job<T> & { readonly name: string })[],
): readonly Row[] {
  for (const job of jobs) job.round(job.prepare()); // compiled before it is timed
  const times = jobs.map((): number[] => []);
  for (let index = 0; index < ROUNDS; index += 1) {
    for (const [number, job] of jobs.entries()) {
      const prepared = job.prepare();
      const start = process.hrtime.bigint();
      job.round(prepared);
      times[number]?.push(Number(process.hrtime.bigint() - start) / operations);
    }
  }
  return jobs.map(({ name }, number) => {
    const sorted = times[number]?.sort((a, b) => a - b) ?? [];
    return { name, ns: Math.round((sorted[ROUNDS >> 1] ?? 0) * 10) / 10, rounds: ROUNDS };
  });
}

/** Prints figures and writes them as JSON lines where the runner wants them. */
export function publish(bench: string, rows: readonly Row[]): void {
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, ns, unit } of rows)
    process.stdout.write(`${name.padEnd(width)}  ${ns.toFixed(1).padStart(10)} ${unit ?? 'ns'}\n`);
  const file = process.env['PINION_BENCH_JSON'];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ bench, rows })}\n`);
}
