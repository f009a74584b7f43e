/** Runs asynchronous sections one after the other, in order of arrival. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();
  #holders = 0;

  /** True while a section runs or waits. */
  get busy(): boolean {
    return this.#holders > 0;
  }

  /** Runs `section` when all earlier ones have settled; settles as it does. */
  run<T>(section: () => T | Promise<T>): Promise<T> {
    this.#holders += 1;
    const done = this.#tail.then(section).finally(() => {
      this.#holders -= 1;
    });
    this.#tail = done.then(
      () => {},
      () => {}, // why: a failed section is its caller's business; the next one runs all the same
    );
    return done;
  }
}
