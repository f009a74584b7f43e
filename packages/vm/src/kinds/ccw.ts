import { type ControlUnit, createCcwDriver, FbaDisk, openFileImage } from '@pinion/ccw';
import type { DeviceConfig, HostResources, MediatedKind, ParentConfig } from '../device-kind.js';
import { flag, integer } from '../schema.js';
import { diskImage } from './disk-image.js';

interface CcwParent extends ParentConfig {
  readonly image: string;
  readonly readOnly?: boolean;
}

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
  parentKeys: { required: { image: diskImage }, optional: { readOnly: flag } },
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

async function openDisk({ image, readOnly = false }: CcwParent, { log, defer }: HostResources): Promise<ControlUnit> {
  const opened = await openFileImage(image, { readOnly });
  defer(() => opened.close());
  return new FbaDisk(opened, { log });
}
