import { type Log, silentLog, type Undo } from '@pinion/core';
import { dmaErrors } from './errors.js';

/** Who is asked first: what nobody wants, then what nobody uses, then what is in use (and only those who can wait). */
export const SHRINK_PRIORITY = { PURGEABLE: 0, IDLE: 1, ACTIVE: 2 } as const;
export type ShrinkPriority = (typeof SHRINK_PRIORITY)[keyof typeof SHRINK_PRIORITY];

/** Walks over all shrinkers for one mapping; more would mean that somebody says it frees and does not. */
const MOST_WALKS = 64;

/** A shortage of IOVA, or of the IOMMU's memory. */
export interface Shortage {
  /** Name of the device whose mapping failed. */
  readonly device: string;
  /** Pages that it wanted. */
  readonly pages: number;
  /** The caller may be kept waiting for a device to finish. */
  readonly mayWait: boolean;
}

/** Somebody who keeps mappings that are not needed right now. */
export interface DmaShrinker {
  readonly name: string;
  readonly priority: ShrinkPriority;
  /** Pages it could unmap now. Must neither map nor wait. */
  count(shortage: Shortage): number;
  /**
   * Unmaps about `pages` pages. It may only try locks, must skip what is pinned and must not map: whoever needs IOVA in here gets
   * DMA_SHRINK_RECURSION. @returns pages that were unmapped; 0: nothing more to give.
   */
  shrink(shortage: Shortage, pages: number): number;
}

/** What one round brought, for the report of a failure. */
export interface ShrinkRound {
  readonly shrinker: string;
  readonly priority: ShrinkPriority;
  readonly freed: number;
}

/** How a shortage ended. */
export interface ShrinkReport {
  readonly shortage: Shortage;
  readonly rounds: readonly ShrinkRound[];
  readonly freed: number;
  readonly solved: boolean;
}

/**
 * The **dma shrinker** that the thread left for later: keepers of mappings register here, and a mapping that fails for want of
 * space asks them, cheapest first, and is tried again. Where it still fails, the report says who was asked and what each
 * gave: the failure can be acted on. Source: threads/2015-07.
 */
export class DmaShrinkers {
  readonly #shrinkers: DmaShrinker[] = [];
  readonly #log: Log;
  #running: string | undefined;
  #last: ShrinkReport | undefined;
  #freed = 0;

  constructor(log: Log = silentLog) {
    this.#log = log;
  }

  /** Pages that shrinking has freed so far. */
  get freed(): number {
    return this.#freed;
  }
  /** How the last shortage ended. */
  get lastReport(): ShrinkReport | undefined {
    return this.#last;
  }
  /** Name of the shrinker that runs right now. */
  get running(): string | undefined {
    return this.#running;
  }

  /** @returns the undo. @throws DMA_SHRINKER_EXISTS (EEXIST). */
  register(shrinker: DmaShrinker): Undo {
    if (this.#shrinkers.some(({ name }) => name === shrinker.name)) {
      throw dmaErrors.SHRINKER_EXISTS({ shrinker: shrinker.name });
    }
    this.#shrinkers.push(shrinker);
    this.#shrinkers.sort((a, b) => a.priority - b.priority);
    return () => {
      const index = this.#shrinkers.indexOf(shrinker);
      if (index >= 0) this.#shrinkers.splice(index, 1);
    };
  }

  /** Pages that could be freed, over all shrinkers a shortage may use. */
  count(shortage: Shortage): number {
    return this.#usable(shortage).reduce((sum, shrinker) => sum + shrinker.count(shortage), 0);
  }

  /**
   * Tries `attempt` until it succeeds, nobody frees anything any more, or 64 walks over the shrinkers did not help. `attempt` returns undefined for "no space".
   * @throws DMA_SHRINK_RECURSION (EDEADLK) from inside a shrinker, before anything is tried: it holds locks that others wait
   * for, and waiting for oneself is a deadlock.
   */
  retry<T>(shortage: Shortage, attempt: () => T | undefined): T | undefined {
    if (this.#running !== undefined) {
      throw dmaErrors.SHRINK_RECURSION({ shrinker: this.#running, device: shortage.device });
    }
    let result = attempt();
    if (result !== undefined) return result;
    const rounds: ShrinkRound[] = [];
    for (let walk = 0; walk < MOST_WALKS && result === undefined; walk += 1) {
      if (this.#once(shortage, rounds) === 0) break;
      result = attempt();
    }
    const total = rounds.reduce((sum, round) => sum + round.freed, 0);
    this.#last = { shortage, rounds, freed: total, solved: result !== undefined };
    return result;
  }

  /** One walk over the shrinkers, until enough was freed. */
  #once(shortage: Shortage, rounds: ShrinkRound[]): number {
    let freed = 0;
    for (const shrinker of this.#usable(shortage)) {
      if (freed >= shortage.pages) break;
      const got = this.#ask(shrinker, shortage, shortage.pages - freed);
      rounds.push({ shrinker: shrinker.name, priority: shrinker.priority, freed: got });
      freed += got;
    }
    this.#freed += freed;
    return freed;
  }

  /** A shrinker that fails has freed nothing; the others are asked all the same. */
  #ask(shrinker: DmaShrinker, shortage: Shortage, pages: number): number {
    this.#running = shrinker.name;
    try {
      return shrinker.shrink(shortage, pages);
    } catch (cause) {
      this.#log.warn(`dma shrinker ${shrinker.name} failed`, cause);
      return 0;
    } finally {
      this.#running = undefined;
    }
  }

  #usable(shortage: Shortage): readonly DmaShrinker[] {
    return this.#shrinkers.filter(({ priority }) => shortage.mayWait || priority !== SHRINK_PRIORITY.ACTIVE);
  }
}

/** A report in one line: who was asked, what each gave. */
export const formatShrinkReport = ({ shortage, rounds, freed, solved }: ShrinkReport): string =>
  `${shortage.device} wanted ${shortage.pages} pages: ${
    rounds.length === 0 ? 'nobody to ask' : rounds.map((round) => `${round.shrinker} gave ${round.freed}`).join(', ')
  }; ${freed} pages freed, ${solved ? 'mapped' : 'still no space'}`;
