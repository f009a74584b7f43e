import { type DeviceFile, type Group, type Log, silentLog, Teardown } from '@pinion/core';
import type { Arrival, DeviceHome } from './device-home.js';
import type { DmaEntry, Owner } from './dma-entry.js';
import type { DmaSpace } from './dma-space.js';
import { type DeviceSeat, VmSpace, type VmSpaceOptions } from './vm-space.js';

export interface VmPoolOptions extends VmSpaceOptions {
  readonly log?: Log;
}

/** One VM and who sits in it. */
interface Room {
  readonly vm: VmSpace;
  readonly seats: Set<PooledSeat>;
}

/**
 * VMs that are told apart by their memory. A device begins in a container of its own; when its client maps memory that another device's
 * client has mapped already - the same file, at the same place, of the same size - the two belong to one VM, and the device is opened
 * anew in that VM's container, where they share mappings, pins and accounting.
 *
 * Only the first mapping with a descriptor of each connection decides. VMs that share memory between each other at the same guest addresses
 * would be taken for one: give each of those a `VmSpace` by configuration.
 */
export class VmPool {
  readonly #options: VmPoolOptions;
  readonly #log: Log;
  readonly #rooms = new Set<Room>();
  #made = 0;

  constructor(options: VmPoolOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
  }

  /** The VMs that there are, as far as is known. */
  get vms(): readonly VmSpace[] {
    return [...this.#rooms].map(({ vm }) => vm);
  }

  /** Opens a device in a container of its own, for now. Give what this returns to a server as its `space`. @throws as `VmSpace.attach`. */
  async seat(group: Group, name: string): Promise<PooledSeat> {
    const room = this.#room();
    try {
      const seat = new PooledSeat({ pool: this, log: this.#log, group, name }, room, await room.vm.attach(group, name));
      room.seats.add(seat);
      return seat;
    } catch (cause) {
      this.#rooms.delete(room);
      await room.vm.close();
      throw cause;
    }
  }

  /** Everything goes. Close the servers first. @throws as `Teardown.run`, after all was tried. */
  async close(): Promise<void> {
    const steps = new Teardown();
    for (const { vm } of this.#rooms) steps.defer(() => vm.close());
    this.#rooms.clear();
    await steps.run();
  }

  /** For `PooledSeat`: the VM in which the very same mapping is there already. */
  find({ request, fd, owner }: Arrival): Room | undefined {
    if (fd === undefined) return undefined;
    for (const room of this.#rooms) {
      const same = room.vm.dma.same(request, fd);
      if (same !== undefined && !(same.owners.size === 1 && same.owners.has(owner))) return room;
    }
    return undefined;
  }

  /** For `PooledSeat`: a VM of which nothing is known yet. */
  empty(): Room {
    return this.#room();
  }

  /** For `PooledSeat`: a room that nobody sits in is closed. */
  async left(room: Room): Promise<void> {
    if (room.seats.size > 0 || !this.#rooms.delete(room)) return;
    await room.vm.close();
  }

  #room(): Room {
    this.#made += 1;
    const room = {
      vm: new VmSpace({ ...this.#options, name: `${this.#options.name} ${this.#made}` }),
      seats: new Set<PooledSeat>(),
    };
    this.#rooms.add(room);
    return room;
  }
}

/** A device that finds its VM. */
export class PooledSeat implements DeviceHome {
  readonly name: string;
  readonly #about: { readonly pool: VmPool; readonly log: Log; readonly group: Group; readonly name: string };
  #room: Room;
  #seat: DeviceSeat;
  /** The connection whose VM is known. */
  #decided: WeakRef<Owner> | undefined;

  constructor(
    about: { readonly pool: VmPool; readonly log: Log; readonly group: Group; readonly name: string },
    room: Room,
    seat: DeviceSeat,
  ) {
    this.name = about.name;
    this.#about = about;
    this.#room = room;
    this.#seat = seat;
  }

  get dma(): DmaSpace {
    return this.#room.vm.dma;
  }

  /** The VM that it is in at present. */
  get vm(): VmSpace {
    return this.#room.vm;
  }

  get file(): DeviceFile {
    return this.#seat.file;
  }

  /** Whether the device has pages pinned. */
  get holdsPages(): boolean {
    return this.#seat.holdsPages;
  }

  /** @throws as `DeviceSeat.reopen`. */
  reopen(): Promise<void> {
    return this.#seat.reopen();
  }

  recognise(arrival: Arrival): Promise<void> | undefined {
    const { owner, fd, touched } = arrival;
    if (this.#decided?.deref() === owner) return undefined;
    if (fd !== undefined) this.#decided = new WeakRef(owner);
    const known = this.#about.pool.find(arrival);
    if (known === this.#room || (known === undefined && this.#fits(arrival))) return undefined;
    if (!touched) return this.#move(owner, known ?? this.#about.pool.empty());
    this.#about.log.warn(
      `${this.name}: its client changed it before it mapped memory; it stays in ${this.vm.task.name}`,
    );
    return undefined;
  }

  /** Whether the VM that it is in may be the client's: nobody else there, or nothing that contradicts. */
  #fits({ owner, request, fd }: Arrival): boolean {
    for (const entry of this.dma.entries) {
      if (entry.owners.size === 1 && entry.owners.has(owner)) continue;
      if (fd !== undefined && entry.file !== undefined) return false;
      const apart = entry.address >= request.address + request.size || request.address >= entry.address + entry.size;
      const same = entry.address === request.address && entry.size === request.size && entry.file === undefined;
      if (!apart && !same) return false;
    }
    return true;
  }

  /** Opens the device in another VM, with what its client has mapped so far: memory without descriptors. */
  async #move(owner: Owner, to: Room): Promise<void> {
    const from = this.#room;
    const { group, name, log, pool } = this.#about;
    to.seats.add(this); // first: a room with somebody on the way is not closed
    const mine = from.vm.dma.entries.filter(({ owners }) => owners.has(owner));
    try {
      await from.vm.dma.unmapAll(owner);
      await from.vm.detach(this.#seat);
      this.#seat = await to.vm.attach(group, name).catch(async (cause: unknown) => {
        this.#seat = await from.vm.attach(group, name);
        throw cause;
      });
      from.seats.delete(this);
      this.#room = to;
      this.#restore(owner, mine);
      log.info(`${name} belongs to ${to.vm.task.name}`);
    } catch (cause) {
      log.warn(`${name} could not be moved to ${to.vm.task.name}`, cause);
      if (this.#room !== to) this.#stay(owner, mine, to);
    }
    for (const room of [from, to]) {
      await pool.left(room).catch((cause: unknown) => log.warn(`${room.vm.task.name} did not close`, cause));
    }
  }

  /** Back where it was, with what its client believes to have mapped. */
  #stay(owner: Owner, mine: readonly DmaEntry[], to: Room): void {
    to.seats.delete(this);
    try {
      this.#restore(owner, mine);
    } catch (cause) {
      this.#about.log.warn(`${this.name} lost mappings of its client`, cause);
    }
  }

  /** Maps memory without descriptors once more, as far as it is not mapped. */
  #restore(owner: Owner, mine: readonly DmaEntry[]): void {
    for (const { address, size, flags } of mine) {
      if (this.dma.has(owner, address, size)) continue;
      this.dma.map(owner, { argsz: 0, flags, offset: 0n, address, size }, undefined);
    }
  }
}
