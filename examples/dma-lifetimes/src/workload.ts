import { isErrno, PAGE_SIZE } from '@pinion/core';
import { DIRECTION, type DmaDebug, type MemoryPiece } from '@pinion/dma';
import { type Fence, GemAddressSpace, type GemObject, type StrategyName } from '@pinion/gem';
import { type Gpu, makeGpu } from './gpu.js';

/** Steps of the replay. */
export const STEPS = 600;
const CLIENTS = 6;
const OBJECTS = 90;
const BINDS_PER_STEP = 4;
/** Sizes of objects in pages: small buffers, textures, framebuffers. */
const SIZES = [64, 128, 256, 512, 1024, 2048];
const SEED = 2015;
/** Pages that another driver uses at the end. */
const DISK_PAGES = 1024;

/** One strategy, with or without a shrinker. */
export interface Contender {
  readonly strategy: StrategyName;
  readonly shrink: boolean;
}

/** What one replay showed. */
export interface Outcome extends Contender {
  /** IOVA frames in use after each step. */
  readonly used: readonly number[];
  readonly peak: number;
  /** Binds that failed for want of IOVA, and the step of the first; undefined: none failed. */
  readonly starved: number;
  readonly firstStarved: number | undefined;
  readonly binds: number;
  readonly mapCalls: number;
  /** Share of the IOVA in use, over all steps, that no bound object needed. */
  readonly idleShare: number;
  /** Pages that the shrinker gave back. */
  readonly shrunk: number;
  /** Frames that are still in use when every object is freed. */
  readonly leaked: number;
  /** Reports of the debugger by kind, how many each. */
  readonly reports: ReadonlyMap<string, number>;
  /** Reports against another driver, which uses the memory after the GPU gave it back. */
  readonly others: number;
  /** The same from a debugger with the small table of its time. */
  readonly smallTable: ReadonlyMap<string, number>;
}

/** A fixed sequence of numbers below `bound`. */
function makeDice(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

interface Binding {
  readonly object: GemObject;
  readonly space: GemAddressSpace;
  readonly until: number;
}

/** The scene: clients with a space each, objects that several of them use, work that ends some steps later. */
class Scene {
  readonly #gpu: Gpu;
  readonly #dice = makeDice(SEED);
  readonly #spaces = Array.from({ length: CLIENTS }, (_, index) => new GemAddressSpace(`ppgtt-${index}`, 1 << 18));
  readonly #bindings: Binding[] = [];
  #objects: GemObject[] = [];
  #freedMapCalls = 0;
  binds = 0;
  starved = 0;
  firstStarved: number | undefined;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#objects = Array.from({ length: OBJECTS }, () => this.#create());
  }

  get mapCalls(): number {
    return this.#objects.reduce((sum, object) => sum + object.mapCalls, this.#freedMapCalls);
  }

  /** Frames that bound objects need: what the least greedy strategy would hold. */
  get needed(): number {
    return this.#objects.reduce((sum, object) => sum + (object.state.bindCount > 0 ? object.pageCount : 0), 0);
  }

  step(now: number): void {
    this.#finish(now);
    for (let count = 0; count < BINDS_PER_STEP; count += 1) this.#bind(now);
    if (now % 10 === 9) this.#replace(this.#dice(OBJECTS));
    if (now % 7 === 6) this.#objects[this.#dice(OBJECTS)]?.madvise('dontneed');
  }

  end(): void {
    this.#finish(Number.POSITIVE_INFINITY);
    for (const object of this.#objects) this.#free(object);
    this.#objects = [];
  }

  #create(): GemObject {
    return this.#gpu.gem.createShmem(SIZES[this.#dice(SIZES.length)] ?? 64);
  }

  #free(object: GemObject): void {
    this.#freedMapCalls += object.mapCalls;
    object.free();
  }

  /** Unbinds what is done, unless the shrinker was faster. */
  #finish(now: number): void {
    for (const binding of this.#bindings.splice(0)) {
      if (binding.until > now) this.#bindings.push(binding);
      else if (binding.object.spaces.includes(binding.space)) binding.object.unbind(binding.space);
    }
  }

  #bind(now: number): void {
    const object = this.#objects[this.#dice(OBJECTS)];
    const space = this.#spaces[this.#dice(CLIENTS)];
    const until = now + 3 + this.#dice(20);
    const busy = this.#dice(3) === 0;
    if (object === undefined || space === undefined || object.spaces.includes(space)) return;
    if (object.state.madvise !== 'willneed' && !object.madvise('willneed')) return;
    this.binds += 1;
    try {
      object.bind(space);
      if (busy) object.fence = fence();
      this.#bindings.push({ object, space, until });
    } catch (failure) {
      if (!isErrno(failure, 'ENOMEM')) throw failure;
      this.starved += 1;
      this.firstStarved ??= now;
    }
  }

  /** An application closes an object and opens another; work on it is waited for. */
  #replace(index: number): void {
    const old = this.#objects[index];
    if (old === undefined) return;
    this.#free(old);
    this.#objects[index] = this.#create();
  }
}

const fence = (): Fence => {
  const state = {
    signalled: false,
    wait: () => {
      state.signalled = true;
    },
  };
  return state;
};

function countReports({ reports }: DmaDebug): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { name } of reports) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

/** A disk reads into memory that the GPU's driver has freed. @returns reports against the disk's driver. */
function otherDriver({ debug, diskDma, memory }: Gpu): number {
  const before = debug.reports.length;
  const pages: MemoryPiece[] = [];
  for (let page = 0; page < DISK_PAGES; page += 1) {
    const pfn = memory.allocate({ pages: 1 });
    if (pfn === undefined) continue;
    const piece = { pfn, offset: 0, length: PAGE_SIZE };
    const dma = diskDma.mapPage(piece, DIRECTION.FROM_DEVICE);
    if (!diskDma.mappingError(dma)) diskDma.unmapPage({ dma, length: PAGE_SIZE }, DIRECTION.FROM_DEVICE);
    pages.push(piece);
  }
  for (const { pfn } of pages) memory.free(pfn, 1);
  return debug.reports.length - before;
}

/** Replays the same work with one contender. */
export function replay(contender: Contender): Outcome {
  const gpu = makeGpu(contender.strategy, contender.shrink);
  const scene = new Scene(gpu);
  const used: number[] = [];
  let [held, idle] = [0, 0];
  for (let now = 0; now < STEPS; now += 1) {
    scene.step(now);
    used.push(gpu.ops.frames);
    held += gpu.ops.frames;
    idle += Math.max(0, gpu.ops.frames - scene.needed);
  }
  scene.end();
  const others = otherDriver(gpu);
  gpu.debug.release(gpu.device);
  return {
    ...contender,
    used,
    peak: Math.max(...used),
    starved: scene.starved,
    firstStarved: scene.firstStarved,
    binds: scene.binds,
    mapCalls: scene.mapCalls,
    idleShare: held === 0 ? 0 : idle / held,
    shrunk: gpu.shrinkers.freed,
    leaked: gpu.ops.frames,
    reports: countReports(gpu.debug),
    others,
    smallTable: countReports(gpu.smallDebug),
  };
}
