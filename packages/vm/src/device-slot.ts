import type { Device } from '@pinion/core';
import type { DeviceConfig } from './device-kind.js';

/** A device of the VM's description, plugged in or not. */
export interface DeviceSlot {
  readonly config: DeviceConfig;
  readonly device: Device;
  readonly plugged: boolean;
}
