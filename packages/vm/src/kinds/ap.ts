import { ApDevice, createApDriver } from '@pinion/ap';
import type { DeviceOps } from '@pinion/core';
import type { DeviceConfig, MediatedKind, ParentConfig } from '../device-kind.js';
import { vmErrors } from '../errors.js';
import { integer, list } from '../schema.js';

interface ApParent extends ParentConfig {
  /** Accelerators. */
  readonly adapters: readonly number[];
  /** More adapters, which are CCA coprocessors. */
  readonly coprocessors?: readonly number[];
  readonly domains: readonly number[];
  /** Threads that compute for the cards. */
  readonly threads?: number;
}

interface ApConfig extends DeviceConfig {
  readonly adapters: readonly number[];
  readonly domains: readonly number[];
  readonly controlDomains?: readonly number[];
}

const INDICES = list(integer(0, 255));
const THREADS = integer(0, 64);

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
  parentKeys: {
    required: { adapters: INDICES, domains: INDICES },
    optional: { coprocessors: INDICES, threads: THREADS },
  },
  deviceKeys: { required: { adapters: INDICES, domains: INDICES }, optional: { controlDomains: INDICES } },
  maxParents: 1,
  createDriver([parent]) {
    const { adapters = [], coprocessors = [], domains = [], threads } = parent ?? {};
    const cca = coprocessors.map((adapter) => ({ adapter, mode: 'cca' as const }));
    return createApDriver({ adapters: [...adapters, ...cca], domains, ...(threads === undefined ? {} : { threads }) });
  },
  configure({ name, adapters, domains, controlDomains = [] }, ops, machine) {
    const device = apDevice(ops, name);
    device.setGuest(machine.crypto);
    device.configure({ adapters, domains, controlDomains });
  },
  connect: ({ name }, file, machine) => machine.crypto.connect(apDevice(file.device.ops, name)),
};
