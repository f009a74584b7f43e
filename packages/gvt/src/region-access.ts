import { gvtErrors } from './errors.js';
import type { GvtRegion } from './regions.js';

/** What a region does with an access. The bounds have been checked. */
export interface RegionHandler {
  read(offset: number, bytes: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

/** The regions of a vGPU as something to read and write: one handler per index. */
export class RegionAccess {
  readonly #device: string;
  readonly #regions: readonly GvtRegion[];
  readonly #handlers: ReadonlyMap<number, RegionHandler>;

  constructor(device: string, regions: readonly GvtRegion[], handlers: ReadonlyMap<number, RegionHandler>) {
    this.#device = device;
    this.#regions = regions;
    this.#handlers = handlers;
  }

  /** @throws PinionError GVT_OUT_OF_REGION (EINVAL) and those of the region. */
  read(index: number, offset: number, bytes: Uint8Array): void {
    this.#find(index, offset, bytes.length).read(offset, bytes);
  }

  /** @throws PinionError GVT_OUT_OF_REGION (EINVAL) and those of the region. */
  write(index: number, offset: number, bytes: Uint8Array): void {
    this.#find(index, offset, bytes.length).write(offset, bytes);
  }

  #find(index: number, offset: number, length: number): RegionHandler {
    const size = this.#regions[index]?.size ?? 0;
    const handler = this.#handlers.get(index);
    const fits = Number.isInteger(offset) && offset >= 0 && offset + length <= size;
    if (handler !== undefined && fits) return handler;
    throw gvtErrors.OUT_OF_REGION({ device: this.#device, index, offset, length });
  }
}

/** A region that only shows `bytes`. A write is refused by name. */
export const readOnlyBytes = (device: string, index: number, bytes: Uint8Array): RegionHandler => ({
  read: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
  write: () => {
    throw gvtErrors.READ_ONLY_REGION({ device, index });
  },
});
