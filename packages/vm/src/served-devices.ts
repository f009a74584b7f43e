import { type Clock, type Log, type Mdev, type Mediator, silentLog, systemClock, Teardown } from '@pinion/core';
import type { Sys } from '@pinion/sys';
import {
  type ClientPages,
  type DeviceSeat,
  type ListenOn,
  type PooledSeat,
  Server,
  ServerListener,
  type ServerOptions,
  type Session,
  type SocketTransportOptions,
  servedDevice,
  type Transport,
  VmPool,
  VmSpace,
} from '@pinion/vfio-user';
import type { Accounting } from './accounting.js';
import { vmErrors } from './errors.js';

/** How devices are served. */
export interface ServedDevicesOptions {
  readonly sys: Sys;
  readonly mediator: Mediator;
  /** The memory that the mediator was made with. */
  readonly pages: ClientPages;
  readonly clock?: Clock;
  readonly log?: Log;
  /** Of every VM: RLIMIT_MEMLOCK in pages, and the argument of SET_IOMMU. */
  readonly vm?: { readonly lockLimit?: number; readonly iommuType?: number };
  /** See `SessionOptions`. */
  readonly readsNeverFail?: boolean;
  /** How messages are received: see `SocketTransportOptions`. */
  readonly transport?: SocketTransportOptions;
  /** Each device takes one client and no more. */
  readonly once?: boolean;
  /** A client came or went; clients of a device are numbered from 1. */
  readonly connected?: (device: string, client: number) => void;
  readonly disconnected?: (device: string, client: number) => void;
}

/** A device that is to be served. */
export interface SeatRequest {
  /** For messages; unique. */
  readonly name: string;
  /** Devices of one VM share a container. Absent: its VM is recognised by the memory that its client maps, see `VmPool`. */
  readonly vm?: string;
  readonly mdev: Mdev;
}

/** What is left when everything was closed. */
export interface Leftovers {
  readonly mappings: number;
  readonly pins: number;
  readonly lockedPages: number;
  /** Labels of descriptors, memory mappings and watches that are still open. */
  readonly open: readonly string[];
}

interface Seat {
  readonly name: string;
  readonly server: WatchedServer;
  readonly uuid: string;
}

/** Where a device is open, and what its server maps into. */
interface Place {
  readonly seat: DeviceSeat | PooledSeat;
  readonly space: ServerOptions['space'];
}

/** What messages call a VM that nobody named. */
const UNNAMED = 'vm';

/**
 * Devices of a mediator for VMMs in other processes: one container per VM, one vfio-user server per device. First `add` all of
 * them, then `listen`: a client that comes finds every device of its VM.
 */
export class ServedDevices {
  readonly #options: ServedDevicesOptions;
  readonly #spaces = new Map<string, VmSpace>();
  readonly #seats = new Map<string, Seat>();
  #pool: VmPool | undefined;
  readonly #ends: Promise<void>[] = [];
  readonly #teardown = new Teardown();

  constructor(options: ServedDevicesOptions) {
    this.#options = options;
    options.mediator.bus.on('device:requested', ({ device }) => {
      for (const { uuid, server } of this.#seats.values()) if (uuid === device) server.request();
    });
  }

  /** Opens a device in its VM's container. @throws what core, the backend and the driver throw; nothing changed then. */
  async add({ name, vm, mdev }: SeatRequest): Promise<void> {
    const { seat, space } = await (vm === undefined ? this.#seatInPool(mdev) : this.#seatIn(vm, mdev));
    const pci = mdev.parent.driver.deviceApi === 'vfio-pci';
    const device = { ...servedDevice(seat, { pci }), name };
    const { sys, clock = systemClock, log = silentLog, readsNeverFail = false } = this.#options;
    const seats = { reopen: () => seat.reopen(), holdsPages: () => seat.holdsPages };
    const options = { device, space, sys, clock, log, readsNeverFail, ...seats };
    this.#seats.set(name, { name, uuid: mdev.uuid, server: new WatchedServer(options, this.#options) });
  }

  /** Lets clients of a device in. A path is the caller's to remove, before and after. @throws VM_NO_DEVICE (ENODEV), and as `ServerListener`. */
  listen(name: string, on: ListenOn): void {
    const { sys, clock = systemClock, log = silentLog, once = false, transport = {} } = this.#options;
    const { server } = this.#seat(name);
    const listener = new ServerListener({ sys, server, on, log, clock, transport });
    this.#teardown.defer(() => listener.close());
    this.#ends.push(listener.done);
    if (once) void server.firstGone.then(() => listener.close());
  }

  /** Settles when no client can come any more: all sockets were connections that were handed over, or `once`. */
  get done(): Promise<unknown> {
    return Promise.all(this.#ends);
  }

  /** Settles when the client of a device, if it has one, is gone and everything of it was given back. @throws VM_NO_DEVICE (ENODEV). */
  async disconnected(name: string): Promise<void> {
    await this.#seat(name).server.session?.done;
  }

  /** What a VM that was named holds through its container; a VM without devices holds nothing. */
  accounting(vm: string): Accounting {
    const space = this.#spaces.get(vm);
    const stats = space?.container.stats;
    const pinnedPages = new Map<string, number>();
    for (const { name, uuid } of this.#seats.values()) {
      const pages = stats?.pinsByDevice.get(uuid);
      if (pages !== undefined) pinnedPages.set(name, pages);
    }
    return {
      mappings: stats?.mappings ?? 0,
      mappedBytes: stats?.mappedBytes ?? 0n,
      iommuPages: new Map(),
      pinnedPages,
      lockedPages: space?.task.mm.lockedPages ?? 0,
      heldPages: this.#options.pages.references,
    };
  }

  /** What there is of all VMs; after `close`, what is left. */
  get leftovers(): Leftovers {
    const { pages, sys } = this.#options;
    const locked = [...this.#spaces.values(), ...(this.#pool?.vms ?? [])].map(({ task }) => task.mm.lockedPages);
    return {
      mappings: pages.pieces,
      pins: pages.references,
      lockedPages: locked.reduce((sum, count) => sum + count, 0),
      open: sys.ledger.labels(),
    };
  }

  /** Ends connections, newest first, then the VMs. The mediator stays. @throws as `Teardown.run`, after all was tried. */
  async close(): Promise<void> {
    await this.#teardown.run();
  }

  async #seatIn(vm: string, { group, uuid }: Mdev): Promise<Place> {
    const space = this.#spaceOf(vm);
    const seat = await space.attach(group, uuid);
    return { seat, space: space.dma };
  }

  async #seatInPool({ group, uuid }: Mdev): Promise<Place> {
    if (this.#pool === undefined) {
      const { mediator, pages, vm, log = silentLog } = this.#options;
      const pool = new VmPool({ mediator, pages, name: UNNAMED, log, ...vm });
      this.#pool = pool;
      this.#teardown.defer(() => pool.close());
    }
    const seat = await this.#pool.seat(group, uuid);
    return { seat, space: seat };
  }

  #spaceOf(name: string): VmSpace {
    const there = this.#spaces.get(name);
    if (there !== undefined) return there;
    const { mediator, pages, vm } = this.#options;
    const space = new VmSpace({ mediator, pages, name, ...vm });
    this.#spaces.set(name, space);
    this.#teardown.defer(() => space.close());
    return space;
  }

  #seat(name: string): Seat {
    const seat = this.#seats.get(name);
    if (seat === undefined) throw vmErrors.NO_DEVICE({ device: name });
    return seat;
  }
}

/** A server that tells when its client comes and goes. */
class WatchedServer extends Server {
  /** Settles when the first client has come and gone. */
  readonly firstGone: Promise<void>;
  readonly #name: string;
  readonly #hooks: Pick<ServedDevicesOptions, 'connected' | 'disconnected'>;
  readonly #gone: () => void;
  #clients = 0;

  constructor(options: ServerOptions, hooks: Pick<ServedDevicesOptions, 'connected' | 'disconnected'>) {
    super(options);
    this.#name = options.device.name;
    this.#hooks = hooks;
    let gone = (): void => {};
    this.firstGone = new Promise((resolve) => {
      gone = resolve;
    });
    this.#gone = gone;
  }

  override accept(transport: Transport): Session {
    const session = super.accept(transport);
    this.#clients += 1;
    const client = this.#clients;
    this.#hooks.connected?.(this.#name, client);
    void session.done.then(() => {
      this.#hooks.disconnected?.(this.#name, client);
      this.#gone();
    });
    return session;
  }
}
