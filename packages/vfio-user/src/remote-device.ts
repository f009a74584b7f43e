import type { IrqInfo, IrqSink } from '@pinion/core';
import { EventFd, type Fd, type Sys, type Watch } from '@pinion/sys';
import type { Client } from './client.js';
import { IRQ_FLAG, REGION_FLAG } from './commands.js';
import { discard } from './discard.js';
import { RemoteMigration } from './remote-migration.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

/** Counts that a server may claim; QEMU believes no more. */
const MAX_REGIONS = 100;
const MAX_IRQS = 50;
/** Vectors of one index. Source: PCI, MSI-X table size. */
const MAX_VECTORS = 2048;

interface Line {
  readonly event: EventFd;
  readonly watch: Watch;
}

/**
 * A device behind a connection, in the shape that devices have everywhere: registers, interrupts, reset. It can be served
 * again. Interrupts come as signals of eventfds.
 */
export class RemoteDevice implements ServedDevice {
  readonly name: string;
  readonly regions: readonly ServedRegion[];
  readonly irqs: readonly IrqInfo[];
  readonly pci: boolean;
  readonly resettable: boolean;
  readonly migration?: RemoteMigration;
  readonly #client: Client;
  readonly #sys: Sys;
  readonly #files: readonly Fd[];
  #lines: Line[] = [];
  /** Counts who connected interrupts last: whoever is not the last gives up, or would make lines that nobody closes. */
  #turn = 0;

  private constructor(about: {
    client: Client;
    sys: Sys;
    name: string;
    regions: readonly ServedRegion[];
    irqs: readonly IrqInfo[];
    pci: boolean;
    resettable: boolean;
    migration: RemoteMigration | undefined;
  }) {
    this.name = about.name;
    this.regions = about.regions;
    this.irqs = about.irqs;
    this.pci = about.pci;
    this.resettable = about.resettable;
    if (about.migration !== undefined) this.migration = about.migration;
    this.#client = about.client;
    this.#sys = about.sys;
    this.#files = about.regions.flatMap(({ mapping }) => (mapping === undefined ? [] : [mapping.fd]));
  }

  /** Asks the server for everything it has. At most 100 regions and 50 interrupt indices are believed. @throws as `Client`. */
  static async open(client: Client, sys: Sys, name: string): Promise<RemoteDevice> {
    const { resettable, pci, ...counts } = await client.deviceInfo();
    const regions: ServedRegion[] = [];
    try {
      for (let index = 0; index < Math.min(counts.regions, MAX_REGIONS); index += 1) {
        const region = await readRegionInfo(client, index);
        if (region !== undefined) regions.push(region);
      }
      const irqs: IrqInfo[] = [];
      for (let index = 0; index < Math.min(counts.irqs, MAX_IRQS); index += 1) {
        const { flags, count } = await client.irqInfo(index);
        if (count === 0 || (flags & IRQ_FLAG.EVENTFD) === 0) continue;
        irqs.push({ index, name: `irq${index}`, count: Math.min(count, MAX_VECTORS) });
      }
      const migration = await RemoteMigration.open(client);
      return new RemoteDevice({ client, sys, name, regions, irqs, pci, resettable, migration });
    } catch (cause) {
      discard(regions.flatMap(({ mapping }) => (mapping === undefined ? [] : [mapping.fd])));
      throw cause;
    }
  }

  readRegion(index: number, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#client.readRegion(index, BigInt(offset), bytes);
  }

  writeRegion(index: number, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#client.writeRegion(index, BigInt(offset), bytes);
  }

  reset(): Promise<void> {
    return this.#client.reset();
  }

  /** As `connectIrqs`, for those who cannot wait; a failure goes to the client's log. */
  setIrqSink(sink: IrqSink | undefined): void {
    this.connectIrqs(sink).catch((failure: unknown) =>
      this.#client.log.warn(`interrupts of ${this.name} cannot be connected`, failure),
    );
  }

  /**
   * Gives the server an eventfd for every vector, or takes them all away. INTx masks itself when it fires; the VMM sends the
   * unmask when its guest is through (`unmask`). A later call, or `close`, takes the place of one that is under way.
   */
  async connectIrqs(sink: IrqSink | undefined): Promise<void> {
    this.#closeLines();
    this.#turn += 1;
    const turn = this.#turn;
    for (const { index, count } of this.irqs) {
      if (turn !== this.#turn) return;
      await this.#client.setIrqs({ ...EVERYTHING_OFF, index });
      const batch = Math.max(1, this.#client.server.maxMsgFds);
      for (let start = 0; sink !== undefined && start < count && turn === this.#turn; start += batch) {
        const some = Math.min(batch, count - start);
        const events = Array.from({ length: some }, (_, n) => this.#line(index, start + n, sink));
        const request = { index, start, count: some, data: 'eventfd', action: 'trigger', selected: NOTHING } as const;
        await this.#client.setIrqs(
          request,
          events.map(({ fd }) => fd),
        );
      }
    }
  }

  unmask(index: number, vector = 0): Promise<void> {
    return this.#client.setIrqs({ index, start: vector, count: 1, data: 'none', action: 'unmask', selected: NOTHING });
  }

  /** Lets go of eventfds and of the files of regions. The connection stays. */
  close(): void {
    this.#turn += 1;
    this.#closeLines();
    discard(this.#files);
  }

  #line(index: number, vector: number, sink: IrqSink): EventFd {
    const event = EventFd.create(this.#sys, `interrupt ${index}.${vector} of ${this.name}`);
    try {
      const watch = this.#sys.watch(event.fd.number, { readable: true }, () => {
        if (event.drain() > 0n) sink(index, vector);
      });
      this.#lines.push({ event, watch });
      return event;
    } catch (cause) {
      event.close();
      throw cause;
    }
  }

  #closeLines(): void {
    for (const { event, watch } of this.#lines) {
      watch.stop();
      event.close();
    }
    this.#lines = [];
  }
}

const NOTHING = new Uint8Array(0);
const EVERYTHING_OFF = { start: 0, count: 0, data: 'none', action: 'trigger', selected: NOTHING } as const;

async function readRegionInfo(client: Client, index: number): Promise<ServedRegion | undefined> {
  const { info, fd } = await client.regionInfo(index);
  const size = Number(info.size);
  if (size === 0 || !Number.isSafeInteger(size)) {
    fd?.close();
    return undefined;
  }
  const has = (flag: number): boolean => (info.flags & flag) !== 0;
  const { areas, type, offset } = info;
  const mapping = fd === undefined || !has(REGION_FLAG.MMAP) ? undefined : { fd, offset, ...(areas && { areas }) };
  if (mapping === undefined) fd?.close();
  return {
    index,
    name: `region${index}`,
    size,
    readable: has(REGION_FLAG.READ),
    writable: has(REGION_FLAG.WRITE),
    ...(mapping && { mapping }),
    ...(type && { type }),
  };
}
