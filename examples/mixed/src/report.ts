import { styleText } from 'node:util';
import type { Accounting } from '@pinion/vm';

/** Something that had to be true. */
export interface Check {
  readonly what: string;
  readonly ok: boolean;
}

/** One step of the run: what the VM held after it, and what was checked. */
export interface Step {
  readonly name: string;
  readonly accounting: Accounting;
  readonly checks: readonly Check[];
}

/** Where the run goes: a table for people, or one JSON document at the end. */
export interface Report {
  step(step: Step): void;
  end(result: Result): void;
}

/** How the run ended. */
export interface Result {
  readonly ok: boolean;
  /** What was made, by name. */
  readonly facts: Readonly<Record<string, string>>;
  /** What is left of the VM. */
  readonly left: { readonly mappings: number; readonly pins: number; readonly lockedPages: number };
}

const summaryOf = ({ mappings, pins, lockedPages }: Result['left']): string =>
  `${mappings} mappings, ${pins} pins, ${lockedPages} locked pages`;

const MIB = 1n << 20n;
const OWNERS = ['disk', 'vgpu', 'dasd', 'crypto'] as const;
const COLUMNS: readonly (readonly [title: string, width: number])[] = [
  ['step', 34],
  ['mapped', 7],
  ...OWNERS.map((owner) => [owner, 6] as const),
  ['locked', 7],
];
const HEADING = 'pages pinned for';

type Style = Parameters<typeof styleText>[0];

/** A table on the terminal. Colours only where there is one. */
export function tableReport(out: NodeJS.WriteStream): Report {
  const coloured = out.isTTY === true && process.env['NO_COLOR'] === undefined;
  const paint = (style: Style, text: string): string => (coloured ? styleText(style, text) : text);
  const line = (text = ''): void => void out.write(`${text}\n`);
  const row = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => (index === 0 ? cell.padEnd(COLUMNS[0]?.[1] ?? 0) : cell.padStart(COLUMNS[index]?.[1] ?? 0)))
      .join(' ');
  const left = row(COLUMNS.slice(0, 2).map(() => '')).length;
  line(paint('dim', HEADING.padStart(left + OWNERS.length * 7)));
  line(paint('bold', row(COLUMNS.map(([title]) => title))));
  line(paint('dim', '-'.repeat(row(COLUMNS.map(() => '')).length)));
  return {
    step({ name, accounting, checks }) {
      const { mappedBytes, iommuPages, pinnedPages, lockedPages } = accounting;
      const count = (pages: number | undefined): string => (pages === undefined || pages === 0 ? '-' : String(pages));
      const pins = OWNERS.map((owner) => count(iommuPages.get(owner) ?? pinnedPages.get(owner)));
      line(row([name, `${mappedBytes / MIB} MiB`, ...pins, String(lockedPages)]));
      for (const { what, ok } of checks) {
        line(`  ${ok ? paint('green', 'ok  ') : paint('red', 'FAIL')} ${paint('dim', what)}`);
      }
    },
    end({ ok, facts, left }) {
      line();
      for (const [name, value] of Object.entries(facts)) line(`${paint('dim', name.padEnd(10))} ${value}`);
      line();
      line(paint(ok ? ['bold', 'green'] : ['bold', 'red'], summaryOf(left)));
    },
  };
}

/** One JSON document when the run has ended. */
export function jsonReport(out: NodeJS.WritableStream): Report {
  const steps: unknown[] = [];
  return {
    step({ name, accounting, checks }) {
      steps.push({
        step: name,
        mappings: accounting.mappings,
        mappedBytes: Number(accounting.mappedBytes),
        iommuPages: Object.fromEntries(accounting.iommuPages),
        pinnedPages: Object.fromEntries(accounting.pinnedPages),
        lockedPages: accounting.lockedPages,
        checks,
      });
    },
    end({ ok, facts, left }) {
      out.write(`${JSON.stringify({ ok, steps, ...facts, left, summary: summaryOf(left) }, null, 2)}\n`);
    },
  };
}
