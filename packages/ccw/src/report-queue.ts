/**
 * Channel reports that the guest has not read. They queue up also while the device is closed.
 * Source: vfio_ccw_queue_crw(), vfio_ccw_crw_region_read().
 */
export class ReportQueue {
  readonly #words: number[] = [];

  get length(): number {
    return this.#words.length;
  }

  /** The oldest report; 0 if there is none. */
  get oldest(): number {
    return this.#words[0] ?? 0;
  }

  push(word: number): void {
    this.#words.push(word);
  }

  shift(): void {
    this.#words.shift();
  }
}
