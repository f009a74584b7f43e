import { ApDevice, createApDriver } from '@pinion/ap';
import type { DeviceOps } from '@pinion/core';
import type { DeviceConfig, MediatedKind, ParentConfig } from '../device-kind.js';
import { vmErrors } from '../errors.js';
import { integer, list } from '../schema.js';

interface ApParent extends ParentConfig {
  readonly adapters: readonly number[];
  readonly domains: readonly number[];
}

interface ApConfig extends DeviceConfig {
  readonly adapters: readonly number[];
  readonly domains: readonly number[];
}

const INDICES = list(integer(0, 255));

const apDevice = (ops: DeviceOps, name: string): ApDevice => {
  if (ops instanceof ApDevice) return ops;
  throw vmErrors.WRONG_DRIVER({ device: name, wanted: 'ap' });
};

/** Crypto queues: a parent names the cards and domains that the machine has, a device those it gives to its guest. */
export const apKind: MediatedKind<ApParent, ApConfig> = {
  driver: 'ap',
  deviceApi: 'vfio-ap',
  mediated: true,
  types: ['passthrough'],
  parentKeys: { required: { adapters: INDICES, domains: INDICES }, optional: {} },
  deviceKeys: { required: { adapters: INDICES, domains: INDICES }, optional: {} },
  maxParents: 1,
  createDriver: ([parent]) => createApDriver({ adapters: parent?.adapters ?? [], domains: parent?.domains ?? [] }),
  configure({ name, adapters, domains }, ops, machine) {
    const device = apDevice(ops, name);
    device.setGuest(machine.crypto);
    device.configure({ adapters, domains });
  },
  connect: ({ name }, file, machine) => machine.crypto.connect(apDevice(file.device.ops, name)),
};
