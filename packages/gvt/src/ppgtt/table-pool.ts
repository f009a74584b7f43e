import { gvtErrors } from '../errors.js';
import { ShadowTable } from './shadow-table.js';

/** Shadow tables of one vGPU: at most so many, reused. About 14 KiB each. */
export class TablePool {
  readonly #most: number;
  readonly #reclaim: () => boolean;
  readonly #all: ShadowTable[] = [];
  readonly #free: ShadowTable[] = [];

  /** `reclaim` gives something back that is not needed now, and says whether there was anything. */
  constructor(most: number, reclaim: () => boolean) {
    this.#most = most;
    this.#reclaim = reclaim;
  }

  /** Every table there is; those with no references are free. */
  get all(): readonly ShadowTable[] {
    return this.#all;
  }

  /** Tables in use. */
  get used(): number {
    return this.#all.length - this.#free.length;
  }

  /** A table whose entries lead to scratch. @throws PinionError GVT_NO_TABLES (ENOMEM) when nothing more can be reclaimed. */
  take(): ShadowTable {
    for (;;) {
      const free = this.#free.pop();
      if (free !== undefined) return free;
      if (this.#all.length < this.#most) return this.#grow();
      if (!this.#reclaim()) throw gvtErrors.NO_TABLES({ most: this.#most });
    }
  }

  give(table: ShadowTable): void {
    table.recycle();
    this.#free.push(table);
  }

  /** Gives the memory of all tables back, if none is in use. */
  trim(): void {
    if (this.used > 0) return;
    this.#all.length = 0;
    this.#free.length = 0;
  }

  #grow(): ShadowTable {
    const table = new ShadowTable();
    this.#all.push(table);
    return table;
  }
}
