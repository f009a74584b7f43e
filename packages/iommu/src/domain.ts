import {
  asIovaFrame,
  asPfn,
  type FrameRange,
  frameRange,
  type IommuDomain,
  type IovaFrame,
  LAST_FRAME,
  type Pfn,
  PROT_RW,
  type Prot,
} from '@pinion/core';
import { iommuErrors } from './errors.js';
import type { FailureInjection } from './failure-injection.js';
import type { IommuModel } from './iommu-model.js';
import { leafFrame, leafProt, type PackedLeaf, PageTable } from './page-table.js';

/** Host frames an entry can hold: one entry is one exact double, two bits of it are the rights. */
const PFN_LIMIT = 2 ** 51;

/** Where a frame leads, and what a device may do there. */
export interface Translation {
  readonly pfn: Pfn;
  readonly prot: Prot;
}

/** One leaf: `frames` (1, 512 or 262144) frames from `first` lead to host frames from `pfn`. */
export interface DomainLeaf extends Translation {
  readonly first: IovaFrame;
  readonly frames: number;
}

/** What the tables of a domain hold. */
export interface DomainStats {
  /** Tables of 512 entries, the root included. */
  readonly tables: number;
  readonly leaves4K: number;
  readonly leaves2M: number;
  readonly leaves1G: number;
  /** Frames that are mapped. */
  readonly frames: number;
  /** Bytes of memory that the tables hold, freed ones kept for later included. */
  readonly bytes: number;
}

/** One set of I/O page tables of the software IOMMU. Made by `SoftwareIommu.allocDomain` or a group. */
export class SoftwareDomain implements IommuDomain {
  readonly aperture: FrameRange;
  /** What it was made for; another IOMMU of the same make may serve it too (see `SoftwareGroup.attach`). */
  readonly model: IommuModel;
  readonly #failures: FailureInjection;
  readonly #table: PageTable;
  readonly #groups = new Set<number>();
  #generation = 0;
  #freed = false;

  constructor(model: IommuModel, failures: FailureInjection) {
    this.model = model;
    this.#failures = failures;
    this.aperture = frameRange(asIovaFrame(0), model.lastFrame + 1);
    this.#table = new PageTable({
      levels: model.levels,
      leaves: model.leaves,
      admit: () => failures.reach('table'),
    });
  }

  get hardware(): string {
    return this.model.hardware;
  }
  get pageSizes(): bigint {
    return this.model.pageSizes;
  }
  get coherent(): boolean {
    return this.model.coherent;
  }
  /** Grows whenever a translation that a cache may hold became wrong: an IOTLB compares it. */
  get generation(): number {
    return this.#generation;
  }
  get freed(): boolean {
    return this.#freed;
  }
  /** Ids of the groups that sit behind this domain. */
  get groups(): ReadonlySet<number> {
    return this.#groups;
  }

  /**
   * Maps `count` frames with the largest leaves that the alignment of both sides allows; frames are host-contiguous by number.
   * All or nothing. @throws IOMMU_DOMAIN_FREED, IOMMU_BAD_RANGE, IOMMU_BAD_FRAME, IOMMU_BAD_PROT (EINVAL), IOMMU_BEYOND_WIDTH
   * (ERANGE) or IOMMU_BEYOND_WIDTH_LEGACY (EFAULT), IOMMU_ALREADY_MAPPED (EEXIST), IOMMU_INJECTED (as planted: `map`, `table`).
   */
  map(first: IovaFrame, pfn: Pfn, count: number, prot: Prot): void {
    this.#check('map', first, count);
    if (!Number.isSafeInteger(pfn) || pfn < 0 || pfn + count > PFN_LIMIT) throw iommuErrors.BAD_FRAME({ pfn, count });
    if ((prot & PROT_RW) !== prot || prot === 0) throw iommuErrors.BAD_PROT({ prot });
    const range = frameRange(first, count);
    if (range.last > this.aperture.last) throw this.#beyondWidth(range);
    const taken = this.#table.firstMapped(range.first, range.last);
    if (taken >= 0) throw iommuErrors.ALREADY_MAPPED({ range, frame: taken });
    this.#failures.reach('map');
    this.#table.map({ first, count, pfn, prot });
  }

  /**
   * Clears `count` frames from `first`, those above the width included (nothing is there). A large leaf that stands out of the
   * range is split, so exactly these frames go away. @returns frames that were mapped. @throws IOMMU_DOMAIN_FREED,
   * IOMMU_BAD_RANGE (EINVAL); never fails for want of memory.
   */
  unmap(first: IovaFrame, count: number): number {
    this.#check('unmap', first, count);
    const removed = this.#table.unmap(first, Math.min(first + count - 1, this.aperture.last));
    if (removed > 0) this.#generation += 1;
    return removed;
  }

  /** The host frame behind `frame`; undefined where nothing is mapped. @throws IOMMU_DOMAIN_FREED (EINVAL). */
  lookup(frame: IovaFrame): Pfn | undefined {
    const leaf = this.walk(frame);
    return leaf === 0 ? undefined : asPfn(leafFrame(leaf));
  }

  /** The host frame and the rights behind `frame`; undefined where nothing is mapped. @throws IOMMU_DOMAIN_FREED (EINVAL). */
  translate(frame: IovaFrame): Translation | undefined {
    const leaf = this.walk(frame);
    return leaf === 0 ? undefined : { pfn: asPfn(leafFrame(leaf)), prot: leafProt(leaf) };
  }

  /** The same in one number without an object: pfn * 4 + prot, 0 where nothing is mapped. @throws IOMMU_DOMAIN_FREED (EINVAL). */
  walk(frame: IovaFrame): PackedLeaf {
    if (this.#freed) throw iommuErrors.DOMAIN_FREED({ operation: 'lookup' });
    return frame >= 0 && frame <= this.aperture.last ? this.#table.walk(frame) : 0;
  }

  /** Every leaf, ascending. Not to be held over a map or unmap. */
  *leaves(): Generator<DomainLeaf> {
    for (const leaf of this.#table.leaves()) yield { ...leaf, first: asIovaFrame(leaf.first), pfn: asPfn(leaf.pfn) };
  }

  get stats(): DomainStats {
    const [leaves4K = 0, leaves2M = 0, leaves1G = 0] = this.#table.leafCounts;
    const { tables, mapped, bytes } = this.#table;
    return { tables, leaves4K, leaves2M, leaves1G, frames: mapped, bytes };
  }

  /** Releases the tables; a second call does nothing. @throws IOMMU_DOMAIN_BUSY (EBUSY) while a group sits behind it. */
  free(): void {
    if (this.#groups.size > 0) throw iommuErrors.DOMAIN_BUSY({ groups: [...this.#groups] });
    this.#table.clear();
    this.#generation += 1;
    this.#freed = true;
  }

  /** Books a group that sits behind this domain. For groups only. */
  groupAttached(id: number): void {
    this.#groups.add(id);
  }

  /** Takes that back. For groups only. */
  groupDetached(id: number): void {
    this.#groups.delete(id);
  }

  #check(operation: string, first: number, count: number): void {
    if (this.#freed) throw iommuErrors.DOMAIN_FREED({ operation });
    const whole = Number.isSafeInteger(first) && Number.isSafeInteger(count);
    if (!whole || first < 0 || count < 1 || first + count - 1 > LAST_FRAME) {
      throw iommuErrors.BAD_RANGE({ operation, first, count });
    }
  }

  #beyondWidth(range: FrameRange): Error {
    const details = { range, width: this.model.addressWidth };
    return this.model.beyondWidth === 'EFAULT'
      ? iommuErrors.BEYOND_WIDTH_LEGACY(details)
      : iommuErrors.BEYOND_WIDTH(details);
  }
}
