import { type Clock, type Log, silentLog } from '@pinion/core';
import { IovaAllocator, LIMIT_ALL_ONES } from '@pinion/iommu';

/** One operation of a recording: its name, its arguments, and what the kernel answered. */
export interface RecordedOp {
  readonly op: string;
  readonly r: Readonly<Record<string, unknown>>;
  readonly d?: number;
  readonly h?: number;
  readonly n?: number;
  readonly size?: number;
  readonly limit?: number | string;
  readonly aligned?: number;
  readonly flush?: number;
  readonly step?: number;
  readonly rev?: number;
  readonly pfn?: number | string;
  readonly lo?: number | string;
  readonly hi?: number | string;
  readonly log?: number;
  readonly ms?: number;
  readonly start?: number;
  readonly granule?: number;
}

/** Our answer to one operation, in the words of the recording. */
interface Answer {
  readonly fail?: number;
  readonly lo?: string;
  readonly hi?: string;
  readonly pfn?: string;
  readonly found?: number;
  readonly none?: number;
  readonly skip?: number;
  readonly runs?: readonly string[];
  readonly [internal: string]: unknown;
}

export interface RecordedScenario {
  readonly name: string;
  readonly ops: readonly RecordedOp[];
}

interface Handle {
  readonly frame: number;
  readonly size: number;
}

/** Answers that are lists of frames in the short form [first, step, count]. */
const RUNS = new Set(['runs', 'loaded', 'prev']);
const WORD_TOP = 1n << 64n;
/** Frames this near to all ones are counted from there: in the recording from 2^64, in the allocator from 2^53. */
const NEAR_TOP = 2 ** 20;

/** A number of the recording; those beyond 2^53 stand there as strings (see `parseScenario`). */
function number(value: unknown): number {
  const exact = BigInt(value as number | string); // why: the format description knows only numbers and numbers as text
  return exact > BigInt(LIMIT_ALL_ONES) ? LIMIT_ALL_ONES + 1 - Number(WORD_TOP - exact) : Number(exact);
}
const hex = (frame: number): string =>
  frame > LIMIT_ALL_ONES - NEAR_TOP
    ? `0x${(WORD_TOP - BigInt(LIMIT_ALL_ONES + 1 - frame)).toString(16)}`
    : `0x${frame.toString(16)}`;

/** A line of a recording. Integers that a double cannot hold become strings. */
export const parseScenario = (line: string): RecordedScenario =>
  // why: a recording has this shape by its format description; a wrong one fails the comparison
  JSON.parse(line.replace(/:(\d{17,})/g, ':"$1"')) as RecordedScenario;

/** Time that moves only when told to. */
class ReplayClock implements Clock {
  #now = 0;
  #timers: { at: number; action: () => void }[] = [];
  now(): number {
    return this.#now;
  }
  after(delay: number, action: () => void): () => void {
    const timer = { at: this.#now + delay, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  sleep(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = next.at;
      next.action();
    }
    this.#now = end;
  }
}

/** Frames of runs [first, step, count] in order. */
const expand = (runs: unknown): string[] =>
  // why: the format says so; a recording that breaks it makes the replay fail
  (runs as [string, number, number][]).flatMap(
    (
      [first, step, count], // why: shape fixed by the format description
    ) => Array.from({ length: count }, (_, index) => hex(number(first) + step * index)),
  );

/** FNV-1a 64 over both ends of every range as 8-byte little endian numbers. */
function fingerprint(words: readonly bigint[]): string {
  let hash = 0xcbf29ce484222325n;
  for (const word of words) {
    for (let shift = 0n; shift < 64n; shift += 8n) {
      hash = BigInt.asUintN(64, (hash ^ ((word >> shift) & 0xffn)) * 0x100000001b3n);
    }
  }
  return hex64(hash);
}
const hex64 = (value: bigint): string => `0x${value.toString(16)}`;

/** Runs one scenario on fresh allocators and notes every answer in the recording's words. */
export class IovaReplay {
  readonly #domains = new Map<unknown, IovaAllocator>();
  readonly #handles = new Map<number, Handle>();
  readonly #clock = new ReplayClock();
  readonly #log: Log;
  #warnings = 0;

  constructor() {
    this.#log = { ...silentLog, warn: () => (this.#warnings += 1) };
  }

  /** Warnings of ranges that were freed twice. */
  get warnings(): number {
    return this.#warnings;
  }

  /** @returns [ours, recorded] in the same shape. */
  step(op: RecordedOp): readonly [ours: unknown, recorded: unknown] {
    const ours = this.#run(op);
    if (op.op !== 'arm' && op.op !== 'sleep') this.#domains.get(op.d)?.stopTrimming();
    const recorded = Object.fromEntries(
      Object.entries(op.r)
        .filter(([key]) => key !== 'klog')
        .map(([key, value]) => [key, RUNS.has(key) ? expand(value) : value]),
    );
    const answer = Object.fromEntries(Object.keys(recorded).map((key) => [key, this.#answer(key, op, ours)]));
    return [answer, recorded];
  }

  #answer(key: string, op: RecordedOp, ours: Answer): unknown {
    if (key === 'st') return this.#state(op);
    if (key === 'rc') return this.#domain(op).state.caches.map((level) => [level.loaded, level.previous, level.depot]);
    return ours[key];
  }

  #state(op: RecordedOp): unknown {
    const { cached, cached32, refused32 } = this.#domain(op).state;
    return [cached, cached32, refused32].map((frame) => (frame === undefined ? 'top' : hex(frame)));
  }

  #domain(op: RecordedOp): IovaAllocator {
    const found = this.#domains.get(op.d);
    if (found === undefined) throw new TypeError(`no domain ${String(op.d)}`);
    return found;
  }

  #run(op: RecordedOp): Answer {
    switch (op.op) {
      case 'init':
        return this.#init(op);
      case 'rcaches':
        this.#domain(op).enableCaches();
        return { ret: 0 };
      case 'alloc':
      case 'fast':
        return this.#allocate(op, number(op.h));
      case 'allocn':
      case 'fastn':
        return this.#allocateMany(op);
      case 'free':
      case 'ufree':
      case 'ffree':
        return this.#freeHandle(op, number(op.h));
      case 'freen':
      case 'ffreen':
        return this.#freeMany(op);
      case 'arm':
        this.#domain(op).startTrimming();
        return {};
      case 'sleep':
        this.#clock.sleep(number(op.ms));
        return {};
      default:
        return this.#byNumber(op);
    }
  }

  #byNumber(op: RecordedOp): Answer {
    const domain = this.#domain(op);
    switch (op.op) {
      case 'freep':
        return rangeAnswer(domain.free(number(op.pfn)), 'found');
      case 'ffreep':
        domain.freeFast(number(op.pfn), number(op.size));
        return {};
      case 'find':
        return rangeAnswer(domain.find(number(op.pfn)), 'none');
      case 'reserve':
        return rangeAnswer(domain.reserve({ first: number(op.lo), last: number(op.hi) }), 'found');
      case 'tree':
        return treeAnswer(domain);
      case 'mags':
        return magazineAnswer(domain, number(op.log));
      case 'rcstate':
        return {};
      case 'trim':
        for (let n = number(op.n); n > 0; n -= 1) domain.trim(number(op.log));
        return {};
      default:
        throw new TypeError(`unknown operation ${op.op}`);
    }
  }

  #init(op: RecordedOp): Answer {
    const start = number(op.start);
    const granule = number(op.granule);
    const domain = new IovaAllocator({ start, granule, caches: false, clock: this.#clock, log: this.#log });
    this.#domains.set(op.d, domain);
    return { start: hex(start), granule: hex(granule), dma32: hex(domain.frames32) };
  }

  #allocate(op: RecordedOp, handle: number): Answer {
    const size = number(op.size);
    const domain = this.#domain(op);
    const fast = op.op.startsWith('fast');
    const frame = fast
      ? domain.allocateFast(size, number(op.limit), op.flush === 1)
      : domain.allocate(size, number(op.limit), op.aligned === 1);
    // The fast path of the kernel answers 0 for a failure, so that frame 0 looks like one.
    if (frame === undefined || (fast && frame === 0)) return { fail: 1 };
    this.#handles.set(handle, { frame, size });
    return fast ? { pfn: hex(frame) } : { lo: hex(frame), hi: hex(frame + size - 1) };
  }

  #allocateMany(op: RecordedOp): Answer {
    const runs: string[] = [];
    let fail = 0;
    for (let index = 0; index < number(op.n); index += 1) {
      const answer = this.#allocate(op, number(op.h) + index);
      const frame = answer.pfn ?? answer.lo;
      if (frame === undefined) fail += 1;
      else runs.push(frame);
    }
    return { runs, fail };
  }

  #freeHandle(op: RecordedOp, handle: number): Answer {
    const held = this.#handles.get(handle);
    if (held === undefined) return { skip: 1 };
    this.#handles.delete(handle);
    const pfn = hex(held.frame);
    if (op.op.startsWith('ffree')) {
      this.#domain(op).freeFast(held.frame, held.size);
      return { pfn };
    }
    return { pfn, found: this.#domain(op).free(held.frame) === undefined ? 0 : 1 };
  }

  #freeMany(op: RecordedOp): Answer {
    const [first, count, step] = [number(op.h), number(op.n), number(op.step)];
    const handles = Array.from({ length: count }, (_, index) => first + index * step);
    if (op.rev === 1) handles.reverse();
    const answers = handles.map((handle) => this.#freeHandle(op, handle));
    return {
      runs: answers.map(({ pfn }) => pfn).filter((pfn) => pfn !== undefined),
      skip: answers.filter(({ skip }) => skip === 1).length,
    };
  }
}

function rangeAnswer(range: { first: number; last: number } | undefined, flag: string): Answer {
  if (range === undefined) return { [flag]: flag === 'none' ? 1 : 0 };
  return { lo: hex(range.first), hi: hex(range.last), found: 1 };
}

function treeAnswer(domain: IovaAllocator): Answer {
  const tree = [...domain.ranges()].map(({ first, last }) => [hex(first), hex(last)]);
  const words = tree.flat().map(BigInt);
  const pages = [...domain.ranges()].reduce((sum, { first, last }) => sum + last - first + 1, 0);
  return { n: tree.length, pages, tree, fnv: fingerprint(words) };
}

function magazineAnswer(domain: IovaAllocator, log: number): Answer {
  const { loaded, previous, depot } = domain.cacheContent(log);
  return {
    loaded: loaded.map(hex),
    prev: previous.map(hex),
    depot: depot.length,
    depot_tops: depot.map((magazine) => [hex(magazine[0] ?? 0), hex(magazine.at(-1) ?? 0)]),
  };
}
