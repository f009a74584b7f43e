import { PAGE_SHIFT } from '@pinion/core';
import type { FaultLog, Source } from './faults.js';
import type { Ggtt } from './ggtt.js';
import { PagedAccess } from './paged-access.js';

/**
 * Guest graphics memory as one of its users reaches it: through the host's table to pinned pages. Each access looks the table up
 * anew, so nothing outlives an entry. Where no guest page stands, reads give zeros, writes vanish, and a fault is recorded.
 */
export class GraphicsMemory extends PagedAccess {
  readonly #ggtt: Ggtt;
  readonly #faults: FaultLog;
  readonly #source: Source;

  constructor(ggtt: Ggtt, faults: FaultLog, source: Source) {
    super();
    this.#ggtt = ggtt;
    this.#faults = faults;
    this.#source = source;
  }

  /** Whether the bytes `first`..`last` belong to this vGPU. */
  owns(first: number, last: number): boolean {
    return this.#ggtt.owns(first, last);
  }

  page(address: number, write: boolean): Uint8Array | undefined {
    const page = address < 0 ? undefined : this.#ggtt.page(Math.floor(address / 2 ** PAGE_SHIFT));
    if (page === undefined) this.#faults.record({ source: this.#source, address, write, table: 'ggtt', level: 1 });
    return page;
  }
}
