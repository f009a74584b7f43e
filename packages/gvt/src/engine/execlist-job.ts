import { miBatchBufferStart } from '../commands.js';
import { gvtErrors } from '../errors.js';
import type { GvtEvent } from '../interrupt-tables.js';
import type { PagedAccess } from '../paged-access.js';
import type { PpgttMm } from '../ppgtt/mm.js';
import { HEAD_OFFSET, TAIL_OFFSET } from '../regs.js';
import { type ContextDescriptor, levelsOf, lrcaOf } from './context-descriptor.js';
import { ContextImage, type ContextState } from './context-image.js';
import type { EngineJob, Step } from './engine-job.js';
import { type Engine, RING } from './engines.js';
import type { ExeclistSlot } from './execlist.js';
import { JobScan } from './job-scan.js';
import { type RingPlace, ringSize, ShadowRing } from './ring-source.js';
import type { CommandStreamer } from './streamer.js';
import type { StreamJob } from './streamer-types.js';
import type { SubmissionParts } from './submission-parts.js';

const PAGE = 4096;
/** The most address spaces that the ring of one submission switches to. */
const MAX_ROOTS = 64;
const CACHE_LINE = 64;
const INDIRECT_ADDRESS = 0xffffffc0;
const INDIRECT_SIZE = 0x3f;
const PER_CTX_ADDRESS = 0xfffff000;
const PER_CTX_VALID = 1;

/** What a job is made from. */
export interface ExeclistJobRequest {
  readonly parts: SubmissionParts;
  readonly engine: Engine;
  readonly streamer: CommandStreamer;
  readonly descriptor: ContextDescriptor;
  /** Where the last waiting job of the same context ends: this one goes on there. */
  readonly previousTail: number | undefined;
  /** What is still to be done once the guest's memory is up to date: its events, and leaving the engine. */
  readonly onComplete: (job: ExeclistJob, events: readonly GvtEvent[]) => void;
  /** `refused`: before any of it ran. */
  readonly onFail: (cause: unknown, refused: boolean) => void;
}

/**
 * One context's turn on an engine: its image read once, its ring and global batches copied and audited, its address space held until
 * `release`. Source: i915 gvt scheduler.c, intel_vgpu_create_workload and dispatch_workload.
 */
export class ExeclistJob implements EngineJob {
  readonly descriptor: ContextDescriptor;
  /** What holds its context, once it was submitted. */
  slot: ExeclistSlot | undefined;
  readonly #request: ExeclistJobRequest;
  readonly #image: ContextImage;
  readonly #place: RingPlace;
  readonly #state: ContextState;
  readonly #space: PpgttMm;
  /** Address spaces that the ring's commands switch to. */
  readonly #others: PpgttMm[] = [];
  #pinned: PpgttMm[] = [];
  #scan: { readonly rings: readonly ShadowRing[]; readonly batches: JobScan } | undefined;
  #saved: Uint8Array | undefined;
  /** What its commands have to say: each once, since a guest that reads a bit hears of it once. */
  readonly #events = new Set<GvtEvent>();
  #started = false;
  #released = false;

  /**
   * Reads the context and takes its address space.
   * @throws PinionError GVT_BAD_SUBMISSION (EINVAL); whatever taking the address space throws. Nothing is held then.
   */
  constructor(request: ExeclistJobRequest) {
    const { parts, engine, descriptor, previousTail } = request;
    this.#request = request;
    this.descriptor = descriptor;
    const lrca = lrcaOf(descriptor);
    const levels = levelsOf(descriptor);
    if (levels === undefined) throw refused(engine, 'its addressing mode is not supported');
    if (!parts.memory.owns(lrca, lrca + engine.contextPages * PAGE - 1) || !parts.isBacked(lrca + PAGE))
      throw refused(engine, 'its context image is not inside the graphics memory of this vGPU');
    this.#image = new ContextImage(parts.memory, lrca);
    this.#state = this.#image.state();
    this.#place = placeOf(this.#state, previousTail);
    checkRing(engine, this.#place, parts.memory);
    if (engine.name === 'rcs') checkWorkarounds(engine, this.#state, parts.memory);
    const pdps = levels === 4 ? this.#state.pdps.slice(0, 1) : this.#state.pdps;
    this.#space = parts.spaces.acquire({ levels, pdps });
  }

  /** Where its ring ends, bytes from the ring's start. */
  get tail(): number {
    return this.#place.tail;
  }

  /** Copies and audits, once. @throws as JobScan; GVT_TOO_MANY_ROOTS (E2BIG); whatever taking an address space throws. */
  scan(): void {
    if (this.#scan !== undefined) return;
    const { parts, engine } = this.#request;
    const batches = new JobScan({
      engine,
      memory: parts.memory,
      isBacked: parts.isBacked,
      onRoots: (pdps) => this.#takeRoots(pdps),
    });
    const before = engine.name === 'rcs' ? workaroundsOf(this.#state, parts.memory) : [];
    checkBacked(this.#place, parts);
    const rings = [...before, ShadowRing.copy(parts.memory, this.#place)];
    for (const ring of rings) batches.scanRing(ring);
    this.#scan = { rings, batches };
  }

  start(): void {
    const { engine } = this.#request;
    this.scan();
    for (const space of [this.#space, ...this.#others]) {
      space.pin();
      this.#pinned.push(space);
    }
    this.#saved = this.#image.save(engine.contextPages);
    this.#started = true;
  }

  *run(): Generator<Step, void> {
    const { streamer, parts } = this.#request;
    const scan = this.#scan;
    if (scan === undefined) return;
    const job: StreamJob = {
      rings: scan.rings,
      ggtt: parts.memory,
      ppgtt: this.#space.memory(this.#request.engine.name),
      shadow: (address, level) => scan.batches.batch(address, level),
      switchRoots: (pdps) => this.#spaceOf(pdps),
    };
    yield* streamer.run(job);
  }

  notify(): void {
    for (const event of this.#request.streamer.takeEvents()) this.#events.add(event);
  }

  complete(): void {
    const { parts, engine, onComplete } = this.#request;
    const { tail } = this.#place;
    if (this.#saved !== undefined) this.#image.restore(this.#saved);
    this.#image.update({ RING_HEAD: tail, TIMESTAMP: this.#request.streamer.ticks % 2 ** 32 });
    parts.registers.set(engine.base + RING.HEAD, tail);
    parts.registers.set(engine.base + RING.TAIL, tail);
    onComplete(this, [...this.#events]);
  }

  fail(cause: unknown): void {
    this.#request.onFail(cause, !this.#started);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    for (const space of this.#pinned) space.unpin();
    for (const space of [this.#space, ...this.#others]) this.#request.parts.spaces.release(space);
    this.#pinned = [];
    this.#saved = undefined;
    this.#scan = undefined;
  }

  /** One reference and one pin for each, however often the ring loads it. */
  #takeRoots(pdps: readonly number[]): void {
    if (this.#find(pdps) !== undefined) return;
    if (this.#others.length === MAX_ROOTS) throw gvtErrors.TOO_MANY_ROOTS({ most: MAX_ROOTS });
    this.#others.push(this.#request.parts.spaces.acquire({ levels: 3, pdps }));
  }

  #find(pdps: readonly number[]): PpgttMm | undefined {
    return this.#others.find(({ root }) => root.pdps.every((pdp, at) => pdp === pdps[at]));
  }

  #spaceOf(pdps: readonly number[]): PagedAccess {
    const found = this.#find(pdps);
    if (found === undefined) throw refused(this.#request.engine, 'it loads roots that were not audited');
    return found.memory(this.#request.engine.name);
  }
}

const refused = (engine: Engine, what: string) => gvtErrors.BAD_SUBMISSION({ engine: engine.name, what });

function placeOf({ head, tail, start, ctl }: ContextState, previousTail: number | undefined): RingPlace {
  return {
    start: (start & ~(PAGE - 1)) >>> 0,
    size: ringSize(ctl),
    head: previousTail ?? head & HEAD_OFFSET,
    tail: tail & TAIL_OFFSET,
  };
}

function checkRing(engine: Engine, { start, size, head, tail }: RingPlace, memory: PagedAccess): void {
  if (!memory.owns(start, start + size - 1))
    throw refused(engine, 'its ring is not inside the graphics memory of this vGPU');
  if (Math.max(head, tail) >= size) throw refused(engine, `its head or tail is beyond the ring's ${size} bytes`);
}

/** What lies between head and tail must be there. @throws PinionError GVT_BAD_ADDRESS (EFAULT). */
function checkBacked({ start, size, head, tail }: RingPlace, { isBacked }: SubmissionParts): void {
  const pages = size / PAGE;
  const used = (tail - head + size) % size;
  const first = Math.floor(head / PAGE);
  for (let page = first; page * PAGE < head + used; page++) {
    const at = start + (page % pages) * PAGE;
    if (!isBacked(at)) throw gvtErrors.BAD_ADDRESS({ what: 'ring', first: at, last: at + PAGE - 1 });
  }
}

/** Batches that the render engine runs by itself when a context comes in. */
function checkWorkarounds(engine: Engine, { perCtx, indirectCtx }: ContextState, memory: PagedAccess): void {
  const outside = (first: number, size: number) => size > 0 && !memory.owns(first, first + size - 1);
  const size = (indirectCtx & INDIRECT_SIZE) * CACHE_LINE;
  if (outside((indirectCtx & INDIRECT_ADDRESS) >>> 0, size))
    throw refused(engine, 'its indirect context batch is not inside the graphics memory of this vGPU');
  const valid = (perCtx & PER_CTX_VALID) === 0 ? 0 : CACHE_LINE;
  if (outside((perCtx & PER_CTX_ADDRESS) >>> 0, valid))
    throw refused(engine, 'its per-context batch is not inside the graphics memory of this vGPU');
}

/** What comes before the ring: the indirect batch, which has a size and no end, then the per-context batch, which is called. */
function workaroundsOf({ perCtx, indirectCtx }: ContextState, memory: PagedAccess): readonly ShadowRing[] {
  const rings: ShadowRing[] = [];
  const size = (indirectCtx & INDIRECT_SIZE) * CACHE_LINE;
  const start = (indirectCtx & INDIRECT_ADDRESS) >>> 0;
  if (size > 0) rings.push(ShadowRing.copy(memory, { start, size: size + PAGE, head: 0, tail: size }));
  const call = miBatchBufferStart((perCtx & PER_CTX_ADDRESS) >>> 0);
  if ((perCtx & PER_CTX_VALID) !== 0) rings.push(new ShadowRing(Uint32Array.from(call), () => 0));
  return rings;
}
