import type { Clock } from '@pinion/core';

export type StopSignal = 'SIGINT' | 'SIGTERM';

/** What the command has of the process around it: its only way to a terminal, to signals and to the environment. */
export interface Surroundings {
  /** Writes to standard output: results and events. */
  out(text: string): void;
  /** Writes to standard error: diagnostics, errors, progress. */
  err(text: string): void;
  /** Whether a person looks at standard error: progress is shown then, and not in a pipe. */
  readonly terminal: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  /** The folder that relative paths on the command line begin at. */
  readonly folder: string;
  readonly clock: Clock;
  /** Calls back at every SIGINT and SIGTERM until the undo is called. */
  onStopSignal(heard: (signal: StopSignal) => void): () => void;
}
