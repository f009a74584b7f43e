import { Worker } from 'node:worker_threads';
import { refusal } from './answer.js';
import { errors } from './errors.js';
import type { CardExecutor, CardOutcome, CardWork } from './executor.js';

interface Job {
  readonly work: CardWork;
  readonly done: (outcome: CardOutcome) => void;
}

/** A thread; the first of `jobs` is what it computes, none while it is idle. */
interface Seat {
  readonly worker: Worker;
  readonly jobs: Job[];
}

/** Jobs that a thread has at a time: the next one is there when it ends one. */
const AHEAD = 2;

const SCRIPT = new URL('./card-worker.js', import.meta.url);

/**
 * Computes on a few threads, so that queues work at the same time and the caller's thread is never held up. Threads start when there is
 * work for them and end at `close`; idle ones keep no process alive. What needs no arithmetic - a refusal - is answered at once.
 * A thread that dies fails the message it had, and is replaced when there is more work.
 */
export class ThreadExecutor implements CardExecutor {
  readonly #limit: number;
  readonly #script: URL;
  readonly #seats = new Set<Seat>();
  readonly #waiting: Job[] = [];

  /** `limit`: most threads at a time. `script`: what they run, other than the cards' work. */
  constructor(limit: number, script: URL = SCRIPT) {
    this.#limit = limit;
    this.#script = script;
  }

  /** Threads that run, idle or not. */
  get threads(): number {
    return this.#seats.size;
  }

  run(work: CardWork, done: (outcome: CardOutcome) => void): () => void {
    const refused = refusal(work);
    if (refused !== undefined) {
      done({ reply: refused });
      return () => {};
    }
    const job = { work, done };
    this.#waiting.push(job);
    this.#dispatch();
    return () => this.#drop(job);
  }

  async close(): Promise<void> {
    const seats = [...this.#seats];
    this.#seats.clear();
    this.#waiting.length = 0;
    for (const seat of seats) seat.jobs.length = 0;
    await Promise.all(seats.map(({ worker }) => worker.terminate()));
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const seat = this.#freeSeat();
      const job = seat === undefined ? undefined : this.#waiting.shift();
      if (seat === undefined || job === undefined) return;
      seat.jobs.push(job);
      seat.worker.ref();
      seat.worker.postMessage(job.work);
    }
  }

  /** An idle thread, or a new one, or the one with the shortest queue; undefined if all have enough to do. */
  #freeSeat(): Seat | undefined {
    const [least] = [...this.#seats].sort((a, b) => a.jobs.length - b.jobs.length);
    if (least?.jobs.length === 0) return least;
    return this.#open() ?? (least !== undefined && least.jobs.length < AHEAD ? least : undefined);
  }

  #open(): Seat | undefined {
    if (this.#seats.size >= this.#limit) return undefined;
    const seat: Seat = { worker: new Worker(this.#script), jobs: [] };
    seat.worker.on('message', (outcome: CardOutcome) => this.#finish(seat, outcome));
    seat.worker.on('error', (failure) => this.#lose(seat, failure));
    seat.worker.on('exit', (code) => this.#lose(seat, errors.THREAD_LOST({ code })));
    this.#seats.add(seat);
    return seat;
  }

  #finish(seat: Seat, outcome: CardOutcome): void {
    const job = seat.jobs.shift();
    if (seat.jobs.length === 0) seat.worker.unref();
    job?.done(outcome);
    this.#dispatch();
  }

  /** What it had not begun is done by others. */
  #lose(seat: Seat, failure: unknown): void {
    if (!this.#seats.delete(seat)) return;
    const [job, ...rest] = seat.jobs;
    this.#waiting.unshift(...rest);
    job?.done({ failure });
    this.#dispatch();
  }

  /** A thread that computes already goes on, for nobody. */
  #drop(job: Job): void {
    const index = this.#waiting.indexOf(job);
    if (index >= 0) this.#waiting.splice(index, 1);
    for (const { jobs } of this.#seats) {
      const at = jobs.indexOf(job);
      if (at >= 0) jobs[at] = { work: job.work, done: () => {} };
    }
  }
}
