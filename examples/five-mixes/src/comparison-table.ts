import { styleText } from 'node:util';
import { COLUMNS } from './backends.js';
import type { ComparedMix, ComparedStep } from './comparison.js';

const WIDTH = 100;

/** The comparison for a terminal; colours only where there is one. */
export function printComparison(mixes: readonly ComparedMix[], out: NodeJS.WriteStream): void {
  const coloured = out.isTTY === true && process.env['NO_COLOR'] === undefined;
  const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
    coloured ? styleText(style, text) : text;
  const line = (text: string): void => void out.write(`${text}\n`);
  const cells = (step: string, values: readonly string[]): string =>
    `  ${step.padEnd(48)} ${values.map((value) => value.padStart(10)).join(' ')}`;
  line(paint('bold', cells('locked pages of the VMM (1024 pages of memory)', COLUMNS)));
  for (const { title, why, steps } of mixes) {
    line('');
    line(paint('bold', title));
    for (const { step, expected, got } of steps) {
      const text = cells(
        step,
        COLUMNS.map((column) => String(got[column])),
      );
      line(
        holds({ step, expected, got }) ? text : `${text}  ${paint('red', `DIFFERENT: Linux has ${shown(expected)}`)}`,
      );
    }
    for (const part of wrap(why)) line(paint('dim', `    ${part}`));
  }
}

const shown = (expected: ComparedStep['expected']): string =>
  COLUMNS.map((column) => String(expected[column])).join(', ');

const holds = ({ expected, got }: ComparedStep): boolean => COLUMNS.every((column) => expected[column] === got[column]);

/** Lines of at most so many characters. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < WIDTH) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
