import type { Mapping } from './mapping.js';
import { unmapPages } from './page-runs.js';
import type { Type1State } from './state.js';

/** Removes a mapping and tells observers. @returns its pages; 0 if it is gone already. */
export function removeMapping(state: Type1State, mapping: Mapping): number {
  if (mapping.gone) return 0;
  takeOut(state, mapping);
  state.host.unmapped(mapping);
  return mapping.pages;
}

/**
 * Removes a mapping: out of the domains, pages back, charge settled. Pins that are left are warned about; their pages and
 * (as long as the mm lives) their charge stay. Nobody is told. Source: vfio_remove_dma().
 */
export function takeOut(state: Type1State, mapping: Mapping): void {
  mapping.gone = true;
  if (mapping.pinnedPages > 0) {
    state.host.warn(
      'pins-left',
      `a mapping goes with ${mapping.pinnedPages} pinned page(s); they stay pinned and charged`,
    );
    state.pinnedPages -= mapping.pinnedPages;
  }
  const domains = state.domains.map((slot) => slot.domain);
  if (mapping.iommuMapped && domains.length > 0) {
    state.locked.settle(mapping, -unmapPages(state, mapping, mapping.pages, domains));
    mapping.iommuMapped = false;
  }
  if (mapping.vaddrInvalid) state.invalidVaddrs -= 1;
  state.mappings.remove(mapping);
  state.locked.forget(mapping, mapping.lockedPages);
  mapping.mm.drop();
}

/** Nobody is left to use them. No callbacks: devices closed before. Source: vfio_iommu_unmap_unpin_all(). */
export function removeAllMappings(state: Type1State): void {
  for (const mapping of state.mappings.all()) removeMapping(state, mapping);
}
