/** Runs when the last reference to a file is closed. Source: file_operations.release. */
export type Release = () => void | Promise<void>;

/** An open file: shared by the tasks that inherited it, released with its last reference. Source: struct file. */
export class SimulatedFile {
  readonly name: string;
  readonly #release: Release | undefined;
  #references = 1;

  constructor(name: string, release?: Release) {
    this.name = name;
    this.#release = release;
  }

  /** Tasks that hold it open. */
  get references(): number {
    return this.#references;
  }

  /** A task inherits it. */
  reference(): void {
    this.#references++;
  }

  /** A task lets go of it. Settles when the release did, if this was the last reference. @throws whatever the release throws. */
  async put(): Promise<void> {
    this.#references--;
    if (this.#references === 0) await this.#release?.();
  }
}
