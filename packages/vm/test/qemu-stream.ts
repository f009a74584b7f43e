import { Duplex } from 'node:stream';
import type { Clock } from '@pinion/core';

/** Two ends of a connection, as those of a socket pair. */
export function streamPair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const end = (other: number): Duplex =>
    new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        ends[other]?.push(chunk);
        done();
      },
      final(done) {
        ends[other]?.push(null);
        done();
      },
    });
  const pair: [Duplex, Duplex] = [end(1), end(0)];
  ends.push(...pair);
  return pair;
}

/** A clock whose time passes when it is told to. */
export class HandClock implements Clock {
  #now = 0;
  readonly #timers = new Map<object, { readonly at: number; readonly action: () => void }>();

  now(): number {
    return this.#now;
  }

  get waiting(): number {
    return this.#timers.size;
  }

  after(delay: number, action: () => void): () => void {
    const key = {};
    this.#timers.set(key, { at: this.#now + delay, action });
    return () => this.#timers.delete(key);
  }

  pass(time: number): void {
    this.#now += time;
    for (const [key, { at, action }] of [...this.#timers]) {
      if (at > this.#now || !this.#timers.delete(key)) continue;
      action();
    }
  }
}
