/**
 * Events in order, for one or more that wait. What comes while nobody waits is kept; after `end` every wait, also one that
 * began before, rejects.
 */
export class EventQueue<T> {
  readonly #events: { readonly event: T }[] = [];
  readonly #waiters: { resolve: (event: T) => void; reject: (reason: unknown) => void }[] = [];
  #ended: { readonly reason: unknown } | undefined;

  /** Events nobody took yet. */
  get size(): number {
    return this.#events.length;
  }

  /** Does nothing after `end`. */
  push(event: T): void {
    if (this.#ended !== undefined) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#events.push({ event });
    else waiter.resolve(event);
  }

  /** The oldest event; waits for one. Rejects with the reason of `end`. */
  next(): Promise<T> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended.reason);
    const kept = this.#events.shift();
    if (kept !== undefined) return Promise.resolve(kept.event);
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Forgets what nobody took. */
  clear(): void {
    this.#events.length = 0;
  }

  /** No event comes any more. A second call does nothing. */
  end(reason: unknown): void {
    if (this.#ended !== undefined) return;
    this.#ended = { reason };
    this.clear();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
  }
}
