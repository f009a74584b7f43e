import type { Fd } from '@pinion/sys';
import type { Owner } from './dma-entry.js';
import { DmaSpace } from './dma-space.js';
import type { DmaMap } from './structs.js';

/** A DMA_MAP that is about to be done. */
export interface Arrival {
  readonly owner: Owner;
  readonly request: DmaMap;
  readonly fd: Fd | undefined;
  /** The client has changed the device already: it cannot be opened anew without a loss. */
  readonly touched: boolean;
}

/** Where a served device is at home: with the mappings of the VM that it belongs to. */
export interface DeviceHome {
  /** The present one; may be another one after `recognise`. */
  readonly dma: DmaSpace;
  /** Before a mapping is made: its memory may say which VM this is. @returns what to wait for; undefined if there is nothing to do. Never rejects. */
  recognise?(arrival: Arrival): Promise<void> | undefined;
}

/** A home that is what it was configured to be. */
export const homeOf = (space: DmaSpace | DeviceHome): DeviceHome =>
  space instanceof DmaSpace ? { dma: space } : space;
