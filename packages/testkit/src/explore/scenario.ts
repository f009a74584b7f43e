import type { FakeClock } from '../clock.js';

/** Somebody who does one thing after the other: the next one begins when the promise of the last has settled. */
export interface Actor {
  readonly name: string;
  /** What it does, in this order, by name. A step that throws or rejects fails the schedule. */
  readonly steps: Readonly<Record<string, () => void | Promise<void>>>;
}

/** One world in which a schedule is played. */
export interface ExploredWorld {
  /** At least one. Who comes first goes first where the schedule does not say otherwise. */
  readonly actors: readonly Actor[];
  /** Its timers run one at a time, in order of time, as choices of the schedule like any actor's step. */
  readonly clock?: FakeClock;
  /** Timers that fall due after this time (ms on `clock`) do not run by themselves; default: those due at the start's time run. */
  readonly horizon?: number;
  /** Called after every step. @throws what is wrong. */
  check?(): void;
  /** All steps are done: ends the world. @throws what is left, or wrong. */
  end(): void | Promise<void>;
  /** The schedule failed: tidies up, whatever state things are in. */
  abandon?(): void | Promise<void>;
}

/** What is explored: the same world made anew for every schedule. Must not depend on chance, real time or an earlier run. */
export interface Scenario {
  readonly name: string;
  start(): ExploredWorld | Promise<ExploredWorld>;
}
