import { defineDriver, definePlugin, type Plugin } from '@pinion/core';
import { EduDevice, type EduOptions } from './device.js';

export { type EduOptions, factorial, IDENTITY } from './device.js';
export { BUFFER, DMA, IDENTIFICATION, INTERRUPT, REGISTER, STATUS } from './registers.js';

/** The plugin: QEMU's teaching device. Vendor driver `edu`, type `card`. */
export function edu(options: EduOptions = {}): Plugin {
  const driver = defineDriver({
    name: 'edu',
    deviceApi: 'vfio-pci',
    types: [{ id: 'card', prettyName: 'Teaching device: factorials, DMA, interrupts' }],
    pins: true,
    create: (context) => new EduDevice(context, options).ops(),
  });
  return definePlugin({ name: 'edu', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
}
