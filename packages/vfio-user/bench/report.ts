/** What the benchmark prints: a table with ratios and targets, and one line of JSON if a file is named. */
import { appendFileSync } from 'node:fs';

/** One line of the table: median nanoseconds; `peer` and `target` are multiples of the yardstick. */
export interface Row {
  readonly operation: string;
  readonly subject: string;
  readonly value: number;
  readonly yardstick: number;
  readonly peer?: number;
  readonly target?: number;
}

/** The middle of `values`. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

const ratioOf = (row: Row): number => row.value / row.yardstick;

const verdict = (row: Row): string =>
  row.target === undefined
    ? ''
    : ratioOf(row) <= row.target
      ? 'hit'
      : `MISS, ${(ratioOf(row) / row.target).toFixed(2)} x the target`;

const times = (ratio: number | undefined): string => (ratio === undefined ? '' : `${ratio.toFixed(2)} x`);

const cells = (row: Row): string[] => [
  row.operation,
  row.subject,
  `${(row.value / 1000).toFixed(2)} us`,
  times(ratioOf(row)),
  times(row.peer),
  row.target === undefined ? '' : `<= ${times(row.target)}`,
  verdict(row),
];

/** Prints the table; with PINION_BENCH_JSON in the environment appends `{"bench","rows"}` to that file. */
export function report(bench: string, rows: readonly Row[]): void {
  const table = [['operation', 'server', 'median', 'of ping-pong', 'libvfio-user', 'target', ''], ...rows.map(cells)];
  const widths = [0, 1, 2, 3, 4, 5, 6].map((i) => Math.max(...table.map((line) => line[i]?.length ?? 0)));
  for (const line of table) {
    const text = line.map((cell, i) =>
      i < 2 || i === 6 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
    );
    process.stdout.write(`${text.join('  ').trimEnd()}\n`);
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file === undefined || file === '') return;
  const full = rows.map((row) => ({ ...row, ratio: ratioOf(row), verdict: verdict(row) }));
  appendFileSync(file, `${JSON.stringify({ bench, unit: 'ns', rows: full })}\n`);
}

/** Rounds of the benchmark: PINION_BENCH_ROUNDS, or 5. */
export const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 5) || 5);
