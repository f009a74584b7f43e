import { dword } from '../dword.js';
import { gvtErrors } from '../errors.js';
import { ENTRY_BYTES } from './entry-format.js';
import type { ShadowTable } from './shadow-table.js';
import type { Shadower } from './shadower.js';

/** A write of the guest into a page that is a table. */
export interface TrappedWrite {
  readonly gpa: bigint;
  readonly bytes: Uint8Array;
  readonly failsafe: boolean;
  readonly outOfSync: { readonly after: number; readonly most: number } | undefined;
}

/** Brings every shadow of the page in step. Source: i915 gvt gtt.c, ppgtt_handle_guest_write_page_table_bytes(). */
export function onGuestWrite(shadower: Shadower, write: TrappedWrite): void {
  const gfn = Number(write.gpa >> 12n);
  const shadows = shadowsOf(shadower, gfn);
  if (shadows.length === 0) throw gvtErrors.NOT_TRACKED({ gpa: write.gpa });
  if (write.failsafe) {
    shadower.tables.untrack(gfn);
    return;
  }
  let refusal: unknown;
  for (const table of shadows) table.refs += 1; // one may lead to another of them, or its owner may be reclaimed
  for (const table of shadows) {
    try {
      apply(shadower, table, write);
    } catch (cause) {
      refusal ??= cause;
    }
    desync(shadower, table, write);
    shadower.put(table);
  }
  if (refusal !== undefined) throw refusal;
}

function shadowsOf(shadower: Shadower, gfn: number): ShadowTable[] {
  const shadows: ShadowTable[] = [];
  for (let table = shadower.tables.first(gfn); table !== undefined; table = table.sibling) shadows.push(table);
  return shadows;
}

function apply(shadower: Shadower, table: ShadowTable, { gpa, bytes }: TrappedWrite): void {
  const offset = Number(gpa & 0xfffn);
  const index = Math.floor(offset / ENTRY_BYTES);
  const { length } = bytes;
  if (length === ENTRY_BYTES && offset % ENTRY_BYTES === 0) {
    shadower.write(table, index, { low: dword(bytes, 0), high: dword(bytes, 4) });
    return;
  }
  const last = Math.min(511, Math.floor((offset + length - 1) / ENTRY_BYTES));
  for (let at = index; at <= last; at++) shadower.suspend(table, at);
  if (length !== 4 || offset % 4 !== 0) throw gvtErrors.TRACK_ACCESS({ gpa, length });
}

/** A table of pages that is written to again and again is let go until the next dispatch, if nothing else watches its page. */
function desync(shadower: Shadower, table: ShadowTable, { outOfSync }: TrappedWrite): void {
  table.writes += 1;
  if (outOfSync === undefined || table.level !== 1 || table.writes < outOfSync.after || table.unprotected) return;
  const { tables, stale } = shadower;
  if (tables.first(table.gfn) !== table || table.sibling !== undefined) return;
  tables.unprotect(table, outOfSync.most);
  stale.add(table);
}
