import type { Log } from '@pinion/core';

/** Warnings that are logged one by one between two resets. */
const LOGGED = 4;

/** What a guest can do thousands of times, and what the log should hear of a few times. */
export class FewWarnings {
  readonly #log: Log;
  #count = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  warn(message: string, cause?: unknown): void {
    this.#count += 1;
    if (this.#count > LOGGED) return;
    const last = this.#count === LOGGED ? '; further ones are not logged' : '';
    if (cause === undefined) this.#log.warn(`${message}${last}`);
    else this.#log.warn(`${message}${last}`, cause);
  }

  /** Warnings are logged again. */
  reset(): void {
    this.#count = 0;
  }
}
