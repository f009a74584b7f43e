import { type Played, play } from './play.js';
import type { Scenario } from './scenario.js';
import { furtherDeviations, parseSchedule, printSchedule, type Schedule, shuffled } from './schedule.js';

export interface ExploreOptions {
  /** Schedules that are played at most. Default 200. */
  readonly bound?: number;
  /** Picks which of those with the most deviations are played when not all are. Default 1. */
  readonly seed?: number;
}

/** A schedule that went wrong. */
export interface FailedSchedule {
  /** For `replay`. */
  readonly schedule: string;
  readonly trace: readonly string[];
  readonly error: unknown;
}

/** What an exploration has seen. */
export interface Exploration {
  /** Schedules played. */
  readonly schedules: number;
  /** Every schedule with up to this many deviations from the default was played. */
  readonly depth: number;
  /** There are no others. */
  readonly exhausted: boolean;
  /** The first one that failed: none with fewer deviations does. */
  readonly failed?: FailedSchedule;
}

/**
 * Plays a scenario in many orders: in the default order, then in every order that deviates from it once, then twice, and so on, until
 * all were played or the bound is reached; of the last kind a sample that the seed picks. A deviation is another actor's step, or the
 * next timer, where something else would have gone on. Between two steps of the same actor there are as many places for one
 * as its promises take turns. Stops at the first failure. Deterministic: the same scenario, bound and seed see the same.
 */
export async function explore(scenario: Scenario, options: ExploreOptions = {}): Promise<Exploration> {
  const { bound = 200, seed = 1 } = options;
  let level: readonly Schedule[] = [[]];
  let schedules = 0;
  for (let depth = 0; ; depth++) {
    const next: Schedule[] = [];
    const some = schedules + level.length > bound;
    for (const schedule of some ? shuffled(level, seed).slice(0, bound - schedules) : level) {
      const played = await play(scenario, schedule);
      schedules += 1;
      if (played.failure !== undefined)
        return { schedules, depth: depth - 1, exhausted: false, failed: failed(schedule, played) };
      if (!some) next.push(...furtherDeviations(schedule, played.options));
    }
    if (some || schedules === bound)
      return { schedules, depth: some ? depth - 1 : depth, exhausted: next.length === 0 && !some };
    if (next.length === 0) return { schedules, depth, exhausted: true };
    level = next;
  }
}

/**
 * Plays one schedule that `explore` has printed. @returns undefined when it does not fail (any more).
 * @throws PinionError SIM_BAD_SCHEDULE (EINVAL) for text that is none, or one of another scenario.
 */
export async function replay(scenario: Scenario, schedule: string): Promise<FailedSchedule | undefined> {
  const parsed = parseSchedule(schedule);
  const played = await play(scenario, parsed);
  return played.failure === undefined ? undefined : failed(parsed, played);
}

/** For people: what failed, after which steps, and how to see it again. */
export function describeFailed(scenario: Scenario, { schedule, trace, error }: FailedSchedule): string {
  const steps = trace.map((line) => `  ${line}`).join('\n');
  return `${scenario.name}: ${error instanceof Error ? error.message : String(error)}\n${steps}\nreplay: '${schedule}'`;
}

function failed(schedule: Schedule, { trace, failure }: Played): FailedSchedule {
  return { schedule: printSchedule(schedule), trace, error: failure?.error };
}
