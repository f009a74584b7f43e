const MAX_COUNTER = 0xffff_ffff_ffff_fffen;

/** An eventfd in memory. */
export class FakeEvent {
  readonly kind = 'other';
  readonly inode = 1n; // all of them share one, as on Linux
  readonly target = 'anon_inode:[eventfd]';
  readonly #semaphore: boolean;
  #counter: bigint;

  constructor(initial: number, semaphore: boolean) {
    this.#counter = BigInt(initial);
    this.#semaphore = semaphore;
  }

  get readable(): boolean {
    return this.#counter > 0n;
  }
  get writable(): boolean {
    return this.#counter < MAX_COUNTER;
  }
  readonly hungUp = false;

  signal(value: bigint): boolean {
    if (this.#counter + value > MAX_COUNTER) return false;
    this.#counter += value;
    return true;
  }

  drain(): bigint {
    const taken = this.#semaphore && this.#counter > 0n ? 1n : this.#counter;
    this.#counter -= taken;
    return taken;
  }
}
