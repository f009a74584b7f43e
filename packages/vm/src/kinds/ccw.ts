import { type ControlUnit, createCcwDriver } from '@pinion/ccw';
import type { DeviceConfig, MediatedKind } from '../device-kind.js';
import { file, flag, integer, oneOf, outputFile } from '../schema.js';
import { type CcwUnitConfig, openUnit, UNIT_KEYS } from './ccw-units.js';
import { diskImage } from './disk-image.js';

/** A fixed-block disk on a raw image (the default), or a 3390 on an image of Hercules or a sparse one. */
const DISKS = ['fba', 'hercules', 'sparse'] as const;

interface CcwConfig extends DeviceConfig {
  readonly subchannel: number;
  readonly devno: number;
}

/**
 * Channel devices: a parent is a subchannel of the host with a unit behind it - a disk on an `image`, a `console`, a reader and punch
 * for `cards`; a device names the guest's subchannel and device number.
 */
export const ccwKind: MediatedKind<CcwUnitConfig, CcwConfig> = {
  driver: 'ccw',
  deviceApi: 'vfio-ccw',
  mediated: true,
  types: ['io'],
  parentKeys: {
    required: {},
    optional: {
      image: diskImage,
      disk: oneOf('kind of DASD', DISKS),
      readOnly: flag,
      console: outputFile,
      typed: file,
      cards: file,
      punch: outputFile,
    },
  },
  deviceKeys: { required: { subchannel: integer(0, 0xffff), devno: integer(0, 0xffff) }, optional: {} },
  uniqueKeys: ['subchannel', 'devno', 'parent'],
  checkParent(parent, report) {
    const units = UNIT_KEYS.filter(({ keys }) => keys.some((key) => key in parent));
    const [unit, other] = units;
    if (unit === undefined) {
      report('name', `has no unit: needs ${UNIT_KEYS.map(({ main }) => main.join(' or ')).join(', ')}`);
    } else if (other !== undefined) {
      report(other.keys.find((key) => key in parent) ?? 'name', `does not belong to a ${unit.name}`);
    } else if (!unit.main.some((key) => key in parent)) {
      report(unit.keys.find((key) => key in parent) ?? 'name', `a ${unit.name} needs ${unit.main.join(' or ')}`);
    }
  },
  async createDriver(parents, resources) {
    const units: Record<string, ControlUnit> = {};
    for (const parent of parents) units[parent.name] = await openUnit(parent, resources);
    return createCcwDriver({ units, reportLost: true });
  },
  connect: ({ subchannel, devno }, device, machine) =>
    machine.channels.connect({ number: subchannel, device: devno }, device),
};
