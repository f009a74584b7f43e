import {
  type BackendHost,
  definePlugin,
  EXTENSION,
  type IommuBackend,
  type IommuBackendDriver,
  PAGE_SHIFT,
  type Plugin,
} from '@pinion/core';
import { SpaprTceBackend } from './backend.js';
import { tceErrors } from './errors.js';
import type { FindTableGroup } from './hardware.js';
import { type Profile, type Quirk, quirksOf } from './quirks.js';
import { type BackingShift, RegionStore } from './regions.js';
import { TceState } from './state.js';

export interface SpaprTceOptions {
  /** Finds the hardware behind a group: a platform's `tableGroup`. */
  readonly hardware: FindTableGroup;
  /** Whose answers to give; `fixed` (default): Linux 6.12's without its mistakes. */
  readonly profile?: Profile;
  /** More quirks, one by one. */
  readonly quirks?: Iterable<Quirk>;
  /** How large the pages behind memory are; default: 4 KiB everywhere. */
  readonly backing?: BackingShift;
}

/** The sPAPR TCE backend driver: VFIO_SPAPR_TCE_IOMMU and VFIO_SPAPR_TCE_v2_IOMMU. All its containers share registered memory. */
export function createSpaprTceDriver(options: SpaprTceOptions): IommuBackendDriver {
  const quirks = new Set([...quirksOf(options.profile ?? 'fixed'), ...(options.quirks ?? [])]);
  const regions = new RegionStore(options.backing ?? (() => PAGE_SHIFT));
  const takes = (type: number): boolean => type === EXTENSION.SPAPR_TCE_IOMMU || type === EXTENSION.SPAPR_TCE_v2_IOMMU;
  return Object.freeze({
    name: 'spapr-tce',
    checkExtension: (extension: number): number => (takes(extension) ? 1 : 0),
    open(type: number, host: BackendHost): IommuBackend {
      if (!takes(type)) throw tceErrors.BAD_TYPE({ type });
      const v2 = type === EXTENSION.SPAPR_TCE_v2_IOMMU;
      return new SpaprTceBackend(new TceState({ host, v2, quirks, regions, findTables: options.hardware }));
    },
  });
}

/** sPAPR TCE as a plugin. */
export const spaprTce = (options: SpaprTceOptions): Plugin =>
  definePlugin({
    name: 'spapr-tce',
    core: '^0.1',
    register: (scope) => scope.backend(createSpaprTceDriver(options)),
  });
