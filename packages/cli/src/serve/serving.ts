import { createMediator, type Mediator, Teardown, type VendorDriver } from '@pinion/core';
import type { Sys } from '@pinion/sys';
import { type Type1Options, type1 } from '@pinion/type1';
import { ClientPages } from '@pinion/vfio-user';
import { type Leftovers, ServedDevices, type ServedDevicesOptions } from '@pinion/vm';
import { cliErrors } from '../errors.js';
import type { Output } from '../output.js';
import { clearSocketPath, ownSocketPath } from '../socket-path.js';
import type { Surroundings } from '../surroundings.js';
import { DeviceDrivers } from './device-drivers.js';
import { AUTO_VM, type PlannedDevice } from './plan.js';
import type { PluginSource } from './plugin-module.js';
import { clientEvents, followFacts, sayListening } from './serve-event.js';

/** What is to be served, and how. */
export interface ServingOptions extends Pick<ServedDevicesOptions, 'vm' | 'readsNeverFail' | 'once' | 'transport'> {
  readonly devices: readonly PlannedDevice[];
  readonly plugins: readonly PluginSource[];
  readonly type1?: Type1Options;
}

/** What serving needs of its process. */
export interface ServingParts {
  readonly sys: Sys;
  readonly output: Output;
  readonly around: Pick<Surroundings, 'clock'>;
}

/** The devices of a plan, served: plugins, a mediator, and `ServedDevices`. */
export class Serving {
  readonly #served: ServedDevices;
  readonly #teardown: Teardown;

  private constructor(served: ServedDevices, teardown: Teardown) {
    this.#served = served;
    this.#teardown = teardown;
  }

  /** Starts all devices, then opens all sockets. A failure leaves nothing behind. */
  static async start(options: ServingOptions, parts: ServingParts): Promise<Serving> {
    const teardown = new Teardown();
    try {
      return new Serving(await start(options, parts, teardown), teardown);
    } catch (cause) {
      await teardown.run();
      throw cause;
    }
  }

  /** Settles when no client can come any more: all sockets were connections that were handed over, or `once`. */
  get done(): Promise<unknown> {
    return this.#served.done;
  }

  /** Ends connections, then VMs, then devices, and removes the sockets. @throws as `Teardown.run`, after all was tried. */
  async stop(): Promise<void> {
    await this.#teardown.run();
  }

  /** What there is now; after `stop`, what is left. */
  get leftovers(): Leftovers {
    return this.#served.leftovers;
  }
}

async function start(options: ServingOptions, parts: ServingParts, teardown: Teardown): Promise<ServedDevices> {
  const { output, around, sys } = parts;
  const pages = new ClientPages();
  const mediator = await createMediator({
    memory: pages,
    plugins: [type1(options.type1)],
    log: output,
    clock: around.clock,
  });
  teardown.defer(() => mediator.close());
  const names = new Map(options.devices.map(({ uuid, name }) => [uuid, name]));
  followFacts(output, mediator, (uuid) => names.get(uuid) ?? uuid);
  const served = new ServedDevices({
    ...options,
    ...clientEvents(output),
    sys,
    mediator,
    pages,
    log: output,
    clock: around.clock,
  });
  teardown.defer(() => served.close());
  const drivers = await DeviceDrivers.create(mediator, options.plugins);
  for (const planned of options.devices) await addDevice(planned, { mediator, served, drivers });
  for (const planned of options.devices) listen(planned, { served, parts, teardown });
  return served;
}

async function addDevice(
  planned: PlannedDevice,
  { mediator, served, drivers }: { mediator: Mediator; served: ServedDevices; drivers: DeviceDrivers },
): Promise<void> {
  const { name, uuid, vm } = planned;
  const driver = await drivers.driverOf(planned);
  const mdev = await mediator.registerParent(name, driver.name).create(typeOf(planned, driver), uuid);
  await served.add({ name, mdev, ...(vm === AUTO_VM ? {} : { vm }) });
}

/** The socket's file is removed when its listener is closed, whatever became of the others. */
function listen(
  planned: PlannedDevice,
  { served, parts, teardown }: { served: ServedDevices; parts: ServingParts; teardown: Teardown },
): void {
  const { on, name } = planned;
  if ('path' in on) clearSocketPath(parts.sys, on.path);
  served.listen(name, on);
  if ('path' in on) teardown.defer(ownSocketPath(on.path));
  sayListening(parts.output, planned);
}

/** @throws CLI_BAD_PLAN (EINVAL) when the driver has several types and none was chosen. */
function typeOf({ request, name }: PlannedDevice, { types, name: driver }: VendorDriver): string {
  if (request.type !== undefined) return request.type;
  const [only] = types;
  if (only !== undefined && types.length === 1) return only.id;
  const known = types.map(({ id }) => id).join(', ');
  throw cliErrors.BAD_PLAN({
    problem: `device ${name}: driver ${driver} has several types; choose one with type=: ${known}`,
  });
}
