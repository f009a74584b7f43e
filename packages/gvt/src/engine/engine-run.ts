import type { Clock } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { EngineJob, Step } from './engine-job.js';

/** Bytes of work in one go; then others may run. */
const SLICE = 4 * 1024 * 1024;
/** Milliseconds until a job that waits for memory looks again. */
const POLL = 1;

/** How fast the engines are and how long a job may take. */
export interface RunLimits {
  /** Bytes that an engine touches in a millisecond of the clock; infinite: as many as this process can. */
  readonly bytesPerMs: number;
  /** Milliseconds that a job may take before its engine counts as hung. */
  readonly hangMs: number;
}

/** One job on one engine, from its start to its end. */
export class EngineRun {
  readonly #job: EngineJob;
  readonly #clock: Clock;
  readonly #limits: RunLimits;
  #steps: Generator<Step, void> | undefined;
  #deadline = 0;
  #over = false;
  #cancelTimer: (() => void) | undefined;
  #ended: (failed: boolean) => void = () => {};

  constructor(job: EngineJob, clock: Clock, limits: RunLimits) {
    this.#job = job;
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Runs the job on the clock, its first slice at once if `now`. `ended` is told once, unless the run is cancelled. */
  begin(ended: (failed: boolean) => void, now: boolean): void {
    this.#ended = ended;
    this.#deadline = this.#clock.now() + this.#limits.hangMs;
    if (now) this.#attempt(() => this.#start());
    else this.#later(0, () => this.#start());
  }

  /** The job ends where it is, without a word to the guest. */
  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer?.();
    this.#job.release();
  }

  #later(delay: number, action: () => void): void {
    this.#cancelTimer = this.#clock.after(delay, () => this.#attempt(action));
  }

  #attempt(action: () => void): void {
    try {
      action();
    } catch (cause) {
      if (this.#over) throw cause;
      this.#job.fail(cause);
      this.#end(true);
    }
  }

  #start(): void {
    this.#job.start();
    this.#steps = this.#job.run();
    this.#slice(this.#steps);
  }

  /** A slice of at most a millisecond of the engine's time, if that is measured; time passes after the work. */
  #slice(steps: Generator<Step, void>): void {
    const { bytesPerMs, hangMs } = this.#limits;
    if (this.#clock.now() >= this.#deadline) throw gvtErrors.ENGINE_HUNG({ milliseconds: hangMs });
    const most = Math.min(SLICE, bytesPerMs);
    let work = 0;
    let step = this.#step(steps);
    while (step !== undefined && step.done !== true && step.value !== 'wait') {
      work += step.value;
      if (work >= most) break;
      step = this.#step(steps);
    }
    if (step === undefined) return;
    const time = work / bytesPerMs;
    if (step.done === true) this.#spend(time);
    else this.#later(Math.max(time, step.value === 'wait' ? POLL : 0), () => this.#slice(steps));
  }

  /** One step, and what it has to say. Undefined: the guest's answer to that was to take the job away. */
  #step(steps: Generator<Step, void>): IteratorResult<Step, void> | undefined {
    const step = steps.next();
    this.#job.notify();
    return this.#over ? undefined : step;
  }

  /** The time of the last slice passes; then the guest hears of it. */
  #spend(time: number): void {
    if (time === 0) this.#complete();
    else this.#later(time, () => this.#complete());
  }

  #complete(): void {
    this.#job.complete();
    this.#end(false);
  }

  #end(failed: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer = undefined;
    this.#job.release();
    this.#ended(failed);
  }
}
