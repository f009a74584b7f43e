import type { Clock } from '@pinion/core';
import { simErrors } from './errors.js';

interface Timer {
  readonly due: number;
  readonly action: () => void;
}

const checkSpan = (what: string, ms: number): void => {
  if (!(ms >= 0)) throw simErrors.BAD_TIME({ what, ms });
};

/** A clock that stands still until a test moves it. Milliseconds; starts at 0 unless told otherwise. */
export class FakeClock implements Clock {
  #now: number;
  #timers: Timer[] = [];

  constructor(start = 0) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  /** @throws PinionError SIM_BAD_TIME (EINVAL) for a negative delay or one that is no number. */
  after(delay: number, action: () => void): () => void {
    checkSpan('after', delay);
    const timer = { due: this.#now + delay, action };
    this.#timers.push(timer);
    return () => this.#remove(timer);
  }

  /** Timers that are neither run nor cancelled. */
  get pending(): number {
    return this.#timers.length;
  }

  /** When the next timer falls due, ms; undefined if there is none. */
  get nextDue(): number | undefined {
    return this.#next(Number.POSITIVE_INFINITY)?.due;
  }

  /** Runs the next timer alone, at its due time. @returns false if there was none. @throws whatever it throws. */
  step(): boolean {
    const timer = this.#next(Number.POSITIVE_INFINITY);
    if (timer === undefined) return false;
    this.#remove(timer);
    this.#now = timer.due;
    timer.action();
    return true;
  }

  /**
   * Moves time on by `ms` and runs what falls due: by due time, then in the order of `after`; timers that these start
   * run too if they fall due within the span. While a timer runs, `now()` is its due time.
   * An action that throws ends the call there: the clock stays at its due time, later timers stay pending.
   * @throws PinionError SIM_BAD_TIME (EINVAL) for a negative span or one that is no number; whatever an action throws.
   */
  advance(ms: number): void {
    checkSpan('advance', ms);
    const end = this.#now + ms;
    for (let timer = this.#next(end); timer !== undefined; timer = this.#next(end)) {
      this.#remove(timer);
      this.#now = timer.due;
      timer.action();
    }
    this.#now = end;
  }

  #next(end: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.due <= end && (first === undefined || timer.due < first.due)) first = timer;
    }
    return first;
  }

  #remove(timer: Timer): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
  }
}
