import type { DeviceConfig, PassthroughKind } from '../device-kind.js';
import { PassthroughDisk } from '../passthrough-disk.js';
import { PciFunction } from '../pci-function.js';
import { diskImage } from './disk-image.js';

interface DiskConfig extends DeviceConfig {
  readonly image: string;
}

/** Functions passed through whole. There is one type, a disk with an `image`. */
export const passthroughKind: PassthroughKind<DiskConfig> = {
  driver: 'passthrough',
  deviceApi: 'vfio-pci',
  mediated: false,
  types: ['disk'],
  deviceKeys: { required: { image: diskImage }, optional: {} },
  uniqueKeys: ['image'],
  createFunction: ({ image }, pci, log) => PassthroughDisk.onFile(pci, image, log),
  connect: ({ name }, device, machine) => machine.plugFunction(name, new PciFunction(name, device)),
};
