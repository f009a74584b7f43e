import { EXTENSION, type Hypervisor } from '@pinion/core';
import type { Registry } from './description.js';
import type { DeviceKind } from './device-kind.js';
import { apKind } from './kinds/ap.js';
import { ccwKind } from './kinds/ccw.js';
import { gvtKind } from './kinds/gvt.js';
import { passthroughKind } from './kinds/passthrough.js';

const POWER_ONLY =
  'takes no mediated devices, and passthrough only on a POWER machine, which this host is not; use type1v2 (what would differ: npm run five-mixes -- --backend spapr-tce)';

/** Guests are programs of this process; they can have every kind of device. */
export const embedded: Hypervisor = Object.freeze({
  name: 'embedded',
  deviceApis: Object.freeze(['vfio-pci', 'vfio-ccw', 'vfio-ap']),
});

/** What descriptions can name: our own kinds, types and hypervisor, and whatever is added. Later entries replace earlier ones of the same name. */
export function createRegistry(
  more: { kinds?: readonly DeviceKind[]; hypervisors?: readonly Hypervisor[] } = {},
): Registry {
  const kinds: readonly DeviceKind[] = [passthroughKind, gvtKind, ccwKind, apKind, ...(more.kinds ?? [])];
  const hypervisors = [embedded, ...(more.hypervisors ?? [])];
  return {
    kinds: new Map(kinds.map((kind) => [kind.driver, kind])),
    iommuTypes: new Map([
      ['type1', EXTENSION.TYPE1_IOMMU],
      ['type1v2', EXTENSION.TYPE1v2_IOMMU],
    ]),
    unservedIommuTypes: new Map([
      ['spapr-tce', `sPAPR TCE ${POWER_ONLY}`],
      ['spapr-tce-v2', `sPAPR TCE ${POWER_ONLY}`],
      ['noiommu', 'without an IOMMU nothing can be mapped; use type1v2'],
    ]),
    hypervisors: new Map(hypervisors.map((hypervisor) => [hypervisor.name, hypervisor])),
  };
}
