import type { DeviceFile, GuestMemory, IrqInfo, IrqSink, Migration, MigrationState, RegionInfo } from '@pinion/core';
import type { Fd } from '@pinion/sys';
import type { IoFd } from './info-messages.js';
import type { Area } from './structs.js';

/** Parts of a region that a client may map instead of sending messages. */
export interface RegionMapping {
  /** The file; it stays the device's. */
  readonly fd: Fd;
  /** Where the region begins in the file: bytes. */
  readonly offset: bigint;
  /** Absent: all of the region. */
  readonly areas?: readonly Area[];
}

/** A region as it is served. */
export interface ServedRegion extends RegionInfo {
  readonly mapping?: RegionMapping;
  /** What kind of region it is, for indices above the bus's own. */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** Parts whose writes may go to a descriptor; `fdIndex` points into `fds`. */
  readonly io?: { readonly entries: readonly IoFd[]; readonly fds: readonly Fd[] };
}

/** How the state of a served device is saved and restored; states are core's MIGRATION_STATE, flags its MIGRATION_FLAG. */
export interface ServedMigration {
  readonly flags: number;
  state(): number | Promise<number>;
  /** Goes to a state; settles when it is there. */
  enter(state: MigrationState): void | Promise<void>;
  /** Fills `into` with the next bytes. @returns how many; 0: the end. */
  read(into: Uint8Array): number | Promise<number>;
  write(bytes: Uint8Array): void | Promise<void>;
}

/**
 * What a server serves and a client sees: the shape that both ends have in common, so that a remote device can be served
 * again. Handlers may be asynchronous; one runs at a time.
 */
export interface ServedDevice {
  readonly name: string;
  readonly regions: readonly ServedRegion[];
  readonly irqs: readonly IrqInfo[];
  /** A PCI function: nine regions and five interrupt indices at least, whatever it names. */
  readonly pci: boolean;
  readonly resettable: boolean;
  /** Fills `bytes` from `offset` (bytes); the server has checked the bounds and the rights. */
  readRegion(index: number, offset: number, bytes: Uint8Array): void | Promise<void>;
  writeRegion(index: number, offset: number, bytes: Uint8Array): void | Promise<void>;
  reset(): void | Promise<void>;
  /** Who receives interrupts; undefined disconnects. */
  setIrqSink(sink: IrqSink | undefined): void;
  /** Absent: it cannot be migrated. */
  readonly migration?: ServedMigration;
  /** Who gives access to the memory of the client that came; undefined when it has gone. */
  setGuestMemory?(memory: GuestMemory | undefined): void;
}

/** What core's description of a device does not say. */
export interface ServedExtras {
  /** Default true. */
  readonly pci?: boolean;
  readonly mappings?: ReadonlyMap<number, RegionMapping>;
  /** Default: the device's own. */
  readonly setGuestMemory?: (memory: GuestMemory | undefined) => void;
}

/** An open device of the mediator as something to serve. `seat.file` is read at every use: it may be opened anew. */
export function servedDevice(seat: { readonly file: DeviceFile }, extras: ServedExtras = {}): ServedDevice {
  const { ops, name } = seat.file.device;
  const { pci = true, mappings } = extras;
  const setGuestMemory = extras.setGuestMemory ?? ops.setGuestMemory?.bind(ops);
  const regions = (ops.regions ?? []).map((region) => {
    const mapping = mappings?.get(region.index);
    return mapping === undefined ? region : { ...region, mapping };
  });
  return {
    name,
    regions,
    irqs: ops.irqs ?? [],
    pci,
    resettable: ops.reset !== undefined,
    readRegion: (index, offset, bytes) => seat.file.readRegion(index, offset, bytes),
    writeRegion: (index, offset, bytes) => seat.file.writeRegion(index, offset, bytes),
    reset: () => seat.file.reset(),
    setIrqSink: (sink) => ops.setIrqSink?.(sink),
    ...(setGuestMemory === undefined ? {} : { setGuestMemory }),
    ...(seat.file.migration === undefined ? {} : { migration: servedMigration(seat.file.migration) }),
  };
}

const servedMigration = (migration: Migration): ServedMigration => ({
  flags: migration.flags,
  state: () => migration.state,
  enter: (state) => migration.enter(state),
  read: (into) => migration.read(into),
  write: (bytes) => migration.write(bytes),
});
