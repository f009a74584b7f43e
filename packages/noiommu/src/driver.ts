import {
  type BackendHost,
  type BackendStats,
  definePlugin,
  EXTENSION,
  type IommuBackend,
  type IommuBackendDriver,
  type Plugin,
  type Task,
} from '@pinion/core';
import { noIommuErrors } from './errors.js';

const NOTHING: BackendStats = { mappings: 0, mappedBytes: 0n, pinnedPages: 0, lockedPages: 0 };

/** Takes every group and can do nothing: the device sees physical memory as it is. Source: vfio_noiommu_ops. */
function openNoIommu({ container }: BackendHost): IommuBackend {
  const refuse = (operation: string) => (): never => {
    throw noIommuErrors.NOT_SUPPORTED({ operation, container });
  };
  return {
    attachGroup() {},
    detachGroup() {},
    release() {},
    map: refuse('map'),
    unmap: async () => refuse('unmap')(),
    info: refuse('info'),
    stats: NOTHING,
  };
}

/**
 * The backend for groups without an IOMMU, and for no others. **Unsafe**: the device can read and write all memory of the
 * host, and nothing here can prevent it. Whoever composes must register it, the group must be declared without an IOMMU, the
 * caller needs CAP_SYS_RAWIO (EPERM), and the type must be asked for by its own number.
 */
export function createNoIommuDriver(): IommuBackendDriver {
  return Object.freeze({
    name: 'noiommu',
    noiommu: true,
    checkExtension: (extension: number): number => (extension === EXTENSION.NOIOMMU_IOMMU ? 1 : 0),
    open(type: number, host: BackendHost, caller: Task): IommuBackend {
      if (type !== EXTENSION.NOIOMMU_IOMMU) throw noIommuErrors.BAD_TYPE({ type });
      if (!caller.rawIo) throw noIommuErrors.RAWIO({ task: caller.name });
      return openNoIommu(host);
    },
  });
}

/** No-IOMMU as a plugin. */
export const noIommu = (): Plugin =>
  definePlugin({ name: 'noiommu', core: '^0.1', register: (scope) => scope.backend(createNoIommuDriver()) });
