/**
 * Lets one piece of work run at a time, in order of arrival. Unlike core's mutex the first one begins within the call, as a
 * driver's request on an idle device does.
 */
export class Turns {
  #last: Promise<unknown> | undefined;

  /** Runs `work` when everything before has settled; settles as it does. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last === undefined ? work() : this.#last.then(work);
    const settled: Promise<unknown> = done.then(
      () => this.#settle(settled),
      () => this.#settle(settled), // why: failed work is its caller's business; the next begins all the same
    );
    this.#last = settled;
    return done;
  }

  #settle(which: Promise<unknown>): void {
    if (this.#last === which) this.#last = undefined;
  }
}
