import { STRATEGIES } from '@pinion/gem';
import { IOVA_FRAMES } from './gpu.js';
import type { Outcome } from './workload.js';

const HEAD = ['', 'binds', 'map calls', 'peak MiB', 'idle share', 'starved', 'first at', 'shrunk MiB', 'leaked MiB'];

const mib = (frames: number): string => (frames / 256).toFixed(1);
const nameOf = ({ strategy, shrink }: Outcome): string => `${strategy}${shrink ? ' + shrinker' : ''}`;

const row = (outcome: Outcome): readonly string[] => [
  nameOf(outcome),
  String(outcome.binds),
  String(outcome.mapCalls),
  mib(outcome.peak),
  `${(outcome.idleShare * 100).toFixed(0)} %`,
  String(outcome.starved),
  outcome.firstStarved === undefined ? '-' : `step ${outcome.firstStarved}`,
  mib(outcome.shrunk),
  mib(outcome.leaked),
];

/** The outcomes side by side. */
export function formatTable(outcomes: readonly Outcome[]): string {
  const rows = [HEAD, ...outcomes.map(row)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  return rows.map(line).join('\n');
}

const most = (outcomes: readonly Outcome[], of: (outcome: Outcome) => number): Outcome | undefined =>
  [...outcomes].sort((a, b) => of(b) - of(a))[0];

/** Who leaks, who starves, who holds longest, what the shrinker recovers: in words. */
export function formatAnswer(outcomes: readonly Outcome[]): string {
  const leaking = outcomes.filter(({ leaked }) => leaked > 0).map(nameOf);
  const starving = outcomes
    .filter(({ starved }) => starved > 0)
    .map((each) => `${nameOf(each)} (${each.starved} of ${each.binds} binds)`);
  const right = outcomes.filter(({ strategy }) => STRATEGIES[strategy].atBind !== 'every');
  const holder = most(right, ({ idleShare }) => idleShare);
  const shrunk = most(right, (outcome) => outcome.shrunk);
  const cured = right.filter((each) => each.shrink && each.starved === 0).map(({ strategy }) => strategy);
  return [
    `Space:    ${mib(IOVA_FRAMES)} MiB of IOVA`,
    `Leaks:    ${leaking.join(', ') || 'nobody'}`,
    `Starves:  ${starving.join(', ') || 'nobody'}`,
    `Holds:    ${holder === undefined ? 'nobody' : `${nameOf(holder)} keeps the most without need: ${(holder.idleShare * 100).toFixed(0)} % of what it holds`}`,
    `Shrinker: ${shrunk === undefined ? 'nothing' : `gave ${mib(shrunk.shrunk)} MiB back to ${shrunk.strategy}`}; with it nobody starves under ${cured.join(', ') || 'no strategy'}; it cannot find what was leaked`,
  ].join('\n');
}

const counted = (reports: ReadonlyMap<string, number>): string =>
  [...reports].map(([name, count]) => `${count} x ${name.replace('DMADEBUG_', '')}`).join(', ') || 'nothing';

/** What the debugger found; the second line is what a debugger with a small table that cannot grow found. */
export function formatReports(outcomes: readonly Outcome[]): string {
  return outcomes
    .map((outcome) => {
      const others = outcome.others === 0 ? '' : ` (${outcome.others} of them against ahci, which never did wrong)`;
      const small = outcome.smallTable.has('DMADEBUG_OUT_OF_ENTRIES')
        ? '; a small table ran full and switched itself off'
        : '';
      return `${nameOf(outcome)}: ${counted(outcome.reports)}${others}${small}`;
    })
    .join('\n');
}
