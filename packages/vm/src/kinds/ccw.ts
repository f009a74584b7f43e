import {
  type ControlUnit,
  createCcwDriver,
  EckdDisk,
  FbaDisk,
  openFileImage,
  openHerculesVolume,
  openSparseVolume,
} from '@pinion/ccw';
import type { DeviceConfig, HostResources, MediatedKind, ParentConfig } from '../device-kind.js';
import { flag, integer, oneOf } from '../schema.js';
import { diskImage } from './disk-image.js';

interface CcwParent extends ParentConfig {
  readonly image: string;
  readonly disk?: (typeof DISKS)[number];
  readonly readOnly?: boolean;
}

/** A fixed-block disk on a raw image (the default), or a 3390 on an image of Hercules or a sparse one. */
const DISKS = ['fba', 'hercules', 'sparse'] as const;

interface CcwConfig extends DeviceConfig {
  readonly subchannel: number;
  readonly devno: number;
}

/** DASDs: a parent is a subchannel of the host with a disk `image` behind it, a device names the guest's subchannel and device number. */
export const ccwKind: MediatedKind<CcwParent, CcwConfig> = {
  driver: 'ccw',
  deviceApi: 'vfio-ccw',
  mediated: true,
  types: ['io'],
  parentKeys: { required: { image: diskImage }, optional: { disk: oneOf('kind of DASD', DISKS), readOnly: flag } },
  deviceKeys: { required: { subchannel: integer(0, 0xffff), devno: integer(0, 0xffff) }, optional: {} },
  uniqueKeys: ['subchannel', 'devno', 'parent'],
  async createDriver(parents, resources) {
    const units: Record<string, ControlUnit> = {};
    for (const parent of parents) units[parent.name] = await openDisk(parent, resources);
    return createCcwDriver({ units, reportLost: true });
  },
  connect: ({ subchannel, devno }, device, machine) =>
    machine.channels.connect({ number: subchannel, device: devno }, device),
};

async function openDisk(
  { image, disk = 'fba', readOnly = false }: CcwParent,
  { log, defer }: HostResources,
): Promise<ControlUnit> {
  const opened = await openFileImage(image, { readOnly });
  defer(() => opened.close());
  if (disk === 'fba') return new FbaDisk(opened, { log });
  const volume = disk === 'hercules' ? await openHerculesVolume(opened) : openSparseVolume(opened);
  return new EckdDisk(volume, { log });
}
