import type { Clock } from '@pinion/core';
import type { Fd } from '@pinion/sys';
import { PCI_REGION } from './commands.js';
import type { DeviceHome } from './device-home.js';
import type { Owner } from './dma-entry.js';
import type { GuestDma } from './guest-dma.js';
import type { IrqTable } from './irq-table.js';
import type { Message } from './message.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

/** What goes back: the payload of the reply, and descriptors that stay with whoever has them. */
export interface Reply {
  readonly payload: Uint8Array;
  /** What follows the payload. */
  readonly data?: Uint8Array;
  readonly fds?: readonly Fd[];
  /** The descriptors were made for the client and are closed here once they are sent. */
  readonly given?: boolean;
}

/** What the handlers of one connection work on. */
export interface Served {
  readonly device: ServedDevice;
  readonly regions: Regions;
  readonly home: DeviceHome;
  /** The client has changed the device. */
  readonly touched: boolean;
  readonly owner: Owner;
  readonly clock: Clock;
  readonly irqs: IrqTable;
  readonly dma: GuestDma;
  /** Most bytes of data that this server accepts in one message. */
  readonly maxBytes: number;
  /** Most descriptors that it accepts with one message. */
  readonly maxFds: number;
}

/** The regions of a device by index; `count` of them, also those that it does not name. */
export interface Regions {
  readonly count: number;
  readonly at: readonly (ServedRegion | undefined)[];
}

export function indexed({ pci, regions }: Pick<ServedDevice, 'pci' | 'regions'>): Regions {
  const at: (ServedRegion | undefined)[] = [];
  for (const region of regions) at[region.index] ??= region;
  return { count: Math.max(pci ? PCI_REGION.COUNT : 0, at.length), at };
}

export type Handler = (served: Served, message: Message) => Reply | Promise<Reply>;
