import type { GvtEvent } from '../interrupt-tables.js';
import type { EngineJob, Step } from './engine-job.js';
import type { LiveRing } from './ring-source.js';
import type { CommandStreamer } from './streamer.js';
import type { StreamJob } from './streamer-types.js';

export interface RingJobRequest {
  readonly streamer: CommandStreamer;
  readonly job: StreamJob;
  readonly ring: LiveRing;
  readonly onEvents: (events: readonly GvtEvent[]) => void;
  readonly onFail: (cause: unknown) => void;
}

/**
 * An engine without execlists at work: it runs what the ring that its registers describe holds at the start; what comes later is another job's, so
 * that no guest keeps an engine for ever. Each event is told at once.
 */
export class RingJob implements EngineJob {
  readonly #request: RingJobRequest;

  constructor(request: RingJobRequest) {
    this.#request = request;
  }

  start(): void {
    this.#request.ring.begin();
  }

  run(): Generator<Step, void> {
    return this.#request.streamer.run(this.#request.job);
  }

  notify(): void {
    const events = this.#request.streamer.takeEvents();
    if (events.length > 0) this.#request.onEvents(events);
  }

  complete(): void {}

  fail(cause: unknown): void {
    this.#request.onFail(cause);
  }

  release(): void {}
}
