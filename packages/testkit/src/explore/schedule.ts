import { simErrors } from '../errors.js';

/** At choice point `at` (counted from 0) option `option` was taken instead of option 0. */
export interface Deviation {
  readonly at: number;
  readonly option: number;
}

/** A schedule: where it leaves the default, in order. Everything else follows. */
export type Schedule = readonly Deviation[];

const DEFAULT = 'default';

/** For messages and for replay: `17:2 23:1`, or `default`. */
export const printSchedule = (schedule: Schedule): string =>
  schedule.length === 0 ? DEFAULT : schedule.map(({ at, option }) => `${at}:${option}`).join(' ');

/** The reverse. @throws PinionError SIM_BAD_SCHEDULE (EINVAL). */
export function parseSchedule(text: string): Schedule {
  if (text.trim() === DEFAULT) return [];
  const schedule = text.trim().split(/\s+/).map(parseDeviation);
  for (const [index, { at }] of schedule.entries()) {
    const before = schedule[index - 1];
    if (before !== undefined && before.at >= at) {
      throw simErrors.BAD_SCHEDULE({ text, why: 'choice points must ascend' });
    }
  }
  return schedule;
}

function parseDeviation(text: string): Deviation {
  const [, at, option] = /^(\d{1,9}):([1-9]\d{0,8})$/.exec(text) ?? [];
  if (at === undefined || option === undefined) {
    throw simErrors.BAD_SCHEDULE({ text, why: "a deviation is 'choice point:option', the option above 0" });
  }
  return { at: Number(at), option: Number(option) };
}

/** Every schedule that deviates once more than this one did, after its last deviation. `options`: how many there were at each choice point. */
export function* furtherDeviations(schedule: Schedule, options: readonly number[]): Generator<Schedule> {
  const last = schedule.at(-1);
  for (let at = last === undefined ? 0 : last.at + 1; at < options.length; at++) {
    for (let option = 1; option < (options[at] ?? 1); option++) yield [...schedule, { at, option }];
  }
}

/** A shuffle that depends on the seed alone. Source: Fisher and Yates; mulberry32 for the numbers. */
export function shuffled<T>(items: readonly T[], seed: number): readonly T[] {
  const all = [...items];
  let state = seed >>> 0;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
  for (let at = all.length - 1; at > 0; at--) {
    const other = below(at + 1);
    // why: both indexes are inside the array
    [all[at], all[other]] = [all[other] as T, all[at] as T];
  }
  return all;
}
