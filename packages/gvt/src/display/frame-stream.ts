import type { Clock } from '@pinion/core';
import { unite } from './damage.js';
import { asNew, type ScreenTracker, type ScreenUpdate } from './screen-tracker.js';
import type { Vblank } from './vblank.js';

/** A picture of a live screen. */
export interface LiveFrame extends ScreenUpdate {
  /** Counts what a stream has given out, from 0. */
  readonly sequence: number;
  /** When it was seen: milliseconds on the vGPU's clock. */
  readonly time: number;
}

/** What streams work with. */
export interface StreamParts {
  readonly clock: Clock;
  readonly vblank: Vblank;
  readonly tracker: ScreenTracker;
}

/** Everybody who watches the screen of a vGPU: it is looked at once per frame, whoever watches, and not at all without anybody. */
export class FrameStreams {
  readonly #parts: StreamParts;
  readonly #streams = new Set<FrameStream>();
  #stopWatching: (() => void) | undefined;

  constructor(parts: StreamParts) {
    this.#parts = parts;
  }

  get watchers(): number {
    return this.#streams.size;
  }

  /**
   * The screen as it is now, then at each frame in which it has changed. Who is slow misses pictures in between, never damage. Ends
   * when the vGPU closes, or by `return` (leaving a `for await`).
   */
  open(): AsyncIterableIterator<LiveFrame> {
    const { tracker, vblank, clock } = this.#parts;
    const stream = new FrameStream(clock, () => this.#close(stream));
    if (this.#stopWatching === undefined) {
      tracker.forget();
      this.#stopWatching = vblank.watch(() => this.#look());
    }
    this.#look();
    this.#streams.add(stream);
    if (tracker.last !== undefined) stream.push(asNew(tracker.last));
    return stream;
  }

  /** The vGPU closes: all streams end after what they hold. */
  endAll(): void {
    for (const stream of [...this.#streams]) stream.end();
  }

  #look(): void {
    const update = this.#parts.tracker.look();
    if (update === undefined) return;
    for (const stream of this.#streams) stream.push(update);
  }

  #close(stream: FrameStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    this.#stopWatching?.();
    this.#stopWatching = undefined;
  }
}

/** One watcher: holds the newest picture until it is asked for. */
class FrameStream implements AsyncIterableIterator<LiveFrame> {
  readonly #clock: Clock;
  readonly #onEnd: () => void;
  #held: LiveFrame | undefined;
  #waiting: ((result: IteratorResult<LiveFrame>) => void)[] = [];
  #sequence = 0;
  #ended = false;

  constructor(clock: Clock, onEnd: () => void) {
    this.#clock = clock;
    this.#onEnd = onEnd;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  push(update: ScreenUpdate): void {
    const damage = this.#held === undefined ? update.damage : unite(this.#held.damage, update.damage);
    const sequence = this.#held?.sequence ?? this.#sequence;
    this.#sequence = sequence + 1;
    const frame: LiveFrame = { ...update, damage, sequence, time: this.#clock.now() };
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#held = frame;
    else waiter({ done: false, value: frame });
  }

  next(): Promise<IteratorResult<LiveFrame>> {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) return Promise.resolve({ done: false, value: held });
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<LiveFrame>> {
    this.#held = undefined;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd();
    for (const waiter of this.#waiting) waiter({ done: true, value: undefined });
    this.#waiting = [];
  }
}
