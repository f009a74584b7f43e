import { type Clock, type Log, PinionError } from '@pinion/core';
import type { CommandStreamer } from './command-streamer.js';
import type { Interrupts } from './interrupts.js';
import type { RegisterFile } from './mmio.js';
import { BCS, EIR_INSTRUCTION, HEAD_OFFSET, RING_ENABLE, TAIL_OFFSET } from './regs.js';

/** Bytes of work in one go; then the ring lets everybody else run. */
const SLICE = 4 * 1024 * 1024;

/** `halted`: a command was refused; the engine does nothing until it is reset. */
export type RingState = 'idle' | 'running' | 'halted';

/** What a ring works with. */
export interface RingParts {
  readonly registers: RegisterFile;
  readonly streamer: CommandStreamer;
  readonly interrupts: Interrupts;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The blitter's ring: writing its tail submits. Commands run later, on the injected clock, in slices; between two slices anything may
 * happen to the tables, and `stop` ends the run there.
 */
export class Ring {
  readonly #parts: RingParts;
  #state: RingState = 'idle';
  #job: Generator<number, void> | undefined;
  #cancel: (() => void) | undefined;
  #error: PinionError | undefined;

  constructor(parts: RingParts) {
    this.#parts = parts;
    const { registers } = parts;
    for (const offset of [BCS.TAIL, BCS.CTL]) {
      registers.define(offset, {
        write: (value) => {
          registers.set(offset, value);
          this.#kick();
        },
      });
    }
  }

  get state(): RingState {
    return this.#state;
  }

  /** Why the ring is halted. */
  get error(): PinionError | undefined {
    return this.#error;
  }

  /** Ends whatever runs, at the point it has reached, and forgets an error. Nothing is executed afterwards. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#job = undefined;
    this.#state = 'idle';
    this.#error = undefined;
  }

  #kick(): void {
    const { registers, streamer } = this.#parts;
    const empty = (registers.get(BCS.HEAD) & HEAD_OFFSET) === (registers.get(BCS.TAIL) & TAIL_OFFSET);
    if (this.#state !== 'idle' || empty || (registers.get(BCS.CTL) & RING_ENABLE) === 0) return;
    this.#state = 'running';
    this.#job = streamer.run();
    this.#schedule();
  }

  #schedule(): void {
    this.#cancel = this.#parts.clock.after(0, () => this.#slice());
  }

  #slice(): void {
    const job = this.#job;
    if (job === undefined) return;
    for (let left = SLICE; left > 0; ) {
      const step = this.#step(job);
      // why: raising an interrupt may have led the guest to stop or reset this very engine
      if (this.#job !== job) return;
      if (step === 'done') {
        this.#finish();
        return;
      }
      left -= step;
    }
    this.#schedule();
  }

  #step(job: Generator<number, void>): number | 'done' {
    const { streamer, interrupts } = this.#parts;
    try {
      const { done, value } = job.next();
      const events = streamer.takeEvents();
      if (events.length > 0) interrupts.raise(...events);
      return done === true ? 'done' : (value ?? 0);
    } catch (cause) {
      this.#halt(cause);
      return 'done';
    }
  }

  #finish(): void {
    this.#job = undefined;
    this.#cancel = undefined;
    if (this.#state !== 'running') return;
    this.#state = 'idle';
    this.#kick(); // the tail may have moved while the last command's interrupt was handled
  }

  #halt(cause: unknown): void {
    const { registers, streamer, interrupts, log } = this.#parts;
    this.#state = 'halted';
    this.#error = cause instanceof PinionError ? cause : undefined;
    registers.set(BCS.IPEHR, streamer.header);
    registers.set(BCS.ACTHD, streamer.position);
    registers.set(BCS.EIR, registers.get(BCS.EIR) | EIR_INSTRUCTION);
    log.warn('blitter ring halted until reset', cause);
    interrupts.raise('bcs-error');
  }
}
