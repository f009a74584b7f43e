import type { BarSpec } from './bars.js';
import { MSIX, type MsixPlace } from './capabilities.js';
import { pciErrors } from './errors.js';

/** Checks that table and pending bits lie inside memory BARs and not on each other. @throws PCI_BAD_CAPABILITY (EINVAL). */
export function checkMsix(place: MsixPlace, bars: readonly BarSpec[]): void {
  const bad = (problem: string): unknown => pciErrors.BAD_CAPABILITY({ name: 'msix', problem });
  const table = { ...place.table, what: 'table', size: place.vectors * MSIX.ENTRY_SIZE };
  const pba = { ...place.pba, what: 'pending bit array', size: Math.ceil(place.vectors / 64) * 8 };
  for (const { bar: index, offset, size, what } of [table, pba]) {
    const bar = bars.find((candidate) => candidate.index === index);
    if (bar === undefined || bar.kind === 'io') throw bad(`the ${what} is in BAR${index}, which is no memory BAR`);
    if (offset + size > bar.size) throw bad(`the ${what} ends behind BAR${index}'s ${bar.size} bytes`);
  }
  const apart = table.offset + table.size <= pba.offset || pba.offset + pba.size <= table.offset;
  if (table.bar === pba.bar && !apart) throw bad('table and pending bit array overlap');
}
