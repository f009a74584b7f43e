import { PinionError } from '@pinion/core';
import { gvtErrors } from '../errors.js';
import type { GvtEvent } from '../interrupt-tables.js';
import { EIR_INSTRUCTION, HEAD_OFFSET, RING_ENABLE, TAIL_OFFSET } from '../regs.js';
import { type ContextDescriptor, hasPpgtt, isSameContext, isValid } from './context-descriptor.js';
import type { EngineJob } from './engine-job.js';
import { type Engine, MODE, maskedWrite, RING } from './engines.js';
import { ExeclistState } from './execlist.js';
import { ExeclistJob } from './execlist-job.js';
import { RingJob } from './ring-job.js';
import { LiveRing } from './ring-source.js';
import { CommandStreamer } from './streamer.js';
import type { SubmissionParts } from './submission-parts.js';

/** `halted`: a command was refused or the engine hung; it does nothing until it is reset. */
export type EngineState = 'idle' | 'running' | 'halted';

/** Whether the engine takes commands from the ring in its registers, or contexts. */
type Mode = 'ring' | 'execlist';

const PAGE = 4096;
const ELSP_DWORDS = 4;
const RESET_REQUEST = 1;
const RESET_READY = 2;
const MI_MODE_IDLE = 1 << 9;
/** What an engine reset clears. */
const CLEARED = [
  RING.TAIL,
  RING.HEAD,
  RING.START,
  RING.CTL,
  RING.IPEHR,
  RING.ACTHD,
  RING.ACTHD_HIGH,
  RING.EIR,
  RING.RESET_CTL,
];
/** Errnos that say that the guest did what no sane one does. Source: vgpu_is_vm_unhealthy of i915 gvt. */
const UNHEALTHY: ReadonlySet<string> = new Set(['EBADRQC', 'EFAULT']);

/** Tells the owner of all engines. */
export interface EngineOwner {
  /** The engine is used for the first time, or again. */
  started(): void;
  /** There is work in an empty queue. */
  submitted(): void;
  /** The running job is to be taken from the engine. */
  cancel(engine: Engine): void;
}

/** One vGPU's view of one engine: its registers, its queue of jobs, and how it is reset. */
export class EngineSubmission {
  readonly engine: Engine;
  readonly #parts: SubmissionParts;
  readonly #owner: EngineOwner;
  readonly #streamer: CommandStreamer;
  readonly #execlist: ExeclistState;
  readonly #ring: LiveRing;
  #mode: Mode = 'ring';
  #queue: EngineJob[] = [];
  #elsp = new Uint32Array(ELSP_DWORDS);
  #elspIndex = 0;
  #halted = false;
  #error: PinionError | undefined;

  constructor(engine: Engine, parts: SubmissionParts, owner: EngineOwner) {
    const { registers, interrupts, clock, memory } = parts;
    this.engine = engine;
    this.#parts = parts;
    this.#owner = owner;
    this.#streamer = new CommandStreamer({ engine, registers, clock });
    const writeStatusPage = this.#writeStatusPage.bind(this);
    this.#execlist = new ExeclistState({ engine, registers, interrupts, writeStatusPage });
    this.#ring = new LiveRing(registers, memory, engine);
    this.#define();
  }

  get state(): EngineState {
    if (this.#halted) return 'halted';
    return this.#queue.length > 0 ? 'running' : 'idle';
  }

  /** Why the engine halted. */
  get error(): PinionError | undefined {
    return this.#error;
  }

  get mode(): Mode {
    return this.#mode;
  }

  /** The oldest job. */
  get first(): EngineJob | undefined {
    return this.#halted ? undefined : this.#queue[0];
  }

  /** Ends whatever runs, at the point it has reached, and forgets what waits, and an error. Nothing is executed afterwards. */
  stop(): void {
    this.#owner.cancel(this.engine);
    this.#drop();
    this.#halted = false;
    this.#error = undefined;
  }

  /** As after power-on, except for the registers that a driver sets up once (its mode and status page). */
  reset(): void {
    this.stop();
    this.#streamer.reset();
    for (const register of CLEARED) this.#set(register, 0);
    this.#elspIndex = 0;
    this.#execlist.reset();
  }

  /** As after power-on. */
  powerOn(): void {
    this.reset();
    this.#mode = 'ring';
  }

  /** The dispatcher has finished with the oldest job. */
  ended(job: EngineJob, failed: boolean): void {
    if (failed) this.#drop();
    else this.#queue = this.#queue.filter((waiting) => waiting !== job);
    if (this.#mode === 'ring') this.#kickRing();
  }

  #define(): void {
    const { registers } = this.#parts;
    const { base } = this.engine;
    for (const register of [RING.TAIL, RING.CTL]) {
      registers.define(base + register, {
        write: (value) => {
          this.#set(register, value);
          this.#kickRing();
        },
      });
    }
    registers.define(base + RING.ELSP, { write: (value) => this.#writeElsp(value) });
    registers.define(base + RING.MODE, { write: (value) => this.#writeMode(value) });
    registers.define(base + RING.RESET_CTL, { write: (value) => this.#writeResetControl(value) });
    registers.define(base + RING.MI_MODE, {
      read: () => (this.#get(RING.MI_MODE) & ~MI_MODE_IDLE) | (this.state === 'running' ? 0 : MI_MODE_IDLE),
      write: (value) => this.#set(RING.MI_MODE, maskedWrite(this.#get(RING.MI_MODE), value)),
    });
    registers.define(base + RING.TIMESTAMP, { read: () => this.#streamer.ticks % 2 ** 32 });
    registers.define(base + RING.TIMESTAMP + 4, { read: () => Math.floor(this.#streamer.ticks / 2 ** 32) & 0xf });
  }

  #get(register: number): number {
    return this.#parts.registers.get(this.engine.base + register);
  }

  #set(register: number, value: number): void {
    this.#parts.registers.set(this.engine.base + register, value);
  }

  #drop(): void {
    const dropped = this.#queue;
    this.#queue = [];
    for (const job of dropped) job.release();
  }

  #push(job: EngineJob): void {
    this.#queue.push(job);
    this.#owner.started();
    this.#owner.submitted();
  }

  // --- the ring in the registers

  #kickRing(): void {
    const empty = (this.#get(RING.HEAD) & HEAD_OFFSET) === (this.#get(RING.TAIL) & TAIL_OFFSET);
    const on = (this.#get(RING.CTL) & RING_ENABLE) !== 0;
    if (this.#mode !== 'ring' || this.#halted || this.#queue.length > 0 || empty || !on) return;
    this.#push(
      new RingJob({
        streamer: this.#streamer,
        job: { rings: [this.#ring], ggtt: this.#parts.memory, ppgtt: undefined },
        ring: this.#ring,
        onEvents: (events) => this.#parts.interrupts.raise(...events),
        onFail: (cause) => this.#halt(cause),
      }),
    );
  }

  // --- contexts

  #writeMode(value: number): void {
    const { failsafe, isAware } = this.#parts;
    const enabled = value & (value >>> 16);
    if ((enabled & (MODE.GUC | MODE.LEGACY)) !== 0) {
      failsafe(`RING_MODE of ${this.engine.name} asks for a way of submission that vGPUs do not have`);
      return;
    }
    if ((enabled & (MODE.PPGTT | MODE.EXECLIST)) !== 0 && !isAware()) {
      failsafe(`RING_MODE of ${this.engine.name} is set by a guest that never looked at PVINFO`);
      return;
    }
    this.#set(RING.MODE, maskedWrite(this.#get(RING.MODE), value));
    if (((value >>> 16) & MODE.EXECLIST) !== 0) this.#switchMode((value & MODE.EXECLIST) === 0 ? 'ring' : 'execlist');
  }

  #switchMode(mode: Mode): void {
    if (mode === this.#mode) return;
    this.stop();
    this.#mode = mode;
    this.#elspIndex = 0;
    this.#execlist.reset();
    if (mode === 'execlist') this.#owner.started();
  }

  /** Four writes, of which the last one submits: upper and lower half of the second descriptor, then of the first. */
  #writeElsp(value: number): void {
    this.#parts.onSubmit?.();
    this.#elsp[this.#elspIndex] = value;
    this.#elspIndex = (this.#elspIndex + 1) % ELSP_DWORDS;
    if (this.#elspIndex !== 0) return;
    const [high1 = 0, low1 = 0, high0 = 0, low0 = 0] = this.#elsp;
    try {
      this.#submit({ low: low0, high: high0 }, { low: low1, high: high1 });
    } catch (cause) {
      const { warnings, device, failsafe } = this.#parts;
      warnings.warn(`vGPU ${device}: submission to ${this.engine.name} refused`, cause);
      if (isUnhealthy(cause)) failsafe('a submission that no sane guest makes', cause);
      throw cause;
    }
  }

  #submit(first: ContextDescriptor, second: ContextDescriptor): void {
    if (this.#mode !== 'execlist') throw this.#refused('execlists are not enabled in RING_MODE');
    if (!isValid(first)) throw this.#refused('the first context is not valid');
    const valid = [first, second].filter(isValid);
    if (!valid.every(hasPpgtt)) throw this.#refused('a context runs without an address space of its own');
    if (valid.length === 2 && isSameContext(first, second)) throw this.#refused('both contexts are the same');
    if (this.#execlist.full) throw this.#refused('both slots hold contexts');
    if (this.#halted) throw this.#refused('the engine is halted');
    const jobs = this.#createAll(valid);
    for (const job of jobs) this.#push(job); // first, since the guest may answer what it is told now by a reset
    const slot = this.#execlist.scheduleIn([first, second]);
    for (const job of jobs) job.slot = slot;
  }

  /** All or none. The first job of an empty queue is audited at once, the others when their turn comes. */
  #createAll(descriptors: readonly ContextDescriptor[]): readonly ExeclistJob[] {
    const jobs: ExeclistJob[] = [];
    try {
      for (const descriptor of descriptors) jobs.push(this.#create(descriptor, jobs));
      if (this.#queue.length === 0) jobs[0]?.scan();
      return jobs;
    } catch (cause) {
      for (const job of jobs) job.release();
      throw cause;
    }
  }

  #create(descriptor: ContextDescriptor, before: readonly ExeclistJob[]): ExeclistJob {
    const waiting = [...this.#queue, ...before];
    const last = waiting.findLast((job) => job instanceof ExeclistJob && isSameContext(job.descriptor, descriptor));
    return new ExeclistJob({
      parts: this.#parts,
      engine: this.engine,
      streamer: this.#streamer,
      descriptor,
      previousTail: last instanceof ExeclistJob ? last.tail : undefined,
      onComplete: (job, events) => this.#completed(job, events),
      onFail: (cause, refused) => this.#failed(cause, refused),
    });
  }

  /** The context leaves the engine, unless the next job goes on with it; one that still waits for a slot comes in anew. */
  #completed(job: ExeclistJob, events: readonly GvtEvent[]): void {
    this.#queue = this.#queue.filter((waiting) => waiting !== job);
    if (events.length > 0) this.#parts.interrupts.raise(...events);
    const next = this.#queue[0];
    const same = next instanceof ExeclistJob && isSameContext(next.descriptor, job.descriptor);
    if (!same || this.#execlist.isPending(next.slot)) this.#execlist.scheduleOut(job.descriptor);
  }

  /** What the audit refuses condemns the guest; what stops an engine that runs a process's own batch does not. */
  #failed(cause: unknown, refused: boolean): void {
    this.#halt(cause);
    if (refused && isUnhealthy(cause)) this.#parts.failsafe('a submission that no sane guest makes', cause);
  }

  /** Mirrors into the hardware status page, if the guest has one. */
  #writeStatusPage(offset: number, dwords: readonly number[]): void {
    const { memory, isBacked } = this.#parts;
    const page = (this.#get(RING.HWS_PGA) & ~(PAGE - 1)) >>> 0;
    if (!memory.owns(page, page + PAGE - 1) || !isBacked(page)) return;
    for (const [index, value] of dwords.entries()) memory.writeDword(page + offset + index * 4, value);
  }

  // --- errors

  #halt(cause: unknown): void {
    const { interrupts, warnings, device } = this.#parts;
    this.#halted = true;
    this.#error = cause instanceof PinionError ? cause : undefined;
    this.#set(RING.IPEHR, this.#streamer.header);
    this.#set(RING.ACTHD, this.#streamer.position % 2 ** 32);
    this.#set(RING.ACTHD_HIGH, Math.floor(this.#streamer.position / 2 ** 32));
    this.#set(RING.EIR, this.#get(RING.EIR) | EIR_INSTRUCTION);
    warnings.warn(`vGPU ${device}: engine ${this.engine.name} halted until reset`, cause);
    interrupts.raise(this.engine.events.error);
  }

  /** The driver asks to reset the engine and is told to go on; the reset itself is GDRST's. */
  #writeResetControl(value: number): void {
    const asked = maskedWrite(this.#get(RING.RESET_CTL), value) & RESET_REQUEST;
    this.#set(RING.RESET_CTL, asked === 0 ? 0 : RESET_REQUEST | RESET_READY);
  }

  #refused(what: string): PinionError {
    return gvtErrors.BAD_SUBMISSION({ engine: this.engine.name, what });
  }
}

const isUnhealthy = (cause: unknown): boolean => cause instanceof PinionError && UNHEALTHY.has(cause.errno);
