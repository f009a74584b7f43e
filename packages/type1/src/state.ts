import { type BackendDevice, type BackendGroup, type BackendHost, type IommuDomain, LAST_FRAME } from '@pinion/core';
import { LockedPages } from './accounting.js';
import { createPinTable, type PinTableKind } from './create-pin-table.js';
import type { IovaRanges } from './iova-ranges.js';
import type { Mapping } from './mapping.js';
import { MappingStore } from './mapping-store.js';
import { OddPins } from './odd-pins.js';
import type { PinTable } from './pin-table.js';
import type { Quirk } from './quirks.js';

/** What the kernel has as module parameters of vfio_iommu_type1. */
export interface Type1Parameters {
  /** Mappings a container may have; read when a container opens the backend. */
  readonly dmaEntryLimit: number;
  /** Account and map page by page. */
  readonly disableHugepages: boolean;
  /** Attach groups whose interrupts are not isolated. */
  readonly allowUnsafeInterrupts: boolean;
}

export const DEFAULT_PARAMETERS: Type1Parameters = {
  dmaEntryLimit: 65_535,
  disableHugepages: false,
  allowUnsafeInterrupts: false,
};

/** One domain and the groups behind it. Source: struct vfio_domain. */
export interface DomainSlot {
  readonly domain: IommuDomain;
  readonly groups: BackendGroup[];
}

/** A page size no smaller than the host's. */
export const HOST_PAGE = 4096n;
/** pgsize_bitmap of a container without IOMMU: every size from the host's page up. Source: vfio_update_pgsize_bitmap(). */
export const ANY_PAGE_SIZE = 0xffff_ffff_ffff_f000n;

/** Everything one container's type1 knows. The files beside this one work on it. Source: struct vfio_iommu. */
export class Type1State {
  readonly host: BackendHost;
  readonly v2: boolean;
  readonly nesting: boolean;
  readonly quirks: ReadonlySet<Quirk>;
  readonly parameters: () => Type1Parameters;
  readonly entryLimit: number;
  readonly mappings: MappingStore;
  readonly locked = new LockedPages();
  /** Newest first, as the kernel's lists. */
  readonly domains: DomainSlot[] = [];
  readonly emulated: BackendGroup[] = [];
  readonly devices: BackendDevice[] = [];
  /** IOMMU groups no device of which ever pinned: their DMA can be anywhere. Source: !pinned_page_dirty_scope. */
  readonly unscoped = new Set<BackendGroup>();
  readonly #pinTable: PinTableKind;
  ranges: IovaRanges = [];
  pageSizes = ANY_PAGE_SIZE;
  tracking = false;
  invalidVaddrs = 0;
  pinnedPages = 0;

  constructor(about: {
    host: BackendHost;
    v2: boolean;
    nesting: boolean;
    quirks: ReadonlySet<Quirk>;
    parameters: () => Type1Parameters;
    pinTable: PinTableKind;
  }) {
    this.host = about.host;
    this.v2 = about.v2;
    this.nesting = about.nesting;
    this.quirks = about.quirks;
    this.parameters = about.parameters;
    this.entryLimit = about.parameters().dmaEntryLimit;
    this.mappings = new MappingStore(about.quirks);
    this.#pinTable = about.pinTable;
  }

  /** Mappings that still fit. Source: dma_avail. */
  get entriesLeft(): number {
    return this.entryLimit - this.mappings.size;
  }

  /** The smallest page that every domain can map, bytes. */
  get minPage(): bigint {
    return this.pageSizes & -this.pageSizes;
  }

  /** The same in host pages. */
  get minPagePages(): number {
    return Number(this.minPage / HOST_PAGE);
  }

  /** Pins are charged one by one only while no domain has everything pinned already. */
  get chargesPins(): boolean {
    return this.domains.length === 0;
  }

  /**
   * Walks over a mapping that ends at 2^64 stop before they begin in the kernels of the quirk: such a mapping is never
   * put into a domain nor taken out of one. `count`: the pages of it that the walk is about, from its first.
   */
  neverWalked(mapping: Mapping, count: number = mapping.pages): boolean {
    return mapping.first + count - 1 === LAST_FRAME && this.quirks.has('top-mapping-invisible');
  }

  pinsOf(mapping: Mapping): PinTable {
    mapping.pins ??= createPinTable(this.#pinTable, mapping.pages);
    return mapping.pins;
  }

  oddPinsOf(mapping: Mapping): OddPins {
    mapping.oddPins ??= new OddPins();
    return mapping.oddPins;
  }

  /** AND of all domains' page sizes, nothing below the host's page. Source: vfio_update_pgsize_bitmap(). */
  updatePageSizes(): void {
    let sizes = 0xffff_ffff_ffff_ffffn;
    for (const slot of this.domains) sizes &= slot.domain.pageSizes;
    this.pageSizes = (sizes & (HOST_PAGE - 1n)) === 0n ? sizes : (sizes & ANY_PAGE_SIZE) | HOST_PAGE;
  }
}
