import type { HostMemory, Pfn, Undo } from '@pinion/core';
import { type Dma, type DmaShrinkers, type PageSource, SHRINK_PRIORITY, type ShrinkPriority } from '@pinion/dma';
import type { Backing } from './backing.js';
import { type DmaBufAttachment, DmaBufBacking } from './dma-buf.js';
import { gemErrors } from './errors.js';
import { GemObject } from './object.js';
import { PhysBacking } from './phys.js';
import { type GemQuirk, quirkSet } from './quirks.js';
import { ShmemBacking } from './shmem.js';
import { StolenBacking } from './stolen.js';
import { STRATEGIES, type StrategyName } from './strategies.js';
import { UserptrBacking, type UserRange } from './userptr.js';

export interface GemDeviceOptions {
  /** What the GPU does DMA with, watched by a debugger or not. */
  readonly dma: Dma;
  /** Where shmem pages come from. */
  readonly pages: PageSource;
  /** When shmem and userptr objects are mapped. Default `get-pages`. */
  readonly strategy?: StrategyName;
  readonly quirks?: Iterable<GemQuirk>;
}

/** A GPU's objects, least recently used first. */
export class GemDevice {
  readonly #dma: Dma;
  readonly #pages: PageSource;
  readonly #strategy: StrategyName;
  readonly #quirks: ReadonlySet<GemQuirk>;
  readonly #objects = new Set<GemObject>();
  readonly #work: (() => void)[] = [];
  #created = 0;

  /** @throws GEM_UNKNOWN_QUIRK (EINVAL). */
  constructor(options: GemDeviceOptions) {
    this.#dma = options.dma;
    this.#pages = options.pages;
    this.#strategy = options.strategy ?? 'get-pages';
    this.#quirks = quirkSet(options.quirks ?? []);
  }

  get objects(): readonly GemObject[] {
    return [...this.#objects];
  }
  get memory(): HostMemory {
    return this.#dma.memory;
  }

  /** Memory of its own. @throws GEM_BAD_SIZE (EINVAL). */
  createShmem(pages: number): GemObject {
    return this.#create(new ShmemBacking(pages, this.#pages));
  }
  /** A contiguous copy with one address. @throws GEM_BAD_SIZE (EINVAL). */
  createPhys(pages: number): GemObject {
    return this.#create(new PhysBacking(this.#dma, new ShmemBacking(pages, this.#pages)));
  }
  /** Firmware memory from frame `first`. @throws GEM_BAD_SIZE (EINVAL). */
  createStolen(first: Pfn, pages: number): GemObject {
    return this.#create(new StolenBacking(first, pages));
  }
  /** Memory of a process; its pages come when `runWork` ran. @throws GEM_BAD_SIZE (EINVAL). */
  createUserptr(range: UserRange): GemObject {
    return this.#create(new UserptrBacking(range, this.#dma.memory, (work) => this.#work.push(work)));
  }
  /** Somebody else's buffer. */
  importDmaBuf(attachment: DmaBufAttachment): GemObject {
    return this.#create(new DmaBufBacking(attachment));
  }

  /** Runs what waits for the worker. @returns how much that was. */
  runWork(): number {
    const work = this.#work.splice(0);
    for (const each of work) each();
    return work.length;
  }

  /** Offers the objects to the dma shrinker: unwanted ones first, then idle ones, then active ones to those who wait. @returns the undo. */
  registerShrinkers(shrinkers: DmaShrinkers): Undo {
    const undos = [
      this.#register(shrinkers, 'purgeable', SHRINK_PRIORITY.PURGEABLE),
      this.#register(shrinkers, 'idle', SHRINK_PRIORITY.IDLE),
      this.#register(shrinkers, 'active', SHRINK_PRIORITY.ACTIVE),
    ];
    return () => {
      for (const undo of undos) void undo();
    };
  }

  /** The device goes. @throws GEM_OBJECTS_LEFT (EBUSY). */
  remove(): void {
    if (this.#objects.size > 0) throw gemErrors.OBJECTS_LEFT({ objects: this.#objects.size });
  }

  #create(backing: Backing): GemObject {
    this.#created += 1;
    const object = new GemObject({
      name: `${backing.kind}-${this.#created}`,
      backing,
      dma: this.#dma,
      strategy: STRATEGIES[this.#strategy],
      quirks: this.#quirks,
      used: (used) => {
        this.#objects.delete(used);
        this.#objects.add(used);
      },
      gone: (gone) => this.#objects.delete(gone),
    });
    this.#objects.add(object);
    return object;
  }

  #register(shrinkers: DmaShrinkers, kind: string, priority: ShrinkPriority): Undo {
    const mine = (): readonly GemObject[] => this.objects.filter((object) => classOf(object) === priority);
    return shrinkers.register({
      name: `${this.#dma.device.name}:${kind}`,
      priority,
      count: () => mine().reduce((sum, object) => sum + (object.shrinkable ? object.mappedPages : 0), 0),
      shrink: (_shortage, pages) => {
        let freed = 0;
        for (const object of mine()) {
          if (freed >= pages) break;
          freed += object.shrink(priority === SHRINK_PRIORITY.ACTIVE);
        }
        return freed;
      },
    });
  }
}

function classOf(object: GemObject): ShrinkPriority {
  if (object.active) return SHRINK_PRIORITY.ACTIVE;
  return object.state.madvise === 'willneed' ? SHRINK_PRIORITY.IDLE : SHRINK_PRIORITY.PURGEABLE;
}
