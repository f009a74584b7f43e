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
  /** Devices that this hypervisor's guests cannot have, with the reason. Before the first step. */
  absent(devices: readonly (readonly [name: string, reason: string])[]): void;
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
const OWNER_WIDTH = 7;
const columnsFor = (owners: readonly string[]): readonly (readonly [title: string, width: number])[] => [
  ['step', 35],
  ['mapped', 7],
  ...owners.map((owner) => [owner, OWNER_WIDTH] as const),
  ['locked', 7],
];
const HEADING = 'pages pinned for';

type Style = Parameters<typeof styleText>[0];

/** A table on the terminal. Colours only where there is one. `owners`: devices whose pins are shown. */
export function tableReport(out: NodeJS.WriteStream, owners: readonly string[]): Report {
  const columns = columnsFor(owners);
  const coloured = out.isTTY === true && process.env['NO_COLOR'] === undefined;
  const paint = (style: Style, text: string): string => (coloured ? styleText(style, text) : text);
  const line = (text = ''): void => void out.write(`${text}\n`);
  const row = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => (index === 0 ? cell.padEnd(columns[0]?.[1] ?? 0) : cell.padStart(columns[index]?.[1] ?? 0)))
      .join(' ');
  const left = row(columns.slice(0, 2).map(() => '')).length;
  let headed = false;
  const head = (): void => {
    headed = true;
    line(paint('dim', HEADING.padStart(left + owners.length * (OWNER_WIDTH + 1))));
    line(paint('bold', row(columns.map(([title]) => title))));
    line(paint('dim', '-'.repeat(row(columns.map(() => '')).length)));
  };
  return {
    absent(devices) {
      for (const [name, reason] of devices) line(paint('dim', `without ${name}: ${reason}`));
      line();
    },
    step({ name, accounting, checks }) {
      if (!headed) head();
      const { mappedBytes, iommuPages, pinnedPages, lockedPages } = accounting;
      const count = (pages: number | undefined): string => (pages === undefined || pages === 0 ? '-' : String(pages));
      const pins = owners.map((owner) => count(iommuPages.get(owner) ?? pinnedPages.get(owner)));
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
  const absent: Record<string, string> = {};
  return {
    absent: (devices) => void Object.assign(absent, Object.fromEntries(devices)),
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
      out.write(`${JSON.stringify({ ok, absent, steps, ...facts, left, summary: summaryOf(left) }, null, 2)}\n`);
    },
  };
}
