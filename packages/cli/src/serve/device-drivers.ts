import type { Mediator, Plugin, PluginScope, VendorDriver } from '@pinion/core';
import { devices } from '@pinion/example-devices';
import { cliErrors } from '../errors.js';
import { deviceOptionsOf } from './device-request.js';
import { ONLY_DRIVER, type PlannedDevice } from './plan.js';
import type { PluginSource } from './plugin-module.js';

/** A plugin whose vendor drivers are noted, under the names that `rename` gives them. */
function observed(plugin: Plugin, found: VendorDriver[], rename: (name: string) => string): Plugin {
  const register = (scope: PluginScope): void | Promise<void> =>
    plugin.register({
      ...scope,
      vendorDriver(driver) {
        const named = withName(driver, rename(driver.name));
        scope.vendorDriver(named);
        found.push(named);
      },
    });
  return { name: plugin.name, core: plugin.core, register };
}

/** The same driver, be it a plain object or one of a class. */
const withName = (driver: VendorDriver, name: string): VendorDriver =>
  driver.name === name ? driver : Object.create(driver, { name: { value: name, enumerable: true } });

/**
 * Which vendor driver makes which device. A device of the table, or of a plugin that is a function, has a driver of its own
 * (two disks have two images), named `DRIVER:DEVICE`; devices of a plugin that is an object share its drivers.
 */
export class DeviceDrivers {
  readonly #mediator: Mediator;
  readonly #sources: readonly PluginSource[];
  /** Drivers of plugins that are objects. */
  readonly #shared: VendorDriver[] = [];

  private constructor(mediator: Mediator, sources: readonly PluginSource[]) {
    this.#mediator = mediator;
    this.#sources = sources;
  }

  /** Registers the plugins that are objects. @throws what their `register` throws. */
  static async create(mediator: Mediator, sources: readonly PluginSource[]): Promise<DeviceDrivers> {
    const drivers = new DeviceDrivers(mediator, sources);
    for (const source of sources) {
      if ('plugin' in source) await mediator.use(observed(source.plugin, drivers.#shared, (name) => name));
    }
    return drivers;
  }

  /** @throws CLI_NO_DEVICE_KIND (ENOENT), CLI_BAD_PLAN (EINVAL) for options that the device does not take, what plugins throw. */
  async driverOf(planned: PlannedDevice): Promise<VendorDriver> {
    const shared = pick(this.#shared, (driver) => driver.name, planned.request.device);
    if (shared !== undefined) {
      checkTaken(planned, []);
      return shared;
    }
    const known = devices.get(planned.request.device);
    if (known === undefined) return this.#fromFactories(planned);
    checkTaken(planned, known.takes);
    const found = await this.#register(planned, known.plugin(deviceOptionsOf(planned.request)));
    const driver = found.get(known.driver);
    if (driver !== undefined) return driver;
    throw cliErrors.NO_DEVICE_KIND({ kind: known.driver, known: [...found.keys()] });
  }

  /** Every plugin that is a function is asked, in order, until one of them has the driver. */
  async #fromFactories(planned: PlannedDevice): Promise<VendorDriver> {
    checkTaken(planned, ['options']);
    const seen = [...devices.keys(), ...this.#shared.map(({ name }) => name)];
    for (const source of this.#sources) {
      if (!('make' in source)) continue;
      const found = await this.#register(planned, source.make(planned.request.options ?? {}));
      const picked = pick([...found], ([name]) => name, planned.request.device);
      if (picked !== undefined) return picked[1];
      seen.push(...found.keys());
    }
    throw cliErrors.NO_DEVICE_KIND({ kind: planned.request.device, known: seen });
  }

  /** @returns what the plugin registered, by the name that the plugin gave it. */
  async #register({ name }: PlannedDevice, plugin: Plugin): Promise<ReadonlyMap<string, VendorDriver>> {
    const own: VendorDriver[] = [];
    const suffix = `:${name}`;
    await this.#mediator.use(observed(plugin, own, (driver) => `${driver}${suffix}`));
    return new Map(own.map((driver) => [driver.name.slice(0, -suffix.length), driver]));
  }
}

/** The one of that name; of `ONLY_DRIVER`, the only one. */
function pick<T>(all: readonly T[], nameOf: (each: T) => string, wanted: string): T | undefined {
  if (wanted === ONLY_DRIVER) return all.length === 1 ? all[0] : undefined;
  return all.find((each) => nameOf(each) === wanted);
}

const KEYS = ['image', 'size', 'readOnly', 'interrupts', 'options'] as const;
type DeviceKey = (typeof KEYS)[number];

/** An option that would be ignored is refused. */
function checkTaken({ request, name }: PlannedDevice, takes: readonly DeviceKey[]): void {
  const odd = KEYS.filter((key) => request[key] !== undefined && !takes.includes(key));
  if (odd.length === 0) return;
  const wanted = takes.length === 0 ? 'no options' : takes.join(', ');
  throw cliErrors.BAD_PLAN({
    problem: `device ${name} (${request.device}) takes ${wanted}, but has ${odd.join(', ')}`,
  });
}
