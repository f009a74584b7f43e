/** Vendor driver for s390 crypto queues. It pins the one guest page that holds each queue's notification byte, and nothing else. */
import { defineDriver, definePlugin, type PinningDeviceContext, type Plugin } from '@pinion/core';
import type { MatrixIndices } from './assignment.js';
import { ApDevice } from './device.js';
import { ApMachine, type ApMachineOptions } from './machine.js';
import { quirkSet } from './quirks.js';

export interface ApDriverOptions extends ApMachineOptions {
  /** What every new device has assigned at once; default nothing, as in Linux. */
  readonly matrix?: MatrixIndices;
  /** Names of `AP_QUIRKS` to switch on; default none. */
  readonly quirks?: Iterable<string>;
}

/** Source: available_instances of vfio_ap's matrix device. */
const MAX_INSTANCES = 65_536;

/**
 * The driver of one machine's crypto hardware. Its devices share the machine: a queue belongs to at most one of them.
 * `create` fails with what `ApDevice.configure` throws when the initial matrix cannot be had.
 * @throws AP_BAD_OPTION, AP_UNKNOWN_QUIRK (EINVAL).
 */
export function createApDriver(options: ApDriverOptions) {
  const machine = new ApMachine(options);
  const quirks = quirkSet(options.quirks ?? []);
  return defineDriver({
    name: 'ap',
    deviceApi: 'vfio-ap',
    types: [{ id: 'passthrough', prettyName: 'VFIO AP Passthrough Device' }],
    maxInstances: MAX_INSTANCES,
    pins: true,
    create(context: PinningDeviceContext): ApDevice {
      const device = new ApDevice(context, machine, quirks);
      try {
        device.configure(options.matrix ?? {});
      } catch (cause) {
        machine.detach(device);
        throw cause;
      }
      return device;
    },
    /** The host that its devices share. */
    machine,
  });
}

/** The driver as a plugin. @throws as `createApDriver`. */
export function ap(options: ApDriverOptions): Plugin {
  const driver = createApDriver(options);
  return definePlugin({ name: 'ap', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
}
