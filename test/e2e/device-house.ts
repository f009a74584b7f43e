/** Devices of this project in this process, each on a vfio-user socket, and what is left of them at the end. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createMediator, type Log, type Mediator, type Plugin, systemClock, Teardown } from '@pinion/core';
import { linuxSys, type Sys } from '@pinion/sys';
import { type1 } from '@pinion/type1';
import { ClientPages, type DeviceSeat, Server, ServerListener, servedDevice, VmSpace } from '@pinion/vfio-user';

/** A device to serve: the vendor driver and type that a plugin registers. */
export interface DeviceSpec {
  readonly name: string;
  readonly plugin: Plugin;
  readonly driver: string;
  readonly type: string;
  /** Of the VM it belongs to: devices of one VM share a container. Default `vm`. */
  readonly vm?: string;
}

interface Seat {
  readonly server: Server;
  readonly path: string;
  readonly space: VmSpace;
  readonly seat: DeviceSeat;
}

/** What a VM's container holds. */
export interface Holdings {
  readonly mappings: number;
  readonly pinnedPages: number;
  readonly lockedPages: number;
}

/** DMA mappings that came and went. */
export interface MapCounts {
  maps: number;
  unmaps: number;
}

const uuidOf = (index: number): string => `5e2e0000-0000-4000-8000-${String(index).padStart(12, '0')}`;

export class DeviceHouse {
  readonly sys: Sys = linuxSys();
  readonly pages = new ClientPages();
  readonly counts: MapCounts = { maps: 0, unmaps: 0 };
  /** What the servers warned about. */
  readonly warnings: string[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'pinion-e2e-'));
  readonly #teardown = new Teardown();
  readonly #spaces = new Map<string, VmSpace>();
  readonly #seats = new Map<string, Seat>();
  #mediator: Mediator | undefined;

  /** Serves devices until the test ends, which fails then if anything is left of them. */
  static async open(t: TestContext, specs: readonly DeviceSpec[]): Promise<DeviceHouse> {
    const house = new DeviceHouse();
    t.after(() => house.close());
    await house.#start(specs);
    return house;
  }

  /** The socket of a device. */
  path(name: string): string {
    return this.#seat(name).path;
  }

  /** Whether a VMM is connected to a device. */
  connected(name: string): boolean {
    return this.#seat(name).server.session !== undefined;
  }

  /** What the VM of a device holds. */
  holdings(name: string): Holdings {
    const { mappings, pinnedPages } = this.#seat(name).space.container.stats;
    return { mappings, pinnedPages, lockedPages: this.#seat(name).space.task.mm.lockedPages };
  }

  /** Pages that a device has pinned itself. */
  pinsOf(name: string): number {
    const { space, seat } = this.#seat(name);
    return space.container.stats.pinsByDevice.get(seat.name) ?? 0;
  }

  /** Settles when the VMM of a device is gone and everything of it was given back. */
  async disconnected(name: string): Promise<void> {
    await this.#seat(name).server.session?.done;
  }

  /** Ends the connection of a device from this side, as the end of its process would. Settles when everything of it was given back. */
  async hangUp(name: string): Promise<void> {
    const { session } = this.#seat(name).server;
    session?.close();
    await session?.done;
  }

  /** Without a VMM: no mapping, no pin, no locked page, no piece of memory, and no descriptor but what listens. */
  assertIdle(): void {
    for (const [name, { server }] of this.#seats) {
      assert.equal(server.session, undefined, `${name} has a client`);
      assert.deepEqual(this.holdings(name), { mappings: 0, pinnedPages: 0, lockedPages: 0 }, name);
    }
    assert.deepEqual({ pieces: this.pages.pieces, references: this.pages.references }, { pieces: 0, references: 0 });
    const left = this.sys.ledger.labels().filter((label) => !/^(?:listener on|watch of) /.test(label));
    assert.deepEqual(left, [], 'descriptors and mappings');
  }

  async close(): Promise<void> {
    try {
      await this.#teardown.run();
      assert.deepEqual(this.sys.ledger.labels(), [], 'nothing of the servers is left');
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  async #start(specs: readonly DeviceSpec[]): Promise<void> {
    const mediator = await createMediator({
      memory: this.pages,
      plugins: [type1(), ...new Set(specs.map(({ plugin }) => plugin))],
    });
    this.#mediator = mediator;
    this.#teardown.defer(() => mediator.close());
    mediator.bus.on('dma:mapped', () => {
      this.counts.maps += 1;
    });
    mediator.bus.on('dma:unmapped', () => {
      this.counts.unmaps += 1;
    });
    for (const [i, spec] of specs.entries()) await this.#serve(spec, uuidOf(i + 1));
  }

  async #serve({ name, driver, type, vm = 'vm' }: DeviceSpec, uuid: string): Promise<void> {
    const mediator = this.#mediator;
    assert.ok(mediator !== undefined);
    const mdev = await mediator.registerParent(`slot-${name}`, driver).create(type, uuid);
    const space = this.#space(vm, mediator);
    const seat = await space.attach(mdev.group, uuid);
    const log: Log = { info: () => {}, warn: (message) => void this.warnings.push(message) };
    const server = new Server({
      device: servedDevice(seat),
      space: space.dma,
      clock: systemClock,
      log,
      sys: this.sys,
      reopen: () => seat.reopen(),
    });
    const path = join(this.#folder, `${name}.sock`);
    const listener = new ServerListener({ sys: this.sys, server, on: { path }, log });
    this.#teardown.defer(() => listener.close());
    this.#seats.set(name, { server, path, space, seat });
  }

  #space(vm: string, mediator: Mediator): VmSpace {
    const there = this.#spaces.get(vm);
    if (there !== undefined) return there;
    const space = new VmSpace({ mediator, pages: this.pages, name: vm });
    this.#spaces.set(vm, space);
    this.#teardown.defer(() => space.close());
    return space;
  }

  #seat(name: string): Seat {
    const seat = this.#seats.get(name);
    assert.ok(seat !== undefined, `there is a device ${name}`);
    return seat;
  }
}

/** What this process has open, by what it is: for comparing before and after. Node's own are among them. */
export const openFiles = (): number => readdirSync('/proc/self/fd').length;
