import { defineDriver, definePlugin, type Plugin, type VendorDriver } from '@pinion/core';
import { EduDevice, type EduOptions } from './device.js';

export { type EduOptions, factorial, IDENTITY } from './device.js';
export { errors as eduErrors } from './errors.js';
export { BUFFER, DMA, IDENTIFICATION, INTERRUPT, REGISTER, STATUS } from './registers.js';

/** QEMU's teaching device: vendor driver `edu`, type `card`. */
export const eduDriver = (options: EduOptions = {}): VendorDriver =>
  defineDriver({
    name: 'edu',
    deviceApi: 'vfio-pci',
    types: [{ id: 'card', prettyName: 'Teaching device: factorials, DMA, interrupts' }],
    pins: true,
    create: (context) => new EduDevice(context, options).ops(),
  });

/** The plugin with that driver. */
export const edu = (options: EduOptions = {}): Plugin =>
  definePlugin({ name: 'edu', core: '^0.1', register: (scope) => scope.vendorDriver(eduDriver(options)) });
