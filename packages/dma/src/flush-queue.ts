import type { Clock } from '@pinion/core';

/** Ranges that a queue holds; one place stays empty. Source: IOVA_DEFAULT_FQ_SIZE. */
const PLACES = 256;
/** Milliseconds until a queue is flushed. Source: IOVA_FQ_TIMEOUT. */
export const FLUSH_DELAY = 10;

interface Freed {
  readonly frame: number;
  readonly size: number;
}

/**
 * Ranges that were unmapped and may not be reused before the IOMMU's translation cache was flushed: all at once, when the
 * queue is full or 10 ms after the first. Trades a window in which a stale translation works for fewer flushes.
 * Source: drivers/iommu/dma-iommu.c, queue_iova().
 */
export class FlushQueue {
  readonly #clock: Clock;
  readonly #release: (frame: number, size: number) => void;
  #waiting: Freed[] = [];
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, release: (frame: number, size: number) => void) {
    this.#clock = clock;
    this.#release = release;
  }

  /** Ranges that wait. */
  get size(): number {
    return this.#waiting.length;
  }

  add(frame: number, size: number): void {
    if (this.#waiting.length === PLACES - 1) this.flush();
    this.#waiting.push({ frame, size });
    this.#cancel ??= this.#clock.after(FLUSH_DELAY, () => {
      this.#cancel = undefined;
      this.flush();
    });
  }

  /** Everything that waits may be reused, oldest first. */
  flush(): void {
    const freed = this.#waiting;
    this.#waiting = [];
    for (const { frame, size } of freed) this.#release(frame, size);
  }

  /** Flushes and stops the timer. */
  close(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.flush();
  }
}
