/** Mappings above 8 TiB: one table per 2^31 pages, made with the first pin in it, so that the tables inside count in integers. */
import {
  checkPin,
  MAX_REFERENCES,
  type PinTable,
  type PinVisitor,
  pinTableErrors,
  SEGMENT_PAGES,
} from './pin-table.js';

export class SegmentedPinTable implements PinTable {
  readonly npages: number;
  pages = 0;
  releasedPfn = -1;
  private readonly make: (npages: number) => PinTable;
  private readonly segments = new Map<number, PinTable>();

  /** `make` gives the empty table of a segment. */
  constructor(npages: number, make: (npages: number) => PinTable) {
    this.npages = npages;
    this.make = make;
  }

  acquire(page: number): number {
    const segment = this.segmentOf(page);
    if (segment === undefined) return -1;
    if (segment.references(page % SEGMENT_PAGES) === MAX_REFERENCES) throw pinTableErrors.PIN_OVERFLOW({ page });
    return segment.acquire(page % SEGMENT_PAGES);
  }

  insert(page: number, pfn: number): void {
    checkPin(this.npages, page, pfn);
    if (this.pfn(page) >= 0) throw pinTableErrors.PIN_EXISTS({ page });
    const number = Math.floor(page / SEGMENT_PAGES);
    const segment = this.segments.get(number) ?? this.make(SEGMENT_PAGES);
    segment.insert(page % SEGMENT_PAGES, pfn);
    this.segments.set(number, segment);
    this.pages++;
  }

  release(page: number): number {
    const segment = this.segmentOf(page);
    if (segment === undefined) return -1;
    const left = segment.release(page % SEGMENT_PAGES);
    if (left === 0) {
      this.releasedPfn = segment.releasedPfn;
      this.pages--;
      if (segment.pages === 0) this.segments.delete(Math.floor(page / SEGMENT_PAGES));
    }
    return left;
  }

  pfn(page: number): number {
    return this.segmentOf(page)?.pfn(page % SEGMENT_PAGES) ?? -1;
  }

  references(page: number): number {
    return this.segmentOf(page)?.references(page % SEGMENT_PAGES) ?? 0;
  }

  forEach(first: number, last: number, visit: PinVisitor): void {
    for (const [base, segment] of this.ascending()) {
      segment.forEach(first - base, last - base, (page, pfn, references) => visit(base + page, pfn, references));
    }
  }

  firstIn(first: number, last: number): number {
    for (const [base, segment] of this.ascending()) {
      const page = segment.firstIn(first - base, last - base);
      if (page >= 0) return base + page;
    }
    return -1;
  }

  clear(): void {
    this.segments.clear();
    this.pages = 0;
  }

  byteSize(): number {
    let bytes = 0;
    for (const segment of this.segments.values()) bytes += segment.byteSize() + 24;
    return bytes;
  }

  private segmentOf(page: number): PinTable | undefined {
    return this.segments.get(Math.floor(page / SEGMENT_PAGES));
  }

  /** Segments with the page they begin at. */
  private ascending(): [base: number, segment: PinTable][] {
    const numbers = [...this.segments].sort(([a], [b]) => a - b);
    return numbers.map(([number, segment]) => [number * SEGMENT_PAGES, segment]);
  }
}
