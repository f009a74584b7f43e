import { styleText } from 'node:util';

/** One line of the table: what happened, the locked pages that Linux has then, and ours. */
export interface Row {
  readonly step: string;
  readonly expected: number | string;
  readonly got: number | string;
}

export interface Mix {
  readonly title: string;
  readonly rows: readonly Row[];
}

export const rowHolds = ({ expected, got }: Row): boolean => expected === got;

/** The accounting table for a terminal; colours only where there is one. */
export function printTable(mixes: readonly Mix[], out: NodeJS.WriteStream): void {
  const coloured = out.isTTY === true && process.env['NO_COLOR'] === undefined;
  const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
    coloured ? styleText(style, text) : text;
  const line = (text: string): void => void out.write(`${text}\n`);
  const cells = (step: string, expected: string, got: string): string =>
    `  ${step.padEnd(58)} ${expected.padStart(8)} ${got.padStart(8)}`;
  line(paint('bold', cells('locked pages of the VMM (1024 pages of memory)', 'expected', 'got')));
  for (const { title, rows } of mixes) {
    line('');
    line(paint('bold', title));
    for (const row of rows) {
      const text = cells(row.step, String(row.expected), String(row.got));
      line(rowHolds(row) ? `${text}  ${paint('green', 'ok')}` : `${text}  ${paint('red', 'DIFFERENT')}`);
    }
  }
}
