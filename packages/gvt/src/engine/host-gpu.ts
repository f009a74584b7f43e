import type { Clock } from '@pinion/core';
import type { EngineJob } from './engine-job.js';
import { EngineRun, type RunLimits } from './engine-run.js';
import { ENGINES, type Engine } from './engines.js';
import { Scheduler, type SchedulerClient } from './scheduler.js';

/** A vGPU that gives work to the engines. */
export interface EngineClient extends SchedulerClient {
  /** The oldest job for an engine; it stays the oldest until `ended`. */
  first(engine: Engine): EngineJob | undefined;
  /** A job of this client was completed, or failed, or could not start. It was released. */
  ended(engine: Engine, job: EngineJob, failed: boolean): void;
}

/**
 * The real engines of one GPU, which all its vGPUs share: each engine runs one job at a time, in slices on the clock, of the vGPU whose turn it
 * is. Between two slices anything may happen to memory; a job that is taken away does nothing afterwards.
 */
export class HostGpu {
  readonly #clock: Clock;
  readonly #limits: RunLimits;
  readonly #runs = new Map<Engine, { readonly client: EngineClient; readonly run: EngineRun }>();
  readonly #scheduler: Scheduler;

  constructor(clock: Clock, limits: RunLimits) {
    this.#clock = clock;
    this.#limits = limits;
    const drained = () => this.#runs.size === 0;
    this.#scheduler = new Scheduler(clock, {
      get drained() {
        return drained();
      },
      wake: () => this.#dispatchAll(),
    });
  }

  /** The client takes part in sharing the engines. A second time does nothing. */
  join(client: EngineClient): void {
    this.#scheduler.start(client);
  }

  /** The client's work is taken from all engines, and it takes part no more. */
  leave(client: EngineClient): void {
    for (const engine of ENGINES) this.cancel(client, engine);
    this.#scheduler.stop(client);
  }

  /** The client has work where it had none. */
  submitted(): void {
    this.#scheduler.kick();
  }

  /** Takes the running job of a client away from an engine, released. What it did stays done; nothing is executed afterwards. */
  cancel(client: EngineClient, engine: Engine): void {
    const running = this.#runs.get(engine);
    if (running?.client !== client) return;
    this.#runs.delete(engine);
    running.run.cancel();
    this.#scheduler.kick();
  }

  /** Milliseconds for which a client had the engines. */
  used(client: EngineClient): number {
    return this.#scheduler.used(client);
  }

  #dispatchAll(): void {
    for (const engine of ENGINES) this.#dispatch(engine, true);
  }

  /** `now`: the caller is the clock, and not a job that has just ended. */
  #dispatch(engine: Engine, now: boolean): void {
    // why: who may run is what `join` was given
    const client = this.#scheduler.current as EngineClient | undefined;
    const job = client?.first(engine);
    if (client === undefined || job === undefined || this.#runs.has(engine)) return;
    const run = new EngineRun(job, this.#clock, this.#limits);
    this.#runs.set(engine, { client, run });
    const ended = (failed: boolean) => {
      if (this.#runs.get(engine)?.run === run) this.#runs.delete(engine);
      client.ended(engine, job, failed);
      this.#scheduler.finished();
      this.#dispatch(engine, false);
    };
    run.begin(ended, now);
  }
}
