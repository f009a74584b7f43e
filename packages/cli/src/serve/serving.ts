import { createMediator, type Mediator, Teardown, type VendorDriver } from '@pinion/core';
import type { Sys } from '@pinion/sys';
import { type Type1Options, type1 } from '@pinion/type1';
import { ClientPages, ServerListener, type ServerOptions, servedDevice, VmSpace } from '@pinion/vfio-user';
import { cliErrors } from '../errors.js';
import type { Output } from '../output.js';
import { clearSocketPath, ownSocketPath } from '../socket-path.js';
import type { Surroundings } from '../surroundings.js';
import { DeviceDrivers } from './device-drivers.js';
import type { PlannedDevice } from './plan.js';
import type { PluginSource } from './plugin-module.js';
import { followFacts, type Leftovers, sayListening } from './serve-event.js';
import { ToldServer } from './told-server.js';

/** What is to be served, and how. */
export interface ServingOptions {
  readonly devices: readonly PlannedDevice[];
  readonly plugins: readonly PluginSource[];
  readonly type1?: Type1Options;
  /** Argument of SET_IOMMU; default TYPE1v2. */
  readonly iommuType?: number;
  /** RLIMIT_MEMLOCK of every VM in pages; absent: unlimited. */
  readonly lockLimit?: number;
  /** Cloud Hypervisor hangs at error replies to reads: give it none. */
  readonly readsNeverFail?: boolean;
  /** Take one client per device, and end when the last one is gone. */
  readonly once?: boolean;
}

/** What serving needs of its process. */
export interface ServingParts {
  readonly sys: Sys;
  readonly output: Output;
  readonly around: Pick<Surroundings, 'clock'>;
}

/** Devices that are served: one mediator, one container per VM, one socket per device. */
export class Serving {
  readonly #options: ServingOptions;
  readonly #parts: ServingParts;
  readonly #pages = new ClientPages();
  readonly #spaces = new Map<string, VmSpace>();
  readonly #servers = new Map<string, ToldServer>();
  readonly #names: ReadonlyMap<string, string>;
  readonly #ends: Promise<void>[] = [];
  readonly #teardown = new Teardown();

  private constructor(options: ServingOptions, parts: ServingParts) {
    this.#options = options;
    this.#parts = parts;
    this.#names = new Map(options.devices.map(({ uuid, name }) => [uuid, name]));
  }

  /** Starts all devices, then opens all sockets: a client that comes finds every device of its VM. A failure leaves nothing behind. */
  static async start(options: ServingOptions, parts: ServingParts): Promise<Serving> {
    const serving = new Serving(options, parts);
    try {
      await serving.#start();
    } catch (cause) {
      await serving.stop();
      throw cause;
    }
    return serving;
  }

  /** Settles when no client can come any more: all sockets were connections that were handed over, or `once`. */
  get done(): Promise<unknown> {
    return Promise.all(this.#ends);
  }

  /** Ends connections, then VMs, then devices, and removes the sockets. @throws as `Teardown.run`, after all was tried. */
  async stop(): Promise<void> {
    await this.#teardown.run();
  }

  /** What there is now; after `stop`, what is left. */
  get leftovers(): Leftovers {
    const spaces = [...this.#spaces.values()];
    return {
      mappings: this.#pages.pieces,
      pins: this.#pages.references,
      lockedPages: spaces.reduce((sum, { task }) => sum + task.mm.lockedPages, 0),
      open: this.#parts.sys.ledger.labels(),
    };
  }

  async #start(): Promise<void> {
    const { output, around } = this.#parts;
    const plugins = [type1(this.#options.type1)];
    const mediator = await createMediator({ memory: this.#pages, plugins, log: output, clock: around.clock });
    this.#teardown.defer(() => mediator.close());
    followFacts(output, mediator, (uuid) => this.#names.get(uuid) ?? uuid);
    mediator.bus.on('device:requested', ({ device }) => void this.#servers.get(device)?.request());
    const drivers = await DeviceDrivers.create(mediator, this.#options.plugins);
    for (const planned of this.#options.devices) await this.#open(mediator, planned, await drivers.driverOf(planned));
    for (const planned of this.#options.devices) this.#listen(planned);
  }

  /** Makes a device, puts it into its VM's container and opens it. */
  async #open(mediator: Mediator, planned: PlannedDevice, driver: VendorDriver): Promise<void> {
    const { uuid, name } = planned;
    const parent = mediator.registerParent(name, driver.name);
    const mdev = await parent.create(typeOf(planned, driver), uuid);
    const space = this.#spaceOf(mediator, planned.vm);
    const seat = await space.attach(mdev.group, uuid);
    const device = { ...servedDevice(seat, { pci: driver.deviceApi === 'vfio-pci' }), name };
    this.#servers.set(
      uuid,
      new ToldServer(this.#parts.output, this.#serverOptions({ device, space, reopen: () => seat.reopen() })),
    );
  }

  #spaceOf(mediator: Mediator, name: string): VmSpace {
    const there = this.#spaces.get(name);
    if (there !== undefined) return there;
    const { lockLimit, iommuType } = this.#options;
    const space = new VmSpace({
      mediator,
      pages: this.#pages,
      name,
      ...(lockLimit === undefined ? {} : { lockLimit }),
      ...(iommuType === undefined ? {} : { iommuType }),
    });
    this.#spaces.set(name, space);
    this.#teardown.defer(() => space.close());
    return space;
  }

  #serverOptions(about: Pick<ServerOptions, 'device' | 'reopen'> & { space: VmSpace }): ServerOptions {
    const { sys, output, around } = this.#parts;
    const readsNeverFail = this.#options.readsNeverFail ?? false;
    return { ...about, space: about.space.dma, sys, clock: around.clock, log: output, readsNeverFail };
  }

  #listen(planned: PlannedDevice): void {
    const { sys, output } = this.#parts;
    const { on, uuid } = planned;
    const server = this.#servers.get(uuid);
    if (server === undefined) return;
    if ('path' in on) clearSocketPath(sys, on.path);
    const listener = new ServerListener({ sys, server, on, log: output });
    if ('path' in on) this.#teardown.defer(ownSocketPath(on.path));
    this.#teardown.defer(() => listener.close());
    this.#ends.push(listener.done);
    if (this.#options.once === true) void server.firstGone.then(() => listener.close());
    sayListening(output, planned);
  }
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
