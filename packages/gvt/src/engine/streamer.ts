import type { Clock, PinionError } from '@pinion/core';
import { BIT, blitterOpcode, MI, miOpcode } from '../commands.js';
import { gvtErrors } from '../errors.js';
import type { GvtEvent } from '../interrupt-tables.js';
import type { RegisterFile } from '../mmio.js';
import type { PagedAccess } from '../paged-access.js';
import { BlitEngine } from './blit-engine.js';
import { auditCommand } from './command-audit.js';
import { CommandRegisters } from './command-registers.js';
import { type CommandInfo, findCommand, lengthOf } from './command-table.js';
import type { Step } from './engine-job.js';
import type { Engine } from './engines.js';
import { MI_HANDLERS, pipeControl } from './mi-handlers.js';
import type { CommandRun, HandlerResult, RingSource, ShadowBatch, StreamJob } from './streamer-types.js';

/** The most dwords that one ring command may make the engine read, its batches included. */
export const MAX_JOB_DWORDS = 1024 * 1024;
/** The longest command, dwords. */
export const MAX_COMMAND = 4096 + 2;
/** The ring starts a batch, and that one another. */
const MAX_DEPTH = 2;
/** What a command costs at least, in bytes touched, and what each of its dwords does. */
const COMMAND_COST = 64;
const DWORD_COST = 8;
/** Work after which the streamer lets others run. */
const STRIDE = 64 * 1024;
/** Ticks per millisecond of the engines' time stamps: 12 MHz. */
export const TICKS = 12_000;

/** What a streamer works with. */
export interface StreamerParts {
  readonly engine: Engine;
  readonly registers: RegisterFile;
  readonly clock: Clock;
}

/** A running batch: its next command, and where that is read. */
interface Batch {
  next: number;
  readonly memory: PagedAccess;
  readonly copy: ShadowBatch | undefined;
  /** In the context's own address space: nobody audited it, the page tables and what it may not do keep it inside. */
  readonly restricted: boolean;
}

/**
 * Reads and carries out the commands of one engine. All it knows of memory is tables, looked up at every access. A command is read once,
 * and carried out from that copy. It stops only between two steps, so whoever is called in between finds nothing half done.
 */
export class CommandStreamer implements CommandRun {
  readonly engine: Engine;
  readonly registers: CommandRegisters;
  readonly file: RegisterFile;
  readonly words = new Uint32Array(MAX_COMMAND);
  length = 0;
  readonly #clock: Clock;
  #blits = new BlitEngine();
  #job: StreamJob | undefined;
  #batches: Batch[] = [];
  #dwords = 0;
  #work = 0;
  #events: GvtEvent[] = [];
  #at = 0;

  constructor({ engine, registers, clock }: StreamerParts) {
    this.engine = engine;
    this.file = registers;
    this.registers = new CommandRegisters(registers, engine);
    this.#clock = clock;
  }

  /** What the commands since the last call have to say to the guest. */
  takeEvents(): readonly GvtEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }

  /** The engine is reset: what commands have set up is forgotten. Nothing may be running. */
  reset(): void {
    this.#blits = new BlitEngine();
  }

  /** Graphics address of the last command that was read. */
  get position(): number {
    return this.#at;
  }

  /** Header of the last command that was read. */
  get header(): number {
    return this.words[0] ?? 0;
  }

  get ticks(): number {
    return Math.floor(this.#clock.now() * TICKS);
  }

  get restricted(): boolean {
    return this.#batches.at(-1)?.restricted ?? false;
  }

  /**
   * Runs from head to tail, and on if the tail moves meanwhile. Yields the work done, in bytes, often enough for others to run and at once
   * after a command that has something to say. The head moves past a ring command when all of it is done.
   * @throws PinionError GVT_BAD_RING (EINVAL), GVT_BAD_COMMAND (EBADRQC), GVT_BAD_ADDRESS, GVT_BAD_BATCH, GVT_BATCH_TOO_DEEP, GVT_BLIT_TOO_BIG
   * (EFAULT), GVT_REGISTER_PROTECTED (EPERM), GVT_JOB_TOO_LONG (E2BIG); what was done before stays done, the head stays at the command.
   */
  *run(job: StreamJob): Generator<Step, void> {
    this.#job = job;
    this.#batches = [];
    this.#events = [];
    this.#work = 0;
    for (const ring of job.rings) while (!ring.idle) yield* this.#runCommand(ring, job);
    if (this.#work > 0) yield this.#takeWork();
  }

  /** One command of a ring, with all its batches. */
  *#runCommand(ring: RingSource, job: StreamJob): Generator<Step, void> {
    this.#dwords = 0;
    const info = this.#readRing(ring, job);
    const { length } = this;
    if (this.#perform(info) === 'more') yield* this.#proceed(info);
    while (this.#batches.length > 0) {
      if (this.#due) yield this.#takeWork();
      const next = this.#readBatch();
      if (this.#perform(next) === 'more') yield* this.#proceed(next);
    }
    ring.advance(length);
    if (this.#due) yield this.#takeWork();
  }

  memory(global: boolean): PagedAccess | undefined {
    const job = this.#job;
    if (job?.ppgtt === undefined) return job?.ggtt;
    if (!global) return job.ppgtt;
    return this.restricted ? undefined : job.ggtt;
  }

  signal(event: GvtEvent): void {
    if (!this.restricted) this.#events.push(event);
  }

  loadRoots(pdps: readonly number[]): void {
    const job = this.#job;
    if (job?.switchRoots !== undefined && !this.restricted) job.ppgtt = job.switchRoots(pdps);
  }

  refuse(what: string): PinionError {
    return gvtErrors.BAD_COMMAND({ header: this.header, address: this.#at, what });
  }

  /** Others are to run now. */
  get #due(): boolean {
    return this.#work >= STRIDE || this.#events.length > 0;
  }

  #takeWork(): number {
    const work = this.#work;
    this.#work = 0;
    return work;
  }

  /** Carries a command out; `more`: it takes steps, see `#proceed`. */
  #perform(info: CommandInfo): 'more' | undefined {
    this.#work += Math.max(COMMAND_COST, this.length * DWORD_COST);
    if (info.kind === 'plain' || info.kind === 'user-interrupt') return this.#signalUser(info);
    if (info.kind === 'batch-start') this.#startBatch();
    else if (info.kind === 'batch-end') this.#endBatch();
    else if (this.#isBlit || this.#handle(info) === 'wait') return 'more';
    return undefined;
  }

  #signalUser({ kind }: CommandInfo): undefined {
    if (kind === 'user-interrupt') this.signal(this.engine.events.user);
  }

  get #isBlit(): boolean {
    return this.engine.clients[this.header >>> 29] === 'blitter';
  }

  /** What takes time: blits, and waiting. */
  *#proceed(info: CommandInfo): Generator<Step, void> {
    if (this.#isBlit) this.#work += yield* this.#blits.execute(blitterOpcode(this.header), this);
    else
      do {
        yield 'wait';
      } while (this.#handle(info) === 'wait');
  }

  #handle({ kind }: CommandInfo): HandlerResult {
    if (kind === 'pipe-control') return pipeControl(this);
    if (this.header >>> 29 !== 0) return undefined;
    const result = MI_HANDLERS.get(miOpcode(this.header))?.(this);
    if (result === 'end') this.#batches.pop();
    return result;
  }

  #startBatch(): void {
    if (this.length !== 3) throw this.refuse(`its length is ${this.length} dwords, not 3`);
    const [header = 0, low = 0, high = 0] = this.words;
    const address = low - (low & 3) + (high & 0xffff) * 2 ** 32;
    const called = (header & BIT.SECOND_LEVEL) !== 0;
    const running = this.#batches.at(-1);
    const level = checkLevel(this.#batches.length, called, { address, restricted: running?.restricted ?? false });
    const batch = this.#open(address, level, (header & BIT.START_PPGTT) !== 0 || (running?.restricted ?? false));
    this.#batches.length = level - 1;
    this.#batches.push(batch);
  }

  #open(address: number, level: number, own: boolean): Batch {
    const job = this.#job;
    if (job === undefined) throw this.refuse('nothing is running');
    if (own && job.ppgtt !== undefined) return { next: address, memory: job.ppgtt, copy: undefined, restricted: true };
    const copy = job.shadow?.(address, level);
    if (job.shadow !== undefined && copy === undefined) throw gvtErrors.BAD_BATCH({ address, what: 'was not audited' });
    if (copy === undefined && !job.ggtt.owns(address, address + 3))
      throw gvtErrors.BAD_ADDRESS({ what: 'batch buffer', first: address, last: address + 3 });
    return { next: address, memory: job.ggtt, copy, restricted: false };
  }

  #endBatch(): void {
    if (this.#batches.length === 0) throw this.refuse('a ring has no batch end');
    this.#batches.pop();
  }

  #readRing(ring: RingSource, job: StreamJob): CommandInfo {
    const most = ring.available();
    this.#at = ring.position;
    const info = this.#begin(ring.dword(0), most);
    for (let dword = 1; dword < this.length; dword++) this.words[dword] = ring.dword(dword);
    this.#audit(info, job);
    return info;
  }

  #readBatch(): CommandInfo {
    const batch = this.#batches.at(-1);
    const job = this.#job;
    if (batch === undefined || job === undefined) throw this.refuse('no batch is running');
    this.#at = batch.next;
    const info = this.#begin(fetch(batch, 0), MAX_COMMAND);
    for (let dword = 1; dword < this.length; dword++) this.words[dword] = fetch(batch, dword);
    batch.next += this.length * 4;
    if (!batch.restricted) this.#audit(info, job);
    return info;
  }

  #begin(header: number, most: number): CommandInfo {
    this.words[0] = header;
    const info = findCommand(this.engine, header);
    if (info === undefined) throw this.refuse('this engine has no such command');
    this.length = lengthOf(info, header);
    if (this.length > most) throw this.refuse('it is cut off by the end of the ring');
    this.#dwords += this.length;
    if (this.#dwords > MAX_JOB_DWORDS) throw gvtErrors.JOB_TOO_LONG({ most: MAX_JOB_DWORDS });
    return info;
  }

  /** What was not audited when it was submitted is now. */
  #audit(info: CommandInfo, { shadow, ggtt, ppgtt }: StreamJob): void {
    if (shadow !== undefined) return;
    const { words, length, engine } = this;
    const scope = { engine, hasPpgtt: ppgtt !== undefined, ownsGlobal: ggtt.owns.bind(ggtt) };
    auditCommand({ info, words, length, address: this.#at }, scope);
  }
}

/** One dword of a batch: of its copy if it has one. */
function fetch({ next, memory, copy }: Batch, index: number): number {
  const address = next + index * 4;
  if (copy !== undefined) return copy.words[(address - copy.address) / 4] ?? MI.BATCH_BUFFER_END << 23;
  if (!memory.owns(address, address + 3))
    throw gvtErrors.BAD_ADDRESS({ what: 'command', first: address, last: address + 3 });
  return memory.readDword(address);
}

/**
 * The level at which a batch starts: 1 from the ring, or instead of a batch of the first level; 2 called by one. A batch that nobody audited may also
 * go on elsewhere at the second level. Source: cmd_handler_mi_batch_buffer_start of i915 gvt.
 */
export function checkLevel(
  depth: number,
  called: boolean,
  { address, restricted }: { readonly address: number; readonly restricted: boolean },
): number {
  if (depth === 0 && called)
    throw gvtErrors.BAD_BATCH({ address, what: 'is of the second level and started by a ring' });
  if (depth < MAX_DEPTH) return called ? depth + 1 : Math.max(depth, 1);
  if (!restricted) throw gvtErrors.BATCH_TOO_DEEP({ address });
  return MAX_DEPTH;
}
