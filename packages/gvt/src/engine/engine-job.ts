/** Bytes of work done since the last step, or that the job waits for memory to change. */
export type Step = number | 'wait';

/**
 * Work for one engine. The dispatcher calls `start`, takes all steps of `run`, then `complete`; or `fail` where something threw. In any
 * case, also when the job is taken away between two steps, `release` is the last call and comes once.
 */
export interface EngineJob {
  /** Makes everything ready. @throws PinionError when it cannot; then nothing of it runs. */
  start(): void;
  /** Any step may be the last one; a step calls nobody who could call back. @throws PinionError when the work is refused. */
  run(): Generator<Step, void>;
  /** After a step: tells the guest what cannot wait for the end. The guest may answer by taking the job away. */
  notify(): void;
  /** All of it was done: tells the guest. */
  complete(): void;
  /** It ends early because of `cause`. */
  fail(cause: unknown): void;
  /** Gives back whatever it holds. */
  release(): void;
}
