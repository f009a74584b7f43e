import { styleText } from 'node:util';
import type { CardLine } from '@pinion/vm';
import type { Tally } from './load.js';

/** Something that had to be true. */
export interface Check {
  readonly what: string;
  readonly ok: boolean;
}

export interface GuestCards {
  readonly guest: string;
  readonly cards: readonly CardLine[];
}

export interface GuestTally extends Tally {
  readonly guest: string;
  readonly moved: number;
}

/** Where the run goes: tables for people, or one JSON document at the end. */
export interface Report {
  cards(guests: readonly GuestCards[]): void;
  /** Something goes on: so many requests have ended. */
  progress(phase: string, ended: number): void;
  /** Answers per second and queue. */
  phase(name: string, rates: ReadonlyMap<string, number>): void;
  end(tallies: readonly GuestTally[], checks: readonly Check[]): void;
}

type Style = Parameters<typeof styleText>[0];
const NAME = 22;
const CELL = 9;
const BAR = 24;

const refusals = (refused: ReadonlyMap<string, number>): number => [...refused.values()].reduce((a, b) => a + b, 0);

/** Tables on a terminal; colours and progress only where there is one. */
export function tableReport(out: NodeJS.WriteStream): Report {
  const terminal = out.isTTY === true;
  const coloured = terminal && process.env['NO_COLOR'] === undefined;
  const paint = (style: Style, text: string): string => (coloured ? styleText(style, text) : text);
  const line = (text = ''): void => void out.write(`${terminal ? '\r\x1b[K' : ''}${text}\n`);
  const row = (name: string, cells: readonly unknown[]): string =>
    name.padEnd(NAME) + cells.map((cell) => String(cell).padStart(CELL)).join('');
  return {
    cards(guests) {
      line(paint('bold', row('cards of each guest', ['type', 'mode', 'status', 'depth'])));
      for (const { guest, cards } of guests) {
        for (const { queue, type, mode, online, depth } of cards) {
          const name = mode === 'cca' ? 'CCA' : 'accel';
          line(row(`${guest}  ${queue}`, [type, name, online ? 'online' : 'offline', depth]));
        }
      }
      line();
      line(paint('bold', row('answers per second', ['queue', 'rate'])));
    },
    progress(phase, ended) {
      if (terminal) out.write(`\r\x1b[K${paint('dim', `${phase} ... ${ended} requests ended`)}`);
    },
    phase(name, rates) {
      const most = Math.max(1, ...rates.values());
      for (const [index, [queue, rate]] of [...rates].sort(([a], [b]) => (a < b ? -1 : 1)).entries()) {
        const bar = '#'.repeat(Math.round((rate / most) * BAR));
        line(`${row(index === 0 ? name : '', [queue, rate.toFixed(0)])}  ${paint('cyan', bar)}`);
      }
    },
    end(tallies, checks) {
      line();
      line(paint('bold', row('requests', ['sent', 'signed', 'random', 'resent', 'refused', 'lost'])));
      for (const { guest, submitted, signatures, random, moved, refused, wrong } of tallies) {
        const lost = submitted - signatures - random - wrong - refusals(refused);
        line(row(guest, [submitted, signatures, random, moved, refusals(refused), lost]));
      }
      line(paint('dim', 'refused: random bytes while no coprocessor was plugged'));
      line();
      for (const { what, ok } of checks) line(`${ok ? paint('green', 'ok  ') : paint('red', 'FAIL')} ${what}`);
    },
  };
}

/** One JSON document when the run has ended. */
export function jsonReport(out: NodeJS.WritableStream): Report {
  const phases: unknown[] = [];
  let cards: readonly GuestCards[] = [];
  return {
    cards(guests) {
      cards = guests;
    },
    progress() {},
    phase(name, rates) {
      phases.push({ phase: name, answersPerSecond: Object.fromEntries(rates) });
    },
    end(tallies, checks) {
      const guests = tallies.map((tally) => ({ ...tally, refused: Object.fromEntries(tally.refused) }));
      const ok = checks.every((each) => each.ok);
      out.write(`${JSON.stringify({ ok, cards, phases, guests, checks }, null, 2)}\n`);
    },
  };
}
