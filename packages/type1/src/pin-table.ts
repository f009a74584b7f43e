/**
 * Sparse tracking of pinned pages: which pages of one mapping are pinned, where they are, how often. The interface that
 * the ordered tree, the radix table, the flat array and the adaptive table share; `create-pin-table.ts` chooses one.
 * Source: struct vfio_pfn and vfio_dma.pfn_list; threads/2016-05 weighs the structures.
 */
import { catalogue, formatRange, frameRange } from '@pinion/core';

/** Called once per pinned page; `references` is at least 1. May release the page it is shown, and change nothing else. */
export type PinVisitor = (page: number, pfn: number, references: number) => void;

/**
 * The pinned pages of one mapping. A page is named by its index in the mapping, 0..npages-1; its value is a host frame
 * (0..2^52-1) and a reference count (1..2^32-1). Asking for a page that is not pinned, outside the mapping or no
 * integer is not an error: the answer is "not pinned". Nothing here allocates per call but growth, `forEach` and `firstIn`.
 */
export interface PinTable {
  /** Pages of the mapping. */
  readonly npages: number;
  /** Distinct pages that are pinned. */
  readonly pages: number;
  /** The host frame of the page that the last `release` answering 0 let go; -1 before the first. */
  readonly releasedPfn: number;
  /**
   * One more reference to a page that is already pinned. @returns its host frame, or -1 if it is not pinned.
   * @throws PinionError TYPE1_PIN_OVERFLOW (EOVERFLOW): it has 2^32-1 references; nothing changed.
   */
  acquire(page: number): number;
  /**
   * The first reference to a page.
   * @throws PinionError TYPE1_PIN_OUTSIDE (EINVAL), TYPE1_PIN_BAD_PFN (EINVAL), TYPE1_PIN_EXISTS (EEXIST); nothing changed.
   */
  insert(page: number, pfn: number): void;
  /** One reference less. @returns references left; 0: the page is gone and `releasedPfn` is its frame; -1: it was not pinned. */
  release(page: number): number;
  /** Host frame of a pinned page, or -1. */
  pfn(page: number): number;
  /** References to a page; 0 if it is not pinned. */
  references(page: number): number;
  /** Visits the pinned pages of first..last (closed) in ascending order. */
  forEach(first: number, last: number, visit: PinVisitor): void;
  /** The lowest pinned page of first..last (closed), or -1. May cost as much as a `forEach` over the range. */
  firstIn(first: number, last: number): number;
  /** Forgets every page, whatever its references, and frees the buffers. */
  clear(): void;
  /** Bytes in the table's buffers now (8 per element of a JavaScript array), without V8's object headers. */
  byteSize(): number;
}

/** Most references a page can have. */
export const MAX_REFERENCES = 2 ** 32 - 1;
/** Largest mapping: the whole 64-bit address space, in pages. */
export const MAX_TABLE_PAGES = 2 ** 52;
/** Largest mapping that the flat array takes, in pages (1 TiB; its buffer is then 2 GiB). */
export const MAX_FLAT_PAGES = 2 ** 28;
/** Largest mapping that one radix or adaptive table indexes with 31-bit integers (8 TiB); above, tables are segmented. */
export const SEGMENT_PAGES = 2 ** 31;

const MAX_PFN = 2 ** 52 - 1;

/** What pin tables refuse. Only `insert`, `acquire` and the factory throw. */
export const pinTableErrors = catalogue('TYPE1', {
  PIN_TABLE_SIZE: [
    'EINVAL',
    (d: { npages: number }) => `a pin table of ${d.npages} pages: give a whole number from 1 to 2^52`,
  ],
  PIN_TABLE_KIND: ['EINVAL', (d: { kind: string }) => `no pin table '${d.kind}': tree, radix, flat or adaptive`],
  PIN_TABLE_FLAT_SIZE: [
    'E2BIG',
    (d: { npages: number }) =>
      `a flat pin table of ${d.npages} pages needs ${d.npages * 8} bytes: at most 2^28 pages; use radix or adaptive`,
  ],
  PIN_OUTSIDE: [
    'EINVAL',
    (d: { page: number; npages: number }) =>
      `page ${d.page} is outside the mapping's ${d.npages} pages ${formatRange(frameRange(0, d.npages))}`,
  ],
  PIN_BAD_PFN: [
    'EINVAL',
    (d: { page: number; pfn: number }) => `host frame ${d.pfn} for page ${d.page}: give a whole number below 2^52`,
  ],
  PIN_EXISTS: ['EEXIST', (d: { page: number }) => `page ${d.page} is already pinned: acquire() counts it`],
  PIN_OVERFLOW: ['EOVERFLOW', (d: { page: number }) => `page ${d.page} already has 2^32-1 references`],
});

/** @throws PinionError TYPE1_PIN_OUTSIDE, TYPE1_PIN_BAD_PFN: what every `insert` checks first. */
export function checkPin(npages: number, page: number, pfn: number): void {
  if (!(page >= 0 && page < npages && Number.isInteger(page))) throw pinTableErrors.PIN_OUTSIDE({ page, npages });
  if (!(pfn >= 0 && pfn <= MAX_PFN && Number.isInteger(pfn))) throw pinTableErrors.PIN_BAD_PFN({ page, pfn });
}
