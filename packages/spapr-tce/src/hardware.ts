import type { BackendGroup, Pfn, Prot } from '@pinion/core';

/** What a window shall be. Source: struct vfio_iommu_spapr_tce_create. */
export interface WindowShape {
  /** log2 of the bytes that one entry translates. */
  readonly pageShift: number;
  /** Bytes of IOVA that the window covers. */
  readonly size: bigint;
  readonly levels: number;
}

/** One table of translation control entries in the hands of the hardware. Source: struct iommu_table. */
export interface TceTable {
  /** First byte of IOVA that entry 0 translates. */
  readonly start: bigint;
  readonly pageShift: number;
  /** Entries from 0 on. */
  readonly entries: number;
  /**
   * Lets entry `index` lead to the host pages from `pfn` on (one of them, or as many as an entry covers).
   * @throws PinionError of the firmware's status for an entry that the table does not have: TCE_FIRMWARE (EINTR).
   */
  set(index: number, pfn: Pfn, prot: Prot): void;
  /** Lets entry `index` lead nowhere; nothing happens at one that leads nowhere already. */
  clear(index: number): void;
}

/** The hardware side of a group: what can stand behind its devices. Source: struct iommu_table_group and its ops. */
export interface TceTableGroup {
  /** Groups of different platforms cannot share a container. Source: the comparison of table_group->ops. */
  readonly platform: string;
  /** The 32-bit window, bytes. `size` 0: there is none. */
  readonly window32: { readonly start: bigint; readonly size: bigint };
  /** Bitmap of page sizes in bytes that windows can have. */
  readonly pageSizes: bigint;
  /** Windows that can be created; 0 or 0xffffffff: none but the default one. */
  readonly maxWindows: number;
  readonly levels: number;
  /** The group gets its user: no window stands afterwards. */
  takeOwnership(): void;
  /** The group loses its user: the default window is the host's again. */
  releaseOwnership(): void;
  /** Bytes of memory that such a table takes, before anybody knows whether it can be created; 0 for nonsense. */
  tableBytes(shape: WindowShape): bigint;
  /**
   * Creates a table for slot 0 or 1; the hardware does not use it yet.
   * @throws PinionError of the platform's errno; nothing exists then.
   */
  createTable(slot: number, shape: WindowShape): TceTable;
  /** Puts the group behind a table. @throws PinionError EPERM if it is another platform's or, where tables belong to one bridge, another group's. */
  setWindow(slot: number, table: TceTable): void;
  /** Takes whatever table stands in the slot away from the group. */
  unsetWindow(slot: number): void;
}

/** Finds the hardware behind a group, undefined for a group that has none of this kind. */
export type FindTableGroup = (group: BackendGroup) => TceTableGroup | undefined;

/** Windows a container can have. Source: IOMMU_TABLE_GROUP_MAX_TABLES. */
export const WINDOW_SLOTS = 2;
/** log2 of the bytes that an entry of the default window translates. Source: IOMMU_PAGE_SHIFT_4K. */
export const DEFAULT_PAGE_SHIFT = 12;
/** Bytes of one entry in the memory that a table takes. */
export const ENTRY_BYTES = 8n;

/** Whether a group can have windows besides its default one. */
export const hasDynamicWindows = (group: TceTableGroup): boolean =>
  group.maxWindows > 0 && group.maxWindows <= WINDOW_SLOTS;
