/** Devices by name, for whoever lets a person choose one: the examples, and the vGPU. */
import type { Plugin } from '@pinion/core';
import { edu } from '@pinion/example-edu';
import { gpioIdio16 } from '@pinion/example-gpio-idio-16';
import { nvme } from '@pinion/example-nvme';
import { gvt } from '@pinion/gvt';

export { deviceKinds, type KindOptions } from './kinds.js';

/** What a person can say about a device; each device takes what it knows. */
export interface DeviceOptions {
  /** nvme: a file with the disk's blocks. */
  readonly image?: string;
  /** nvme: bytes of a disk in memory. */
  readonly size?: number;
  /** nvme: writes are refused. */
  readonly readOnly?: boolean;
  /** nvme: how it interrupts. */
  readonly interrupts?: Interrupts;
}

/** What a disk can have: MSI-X, MSI, or the pin alone. */
export const INTERRUPTS = ['msix', 'msi', 'intx'] as const;
export type Interrupts = (typeof INTERRUPTS)[number];

/** A device that can be chosen: its plugin, and the vendor driver and (default) type that the plugin registers. */
export interface DeviceKind {
  readonly driver: string;
  readonly type: string;
  readonly description: string;
  /** The options that it knows; others would be passed over. */
  readonly takes: readonly (keyof DeviceOptions)[];
  plugin(options: DeviceOptions): Plugin;
}

const nvmeOptions = ({ image, size, readOnly, interrupts }: DeviceOptions): Parameters<typeof nvme>[0] => ({
  ...(image === undefined ? {} : { image }),
  ...(size === undefined ? {} : { size }),
  ...(readOnly === undefined ? {} : { readOnly }),
  ...(interrupts === undefined ? {} : { interrupts }),
});

export const devices: ReadonlyMap<string, DeviceKind> = new Map<string, DeviceKind>([
  [
    'edu',
    {
      driver: 'edu',
      type: 'card',
      description: 'teaching device: factorials, DMA, interrupts',
      takes: [],
      plugin: () => edu(),
    },
  ],
  [
    'gpio-idio-16',
    {
      driver: 'gpio-idio-16',
      type: 'board',
      description: 'digital I/O board, outputs wired to inputs',
      takes: [],
      plugin: () => gpioIdio16(),
    },
  ],
  [
    'nvme',
    {
      driver: 'nvme',
      type: 'disk',
      description: 'NVMe disk with one namespace',
      takes: ['image', 'size', 'readOnly', 'interrupts'],
      plugin: (options) => nvme(nvmeOptions(options)),
    },
  ],
  [
    'gvt',
    {
      driver: 'gvt',
      type: 'V5_4',
      description: 'vGPU of an Intel GVT-g style GPU: display, blitter, contexts; types V5_8, V5_4, V5_2',
      takes: [],
      plugin: () => gvt(),
    },
  ],
]);
