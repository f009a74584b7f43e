import type { Accounting } from '@pinion/vm';

/** What a VM holds, for JSON. */
export const accountOf = ({ mappings, mappedBytes, iommuPages, pinnedPages, lockedPages, heldPages }: Accounting) => ({
  mappings,
  mappedBytes,
  iommuPages: Object.fromEntries(iommuPages),
  pinnedPages: Object.fromEntries(pinnedPages),
  lockedPages,
  heldPages,
});

const MIB = 1n << 20n;

/** The same for people, on one line. */
export function accountText({ mappings, mappedBytes, iommuPages, pinnedPages, lockedPages }: Accounting): string {
  const owners = [
    ...[...iommuPages].map(([name, pages]) => `${name} ${pages} by its IOMMU`),
    ...[...pinnedPages].map(([name, pages]) => `${name} ${pages}`),
  ];
  const pinned = owners.length === 0 ? 'nothing pinned' : `pages pinned: ${owners.join(', ')}`;
  return `${mappings} mappings of ${mappedBytes / MIB} MiB, ${pinned}, ${lockedPages} locked`;
}

export const isEmpty = ({ mappings, pinnedPages, lockedPages, heldPages }: Accounting): boolean =>
  mappings + pinnedPages.size + lockedPages + heldPages === 0;
