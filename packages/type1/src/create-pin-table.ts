/** Chooses a pin table by name. */
import { MAX_TABLE_PAGES, type PinTable, pinTableErrors, SEGMENT_PAGES } from './pin-table.js';
import { AdaptivePinTable } from './pin-table-adaptive.js';
import { FlatPinTable } from './pin-table-flat.js';
import { RadixPinTable } from './pin-table-radix.js';
import { SegmentedPinTable } from './pin-table-segmented.js';
import { TreePinTable } from './pin-table-tree.js';

export { AdaptivePinTable, FlatPinTable, RadixPinTable, SegmentedPinTable, TreePinTable };

/** `tree`: ordered; `radix`: page table rooted in the mapping; `flat`: array per region; `adaptive`: what pays at each density. */
export const PIN_TABLE_KINDS = ['tree', 'radix', 'flat', 'adaptive'] as const;
/** The name of one of the interchangeable tables. */
export type PinTableKind = (typeof PIN_TABLE_KINDS)[number];

/** The kind that the benchmark shows best over all densities: `npm run bench pin-table`. */
export const DEFAULT_PIN_TABLE: PinTableKind = 'adaptive';

const adaptive = (npages: number): PinTable => new AdaptivePinTable(npages);
const radix = (npages: number): PinTable => new RadixPinTable(npages);

/**
 * An empty table for a mapping of `npages` pages; nothing proportional to `npages` is allocated, but by `flat` at the first pin.
 * @throws PinionError TYPE1_PIN_TABLE_SIZE (EINVAL): not a whole number of 1..2^52; TYPE1_PIN_TABLE_FLAT_SIZE (E2BIG):
 * `flat` above 2^28; TYPE1_PIN_TABLE_KIND (EINVAL).
 */
export function createPinTable(kind: PinTableKind, npages: number): PinTable {
  if (!(Number.isInteger(npages) && npages >= 1 && npages <= MAX_TABLE_PAGES)) {
    throw pinTableErrors.PIN_TABLE_SIZE({ npages });
  }
  switch (kind) {
    case 'tree':
      return new TreePinTable(npages);
    case 'flat':
      return new FlatPinTable(npages);
    case 'radix':
      return npages > SEGMENT_PAGES ? new SegmentedPinTable(npages, radix) : radix(npages);
    case 'adaptive':
      return npages > SEGMENT_PAGES ? new SegmentedPinTable(npages, adaptive) : adaptive(npages);
    default:
      throw pinTableErrors.PIN_TABLE_KIND({ kind });
  }
}
