import { defineDriver, definePlugin, type Plugin, type VendorDriver } from '@pinion/core';
import { createDisk, type NvmeOptions } from './device.js';
import { FileStore } from './file-store.js';
import { MemoryStore, type NamespaceStore } from './store.js';

export type { NvmeOptions } from './device.js';
export { errors as nvmeErrors } from './errors.js';
export { FileStore } from './file-store.js';
export * from './registers.js';
export { MemoryStore, type NamespaceStore } from './store.js';

/** Where the blocks are. Exactly one of `image`, `size` and `store`. */
export interface NvmePluginOptions extends NvmeOptions {
  /** A file; its size is the disk's. */
  readonly image?: string;
  /** Bytes of memory. Default 64 MiB. */
  readonly size?: number;
  readonly readOnly?: boolean;
  /** Makes the store of the device with this name. */
  readonly store?: (name: string) => NamespaceStore;
}

const DEFAULT_SIZE = 64 << 20;

function openStore(name: string, options: NvmePluginOptions): NamespaceStore {
  if (options.store !== undefined) return options.store(name);
  const about = { readOnly: options.readOnly ?? false };
  if (options.image !== undefined) return new FileStore(options.image, about);
  return new MemoryStore(options.size ?? DEFAULT_SIZE, about);
}

/** The disk: vendor driver `nvme`, type `disk`. An image belongs to one device at a time. */
export function nvmeDriver(options: NvmePluginOptions = {}): VendorDriver {
  return defineDriver({
    name: 'nvme',
    deviceApi: 'vfio-pci',
    types: [{ id: 'disk', prettyName: 'NVMe disk with one namespace' }],
    ...(options.image === undefined ? {} : { maxInstances: 1 }),
    pins: true,
    async create(context) {
      const store = openStore(context.name, options);
      try {
        return createDisk(context, store, options);
      } catch (cause) {
        await store.close();
        throw cause;
      }
    },
  });
}

/** The plugin with that driver. */
export const nvme = (options: NvmePluginOptions = {}): Plugin =>
  definePlugin({ name: 'nvme', core: '^0.1', register: (scope) => scope.vendorDriver(nvmeDriver(options)) });
