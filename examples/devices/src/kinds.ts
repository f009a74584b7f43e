import type { VendorDriver } from '@pinion/core';
import { type EduOptions, eduDriver } from '@pinion/example-edu';
import { type GpioOptions, gpioDriver } from '@pinion/example-gpio-idio-16';
import { type NvmePluginOptions, nvmeDriver } from '@pinion/example-nvme';
import {
  byteCount,
  type DeviceConfig,
  type DeviceKind,
  file,
  type MediatedKind,
  oneOf,
  type ParentConfig,
  PciFunction,
  type Shape,
} from '@pinion/vm';

/** How the devices are made; a description has the last word on what it can name. */
export interface KindOptions {
  readonly edu?: EduOptions;
  readonly gpio?: GpioOptions;
  readonly nvme?: NvmePluginOptions;
}

/** A disk's parent may say where its blocks are: a file, or memory of some size. */
interface NvmeParent extends ParentConfig {
  readonly image?: string;
  readonly size?: bigint;
  readonly interrupts?: NonNullable<NvmePluginOptions['interrupts']>;
}

interface KindParts<P extends ParentConfig> {
  readonly driver: string;
  readonly type: string;
  readonly parentKeys?: Readonly<Record<string, Shape<unknown>>>;
  createDriver(parent: P | undefined): VendorDriver;
}

const pciKind = <P extends ParentConfig>({ driver, type, parentKeys = {}, createDriver }: KindParts<P>): DeviceKind => {
  const kind: MediatedKind<P, DeviceConfig> = {
    driver,
    deviceApi: 'vfio-pci',
    mediated: true,
    pins: driver !== 'gpio-idio-16',
    types: [type],
    maxParents: 1,
    parentKeys: { required: {}, optional: parentKeys },
    deviceKeys: { required: {}, optional: {} },
    createDriver: ([parent]) => createDriver(parent),
    connect: ({ name }, device, machine) => machine.plugFunction(name, new PciFunction(name, device)),
  };
  return kind;
};

const blocksOf = ({ image, size, interrupts }: NvmeParent): NvmePluginOptions => ({
  ...(image === undefined ? {} : { image }),
  ...(size === undefined ? {} : { size: Number(size) }),
  ...(interrupts === undefined ? {} : { interrupts }),
});

/** The example devices as kinds that a VM description can name, for `createRegistry({ kinds: deviceKinds() })`. */
export const deviceKinds = (options: KindOptions = {}): readonly DeviceKind[] => [
  pciKind({ driver: 'edu', type: 'card', createDriver: () => eduDriver(options.edu) }),
  pciKind({ driver: 'gpio-idio-16', type: 'board', createDriver: () => gpioDriver(options.gpio) }),
  pciKind<NvmeParent>({
    driver: 'nvme',
    type: 'disk',
    parentKeys: {
      image: file,
      size: byteCount,
      interrupts: oneOf('kind of interrupt', ['msix', 'msi', 'intx'] as const),
    },
    createDriver: (parent) => nvmeDriver({ ...options.nvme, ...(parent === undefined ? {} : blocksOf(parent)) }),
  }),
];
