import type { Gfn } from '@pinion/core';
import type { Source } from '../faults.js';
import type { GraphicsAccess } from '../graphics-access.js';

/** What names a guest's per-process table. */
export interface PpgttRoot {
  /** 4: `pdps[0]` is the page of the top level, 48-bit addresses. 3: four pages of directories, 32-bit addresses. */
  readonly levels: 3 | 4;
  /** Guest physical addresses, bytes; one for 4 levels, four for 3, where 0 is none. */
  readonly pdps: readonly number[];
}

/**
 * One guest's per-process table and its shadow. Whoever uses it holds a reference (`Ppgtt.acquire`), and a pin while an engine
 * runs on it: what is pinned is in step with the guest's table as it was at `pin`, and is not reclaimed.
 */
export interface PpgttMm {
  readonly root: PpgttRoot;
  /**
   * Before dispatch: shadows the table if that has not been done, brings tables that the guest wrote to unseen up to date, and
   * finishes entries that were written by halves. Nests.
   * @throws PinionError when it cannot; nothing is pinned then.
   */
  pin(): void;
  /** Undoes one `pin`. */
  unpin(): void;
  /** What `source` reaches through the shadow. Meaningful while pinned; afterwards every access is a fault. */
  memory(source: Source): GraphicsAccess;
  /** The guest page that the shadow leads to at a graphics address; undefined where none stands. */
  translate(address: number): Gfn | undefined;
}
