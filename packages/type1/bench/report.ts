/** What a benchmark prints: a table with ratios and targets, and one line of JSON if a file is named. */
import { appendFileSync } from 'node:fs';

/** One line of the table. */
export interface Row {
  readonly case: string;
  readonly subject: string;
  readonly operation: string;
  /** Median nanoseconds per operation; bytes where `unit` says so. */
  readonly value: number;
  readonly unit: 'ns' | 'B';
  /** The C red-black tree's figure of the same run. */
  readonly yardstick?: number;
  /** Largest ratio to the yardstick (`x`) or largest value (`abs`) that meets the target of design.md section 7. */
  readonly target?: { readonly kind: 'x' | 'abs'; readonly most: number };
}

/** The middle of `values`. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

const ratioOf = (row: Row): number | undefined => (row.yardstick === undefined ? undefined : row.value / row.yardstick);

function verdict(row: Row): string {
  const { target } = row;
  if (target === undefined) return '';
  const measured = target.kind === 'x' ? ratioOf(row) : row.value;
  if (measured === undefined) return '-';
  return measured <= target.most ? 'hit' : 'MISS';
}

const digits = (value: number): string => (value < 100 ? value.toFixed(1) : value.toFixed(0));

function cells(row: Row): string[] {
  const ratio = ratioOf(row);
  return [
    row.case,
    row.operation,
    row.subject,
    `${digits(row.value)} ${row.unit}`,
    row.yardstick === undefined ? '-' : `${digits(row.yardstick)} ${row.unit}`,
    ratio === undefined ? '-' : `${ratio.toFixed(2)} x`,
    row.target === undefined ? '' : `<= ${row.target.most} ${row.target.kind === 'x' ? 'x' : row.unit}`,
    verdict(row),
  ];
}

/** Prints the table; with PINION_BENCH_JSON in the environment appends `{"bench","rows"}` to that file. */
export function report(bench: string, rows: readonly Row[]): void {
  const table = [['case', 'operation', 'what', 'median', 'C tree', 'ratio', 'target', ''], ...rows.map(cells)];
  const widths = table.reduce(
    (all, line) => line.map((cell, i) => Math.max(all[i] ?? 0, cell.length)),
    new Array<number>(8).fill(0),
  );
  for (const line of table) {
    const text = line.map((cell, i) => (i < 3 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)));
    process.stdout.write(`${text.join('  ').trimEnd()}\n`);
  }
  const file = process.env['PINION_BENCH_JSON'];
  if (file === undefined || file === '') return;
  const full = rows.map((row) => ({ ...row, ratio: ratioOf(row), verdict: verdict(row) }));
  appendFileSync(file, `${JSON.stringify({ bench, rows: full })}\n`);
}

/** Rounds of a benchmark: PINION_BENCH_ROUNDS, or 3. */
export const ROUNDS = Math.max(1, Number(process.env['PINION_BENCH_ROUNDS'] ?? 3) || 3);
