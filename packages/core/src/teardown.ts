/** The undo of one start. */
export type Undo = () => void | Promise<void>;

/** What starts returns its undo: undo runs newest first, all of it, each once, even when some fail. */
export class Teardown {
  #undos: Undo[] = [];

  /** Keeps `undo` for later. */
  defer(undo: Undo): void {
    this.#undos.push(undo);
  }

  get size(): number {
    return this.#undos.length;
  }

  /**
   * Undoes everything. A second call finds nothing to do.
   * @throws the failure itself if there was one, AggregateError if there were more - after all undos ran.
   */
  async run(): Promise<void> {
    const undos = this.#undos.reverse();
    this.#undos = [];
    const failures: unknown[] = [];
    for (const undo of undos) {
      try {
        await undo();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, `${failures.length} undos failed`);
  }
}
