import { defineDriver, definePlugin } from '@pinion/core';

/** The least a device can be that may pin: whoever runs the example pins through it and gives back itself. */
const driver = defineDriver({
  name: 'holder',
  deviceApi: 'vfio-pci',
  types: [{ id: 'pages' }],
  pins: true,
  create: () => ({ dmaUnmap() {} }),
});

export const holder = definePlugin({ name: 'holder', core: '^0.1', register: (scope) => scope.vendorDriver(driver) });
