import { asIovaFrame, asPfn, type Gfn, type Pfn, PinionError, PROT_RW } from '@pinion/core';
import { adaptHypervisor, type BackendFactory } from '@pinion/gvt';

/**
 * What this imaginary hypervisor has for devices: a table of fixed size in which a guest page is granted to a device, by one row, until
 * the row is taken out. It counts nothing, knows no ranges, and a row that nobody takes out stays for ever.
 */
export class GrantTable {
  readonly #rows = new Map<string, Pfn>();
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  get used(): number {
    return this.#rows.size;
  }

  /** @throws PinionError GRANT_TABLE_FULL (ENOSPC), GRANT_TWICE (EEXIST). */
  grant(device: string, gfn: Gfn, frame: Pfn): void {
    const row = `${device}/${gfn}`;
    if (this.#rows.has(row)) throw new PinionError('GRANT_TWICE', 'EEXIST', `${row} is granted already`);
    if (this.#rows.size === this.#size) throw new PinionError('GRANT_TABLE_FULL', 'ENOSPC', `all ${this.#size} rows`);
    this.#rows.set(row, frame);
  }

  end(device: string, gfn: Gfn): void {
    this.#rows.delete(`${device}/${gfn}`);
  }
}

/**
 * The backend: two functions. The adapter calls `pin` once for a page however many table entries lead to it, and `unpin` when the last of
 * them is gone, when the page's memory goes away, or at the latest when the vGPU closes.
 */
export const grantHypervisor = (table: GrantTable): BackendFactory =>
  adaptHypervisor(({ device, pins }) => ({
    kind: 'grants',
    pin(gfn) {
      const frame = new Float64Array(1);
      pins.pinInto(asIovaFrame(gfn), 1, PROT_RW, frame);
      const pfn = asPfn(frame[0] ?? 0);
      try {
        table.grant(device, gfn, pfn);
      } catch (refusal) {
        pins.unpin(asIovaFrame(gfn), 1);
        throw refusal;
      }
      return pfn;
    },
    unpin(gfn) {
      table.end(device, gfn);
      pins.unpin(asIovaFrame(gfn), 1);
    },
  }));
