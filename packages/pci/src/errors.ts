import { catalogue, hex } from '@pinion/core';

/** Everything this package throws. All of them are mistakes in a device's description, found when it is made. */
export const pciErrors = catalogue('PCI', {
  BAD_BAR: [
    'EINVAL',
    ({ index, problem }: { index: number; problem: string }) => `BAR${index}: ${problem}; correct the device's bars`,
  ],
  BAR_TAKEN: [
    'EEXIST',
    ({ index, by }: { index: number; by: number }) =>
      `BAR${index} is taken by BAR${by} (a 64-bit BAR needs two registers); use another index`,
  ],
  BAD_IDENTITY: [
    'EINVAL',
    ({ field, value, max }: { field: string; value: number; max: number }) =>
      `identity.${field} is ${value}; use a whole number from 0 to ${hex(max)}`,
  ],
  BAD_CAPABILITY: [
    'EINVAL',
    ({ name, problem }: { name: string; problem: string }) => `capability ${name}: ${problem}`,
  ],
  CAPABILITY_TWICE: ['EEXIST', ({ name }: { name: string }) => `capability ${name} is there already; give it once`],
  CONFIG_FULL: [
    'ENOSPC',
    ({ name, size, room }: { name: string; size: number; room: number }) =>
      `capability ${name} needs ${size} bytes and ${room} are left; drop a capability`,
  ],
  BAD_ROM: ['EINVAL', ({ size }: { size: number }) => `a ROM of ${size} bytes; use 1 byte to 16 MiB`],
  BAD_VECTOR: [
    'EINVAL',
    ({ vector, count }: { vector: number; count: number }) =>
      `interrupt vector ${vector} does not exist; the function has ${count}`,
  ],
});
