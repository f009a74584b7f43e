/**
 * Entries of per-process tables: 8 bytes, here always two dwords. Level 1 holds pages, level 4 is the top of a 48-bit table, level 2 holds
 * each of the four roots of a 32-bit one. Source: Intel PRM (Broadwell and later), "PPGTT entry formats"; i915 gvt gtt.c.
 */

/** Entries of a table, and what its page of guest memory takes. */
export const ENTRIES = 512;
export const ENTRY_BYTES = 8;
/** Levels of tables. */
export type Level = 1 | 2 | 3 | 4;

export const PRESENT = 1;
export const WRITABLE = 2;
/** Levels 2 and 3: the entry is itself a page, of 2 MiB or 1 GiB. */
export const PAGE_SIZE_BIT = 0x80;
/** Level 2: the table below holds 64 KiB pages (intermediate page size). */
export const IPS = 0x800;

/** Small pages in a 64 KiB and in a 2 MiB page. */
export const PAGES_64K = 16;
export const PAGES_2M = 512;

/** Address bits 45:12: 20 in the low dword, 14 in the high one. */
const HIGH_ADDRESS = 0x3fff;
const LOW_FRAMES = 2 ** 20;

/** Guest frame that an entry names: bits 45:12. */
export const frameOf = (low: number, high: number): number => (high & HIGH_ADDRESS) * LOW_FRAMES + (low >>> 12);
/** Bits 45:16. */
export const frame64K = (low: number, high: number): number => frameOf(low & ~0xffff, high);
/** Bits 45:21. */
export const frame2M = (low: number, high: number): number => frameOf(low & ~0x1fffff, high);

/** Guest frame that a root names: its address bits 45:12. A root has no bit that says it is present. */
export const rootFrame = (pdp: number): number => Math.floor(pdp / 4096) % (LOW_FRAMES * (HIGH_ADDRESS + 1));

/** Which entry of a table of `level` a graphics page (address / 4096, below 2^36) goes through. */
export function indexAt(level: number, page: number): number {
  if (level === 4) return Math.floor(page / 2 ** 27) & (ENTRIES - 1);
  return (page >>> (9 * (level - 1))) & (ENTRIES - 1);
}
