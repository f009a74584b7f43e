import { defineDriver, definePlugin, type PinningDriver, type Plugin } from '@pinion/core';
import type { ControlUnit } from './control-unit.js';
import { CcwDevice } from './device.js';
import { ccwErrors } from './errors.js';
import { quirkSet } from './quirks.js';

/**
 * `units`: the control unit behind each parent (subchannel), by the parent's name; they belong to the caller, and
 * each serves one subchannel. `quirks`: names of `CCW_QUIRKS`, none by default. `reportLost`: a program that an
 * unmapping ended is told to the guest by an interrupt with the clear function; Linux tells nothing, and the guest
 * finds out by its own timeout.
 */
export interface CcwDriverOptions {
  readonly units: Readonly<Record<string, ControlUnit>>;
  readonly quirks?: Iterable<string>;
  readonly reportLost?: boolean;
}

/** A driver whose devices are known to be `CcwDevice`s. */
export interface CcwDriver extends PinningDriver {
  create: (context: Parameters<PinningDriver['create']>[0]) => CcwDevice;
}

/**
 * The driver of s390 channel I/O. `create` @throws PinionError CCW_NO_UNIT (ENODEV) for a parent without a control
 * unit.
 * @throws PinionError CCW_UNKNOWN_QUIRK (EINVAL). Source: vfio_ccw_drv.c, vfio_ccw_ops.c.
 */
export function createCcwDriver(options: CcwDriverOptions): CcwDriver {
  const units = new Map(Object.entries(options.units));
  const quirks = quirkSet(options.quirks ?? []);
  const reportLost = options.reportLost ?? false;
  return defineDriver({
    name: 'ccw',
    deviceApi: 'vfio-ccw',
    pins: true,
    maxInstances: 1,
    types: [{ id: 'io', prettyName: 'I/O subchannel (Non-QDIO)' }],
    create(context) {
      const unit = units.get(context.parent);
      if (unit === undefined) throw ccwErrors.NO_UNIT({ parent: context.parent, known: [...units.keys()].join(', ') });
      return new CcwDevice(context, { unit, quirks, reportLost });
    },
  } satisfies CcwDriver);
}

/** The driver as a plugin. @throws as `createCcwDriver`. */
export function ccw(options: CcwDriverOptions): Plugin {
  const driver = createCcwDriver(options);
  return definePlugin({ name: 'ccw', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
}
