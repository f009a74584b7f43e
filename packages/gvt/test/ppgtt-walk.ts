import { asGfn } from '@pinion/core';
import type { PpgttRoot } from '@pinion/gvt';
import type { FakeTables } from './fake-tables.js';

/** What hardware that reads the guest's own tables would find: a guest frame, nothing, or a page of 1 GiB. */
export type Found = number | 'nothing' | 'huge';

const word = (guest: FakeTables, table: number, index: number): bigint => {
  const page = guest.pins.page(table);
  return new DataView(page.buffer, page.byteOffset).getBigUint64(index * 8, true);
};
const bit = (entry: bigint, number: number): boolean => ((entry >> BigInt(number)) & 1n) === 1n;
const frame = (entry: bigint, low: number): number =>
  Number(((entry & ((1n << 46n) - 1n)) >> BigInt(low)) << BigInt(low - 12));

/** Walks the guest's tables by the book, without any of the code that is tested. */
export function naiveWalk(guest: FakeTables, root: PpgttRoot, address: number): Found {
  const page = BigInt(address) >> 12n;
  const top = root.levels === 4 ? 0 : Number(page >> 18n);
  const pdp = root.pdps[top] ?? 0;
  if (pdp === 0) return 'nothing';
  let table = Math.floor(pdp / 4096);
  let ips = false;
  for (let level = root.levels === 4 ? 4 : 2; level > 0; level--) {
    if (!guest.pins.has(table)) return 'nothing';
    let index = Number((page >> BigInt(9 * (level - 1))) & 511n);
    if (level === 1 && ips) index -= index % 16;
    const entry = word(guest, table, index);
    if (!bit(entry, 0)) return 'nothing';
    if (level === 1) return visible(guest, ips ? frame(entry, 16) + Number(page & 15n) : frame(entry, 12));
    if (level === 3 && bit(entry, 7)) return 'huge';
    if (level === 2 && bit(entry, 7)) return visible(guest, frame(entry, 21) + Number(page & 511n));
    if (level === 2) ips = bit(entry, 11) && guest.ips;
    table = frame(entry, 12);
  }
  return 'nothing';
}

const visible = (guest: FakeTables, gfn: number): Found => (guest.pins.has(gfn) ? asGfn(gfn) : 'nothing');

/** Whether anything below the root is a page of 1 GiB. */
export function hasHuge(guest: FakeTables, root: PpgttRoot): boolean {
  const seen = new Set<string>();
  const look = (table: number, level: number): boolean => {
    const key = `${table}/${level}`;
    if (level === 2 || seen.has(key) || !guest.pins.has(table)) return false;
    seen.add(key);
    for (let index = 0; index < 512; index++) {
      const entry = word(guest, table, index);
      if (!bit(entry, 0)) continue;
      if (level === 3 && bit(entry, 7)) return true;
      if (look(frame(entry, 12), level - 1)) return true;
    }
    return false;
  };
  return root.levels === 4 && look(Math.floor((root.pdps[0] ?? 0) / 4096), 4);
}
