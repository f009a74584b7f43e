import type { Clock } from '@pinion/core';

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Lets every promise that can settle without time settle. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Time that moves only when a test says so. */
export class FakeClock implements Clock {
  readonly #timers = new Set<Timer>();
  #now = 0;

  now(): number {
    return this.#now;
  }

  after(delay: number, action: () => void): () => void {
    const timer: Timer = { at: this.#now + delay, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Timers that were started and neither fired nor were cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Fires what is due within `milliseconds`, in order, then lets everything settle that this set in motion. */
  async advance(milliseconds: number): Promise<void> {
    await settled();
    this.#now += milliseconds;
    const due = [...this.#timers].filter((timer) => timer.at <= this.#now).sort((a, b) => a.at - b.at);
    for (const timer of due) {
      this.#timers.delete(timer);
      timer.action();
    }
    await settled();
  }
}
