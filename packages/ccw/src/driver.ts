import { defineDriver, definePlugin, type PinningDriver, type Plugin } from '@pinion/core';
import type { ControlUnit } from './control-unit.js';
import { CcwDevice } from './device.js';
import { EngineSubchannel } from './engine-subchannel.js';
import { ccwErrors } from './errors.js';
import { quirkSet } from './quirks.js';
import type { Subchannel } from './subchannel.js';

/**
 * `units`: the control unit behind each parent (subchannel), by the parent's name; they belong to the caller, and
 * each serves one subchannel. `paths`: how many channel paths lead to a parent's unit, 1 (the default) to 8. `subchannels`:
 * instead of units, for hosts with a channel subsystem of their own. `quirks`: names of `CCW_QUIRKS`, none by default.
 * `reportLost`: a program that an unmapping ended is told to the guest by an interrupt with the clear function; Linux
 * tells nothing, and the guest finds out by its own timeout. `lost`: called with a device's name when its subchannel is
 * gone; its owner should remove it.
 */
export interface CcwDriverOptions {
  readonly units: Readonly<Record<string, ControlUnit>>;
  readonly paths?: Readonly<Record<string, number>>;
  readonly subchannels?: Readonly<Record<string, Subchannel>>;
  readonly quirks?: Iterable<string>;
  readonly reportLost?: boolean;
  readonly lost?: (device: string) => void;
}

/** A driver whose devices are known to be `CcwDevice`s. */
export interface CcwDriver extends PinningDriver {
  create: (context: Parameters<PinningDriver['create']>[0]) => CcwDevice;
}

/**
 * The driver of s390 channel I/O. `create` @throws PinionError CCW_NO_UNIT (ENODEV) for a parent without a control
 * unit, CCW_BAD_PATHS (EINVAL).
 * @throws PinionError CCW_UNKNOWN_QUIRK (EINVAL). Source: vfio_ccw_drv.c, vfio_ccw_ops.c.
 */
export function createCcwDriver(options: CcwDriverOptions): CcwDriver {
  const units = new Map(Object.entries(options.units));
  const subchannels = new Map(Object.entries(options.subchannels ?? {}));
  const quirks = quirkSet(options.quirks ?? []);
  const reportLost = options.reportLost ?? false;
  return defineDriver({
    name: 'ccw',
    deviceApi: 'vfio-ccw',
    pins: true,
    maxInstances: 1,
    types: [{ id: 'io', prettyName: 'I/O subchannel (Non-QDIO)' }],
    create(context) {
      const { parent, log } = context;
      const unit = units.get(parent);
      const paths = options.paths?.[parent] ?? 1;
      const subchannel =
        subchannels.get(parent) ?? (unit === undefined ? undefined : new EngineSubchannel(unit, { log, paths }));
      if (subchannel === undefined) {
        const known = [...units.keys(), ...subchannels.keys()].join(', ');
        throw ccwErrors.NO_UNIT({ parent, known });
      }
      const lost = (): void => options.lost?.(context.name);
      return new CcwDevice(context, { subchannel, quirks, reportLost, lost });
    },
  } satisfies CcwDriver);
}

/** The driver as a plugin. @throws as `createCcwDriver`. */
export function ccw(options: CcwDriverOptions): Plugin {
  const driver = createCcwDriver(options);
  return definePlugin({ name: 'ccw', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
}
