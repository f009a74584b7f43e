/** The flat array per region: one slot for every page of the mapping, pinned or not. */
import { PinLeaf } from './pin-leaf.js';
import { checkPin, MAX_FLAT_PAGES, type PinTable, type PinVisitor, pinTableErrors } from './pin-table.js';

/**
 * Fastest for mappings that are pinned densely, 8 bytes per page *of the mapping* (12 on hosts above 16 TiB) from the
 * first pin to `clear`. `forEach` and `firstIn` cost the range's length. Limited to 2^28 pages.
 */
export class FlatPinTable implements PinTable {
  readonly npages: number;
  releasedPfn = -1;
  private run: PinLeaf | undefined = undefined;

  /** @throws PinionError TYPE1_PIN_TABLE_FLAT_SIZE (E2BIG). */
  constructor(npages: number) {
    if (npages > MAX_FLAT_PAGES) throw pinTableErrors.PIN_TABLE_FLAT_SIZE({ npages });
    this.npages = npages;
  }

  get pages(): number {
    return this.run === undefined ? 0 : this.run.live;
  }

  acquire(page: number): number {
    const run = this.runOf(page);
    return run === undefined ? -1 : run.acquire(page);
  }

  insert(page: number, pfn: number): void {
    checkPin(this.npages, page, pfn);
    this.run ??= new PinLeaf(0, this.npages);
    this.run.insert(page, pfn, 1);
  }

  release(page: number): number {
    const run = this.runOf(page);
    if (run === undefined) return -1;
    const left = run.release(page);
    if (left === 0) this.releasedPfn = run.frameAt(page);
    return left;
  }

  pfn(page: number): number {
    const run = this.runOf(page);
    return run === undefined ? -1 : run.pfn(page);
  }

  references(page: number): number {
    const run = this.runOf(page);
    return run === undefined ? 0 : run.references(page);
  }

  forEach(first: number, last: number, visit: PinVisitor): void {
    this.run?.forEach(Math.max(0, first), Math.min(last, this.npages - 1), visit);
  }

  firstIn(first: number, last: number): number {
    return this.run === undefined ? -1 : this.run.firstIn(Math.max(0, first), Math.min(last, this.npages - 1));
  }

  clear(): void {
    this.run = undefined;
  }

  byteSize(): number {
    return this.run === undefined ? 0 : this.run.byteSize();
  }

  /** The array, if it exists and has a slot for `page`. */
  private runOf(page: number): PinLeaf | undefined {
    return page >= 0 && page < this.npages && (page | 0) === page ? this.run : undefined;
  }
}
