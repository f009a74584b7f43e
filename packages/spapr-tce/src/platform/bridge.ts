import { PAGE_SHIFT } from '@pinion/core';
import { tceErrors } from '../errors.js';
import { ENTRY_BYTES, type TceTable, type TceTableGroup, WINDOW_SLOTS, type WindowShape } from '../hardware.js';
import { FirmwareTable, flatTableBytes } from './table.js';

/** Where the second window begins, bytes. Source: pseries firmware and powernv, bit 59. */
const SECOND_START = 0x800_0000_0000_0000n;
/** Entries of the largest table that the firmware makes. Source: QEMU's ibm,query-pe-dma-window. */
const MAX_ENTRIES = 1n << 31n;
/** What a platform without tables of several levels says that they would take. Source: measured, 0xffffffff bytes. */
const NO_SUCH_TABLE = 0xffff_ffffn;
const ALL_PAGES = 0x121_1000n;

export interface BridgeAbout {
  readonly name: string;
  /** Bytes of the 32-bit window; default 1 GiB. */
  readonly window32?: bigint;
  /** The firmware can create windows (DDW); default true. */
  readonly dynamic?: boolean;
}

const isPowerOfTwo = (value: bigint): boolean => value > 0n && (value & (value - 1n)) === 0n;

/** What both kinds of bridge have in common: their tables by slot, as the devices behind see them. */
export abstract class Bridge implements TceTableGroup {
  abstract readonly platform: string;
  readonly name: string;
  readonly window32: { readonly start: bigint; readonly size: bigint };
  readonly pageSizes: bigint;
  readonly maxWindows: number;
  abstract readonly levels: number;
  protected readonly tables: (TceTable | undefined)[] = [undefined, undefined];

  constructor({ name, window32 = 1n << 30n, dynamic = true }: BridgeAbout) {
    this.name = name;
    this.window32 = { start: 0n, size: window32 };
    this.pageSizes = dynamic ? ALL_PAGES : 1n << BigInt(PAGE_SHIFT);
    this.maxWindows = dynamic ? WINDOW_SLOTS : 0xffff_ffff;
  }

  /** The tables that devices behind this bridge use now. */
  *inUse(): Iterable<FirmwareTable> {
    for (const table of this.tables) if (table instanceof FirmwareTable) yield table;
  }

  protected get dynamic(): boolean {
    return this.maxWindows === WINDOW_SLOTS;
  }

  abstract takeOwnership(): void;
  abstract releaseOwnership(): void;
  abstract tableBytes(shape: WindowShape): bigint;
  abstract createTable(slot: number, shape: WindowShape): TceTable;
  abstract setWindow(slot: number, table: TceTable): void;
  abstract unsetWindow(slot: number): void;

  protected badWindow(shape: WindowShape, problem: string): unknown {
    return tceErrors.BAD_WINDOW({ ...shape, problem });
  }
}

/**
 * A bridge of a virtual machine: its firmware has a default window and one dynamic one, and a table belongs to the bridge it
 * was created for. Source: arch/powerpc/platforms/pseries/iommu.c of 6.12 (behaviour), golden-tce recordings.
 */
export class PseriesBridge extends Bridge {
  readonly platform = 'pseries';
  #defaultStands = true;
  #dynamicStands = false;
  /** One failure and the kernel never asks this bridge's firmware again. */
  #failed = false;

  get levels(): number {
    return this.dynamic ? 1 : 0;
  }

  takeOwnership(): void {
    this.#dynamicStands = false;
    if (this.dynamic) this.#defaultStands = false;
  }

  releaseOwnership(): void {
    this.tables.fill(undefined);
    this.#defaultStands = true;
    this.#dynamicStands = false;
  }

  tableBytes(shape: WindowShape): bigint {
    return shape.levels > 1 ? NO_SUCH_TABLE : flatTableBytes(shape);
  }

  /**
   * @throws TCE_BAD_WINDOW (EINVAL), TCE_DDW_FAILED (ENODEV) once any creation failed, TCE_DDW_PRESENT (EPERM) for a first
   * window while a dynamic one stands, TCE_NO_DDW (EINVAL).
   */
  createTable(slot: number, shape: WindowShape): TceTable {
    if (!isPowerOfTwo(shape.size)) throw this.badWindow(shape, 'its size is no power of two');
    if (shape.levels > 1) throw this.badWindow(shape, 'the platform has tables of one level');
    if (this.#failed) throw tceErrors.DDW_FAILED({ group: this.name });
    const table = slot === 0 ? this.#createFirst(shape) : this.#createDynamic(shape);
    this.tables[slot] = table;
    return table;
  }

  setWindow(slot: number, table: TceTable): void {
    if (this.tables[slot] !== table) throw tceErrors.FOREIGN_TABLE({ group: this.name });
  }

  unsetWindow(slot: number): void {
    const table = this.tables[slot];
    if (table === undefined) return;
    const size = BigInt(table.entries) << BigInt(table.pageShift);
    if (slot === 0 && this.#isDefault({ pageShift: table.pageShift, size })) this.#defaultStands = !this.dynamic;
    else this.#dynamicStands = false;
    this.tables[slot] = undefined;
  }

  #isDefault({ pageShift, size }: Pick<WindowShape, 'pageShift' | 'size'>): boolean {
    return pageShift === PAGE_SHIFT && size <= this.window32.size;
  }

  /** The first window is the default one where the request fits it and it was taken away; else a dynamic one. */
  #createFirst(shape: WindowShape): FirmwareTable {
    const restores = this.#isDefault(shape) && !this.#defaultStands;
    if (this.#dynamicStands && (restores || !this.#isDefault(shape))) {
      throw tceErrors.DDW_PRESENT({ group: this.name });
    }
    if (!restores) return this.#createDynamic(shape);
    this.#defaultStands = true;
    return this.#fit(new FirmwareTable(this.window32.start, shape), shape);
  }

  #createDynamic(shape: WindowShape): FirmwareTable {
    if (!this.dynamic) {
      this.#failed = true;
      throw tceErrors.NO_DDW({ group: this.name });
    }
    const table = this.#fit(new FirmwareTable(SECOND_START, shape), shape);
    if (this.#dynamicStands) {
      this.#failed = true;
      throw tceErrors.DDW_FAILED({ group: this.name });
    }
    this.#dynamicStands = true;
    return table;
  }

  #fit(table: FirmwareTable, shape: WindowShape): FirmwareTable {
    if (table.entries >= 1 && BigInt(table.entries) <= MAX_ENTRIES) return table;
    throw this.badWindow(shape, 'it has no pages, or more than the firmware has entries');
  }
}

/**
 * A bridge of a bare-metal machine: tables can be shared by all bridges of the machine, have several levels, and both windows
 * can be created at will. Source: powernv in kernel-vfio 6.6 ("several compatible groups"); not recorded.
 */
export class PowernvBridge extends Bridge {
  readonly platform = 'powernv';
  readonly levels = 5;

  takeOwnership(): void {
    this.tables.fill(undefined);
  }

  releaseOwnership(): void {
    this.tables.fill(undefined);
  }

  /** Every level above the last takes one entry for each page of the level below. */
  tableBytes(shape: WindowShape): bigint {
    let bytes = flatTableBytes(shape);
    for (let level = 1, below = bytes; level < shape.levels && below > 4096n; level += 1) {
      below = ((below + 4095n) >> 12n) * ENTRY_BYTES;
      bytes += below;
    }
    return bytes;
  }

  /** @throws TCE_BAD_WINDOW (EINVAL). */
  createTable(slot: number, shape: WindowShape): TceTable {
    if (!isPowerOfTwo(shape.size)) throw this.badWindow(shape, 'its size is no power of two');
    if (shape.levels > this.levels) throw this.badWindow(shape, `tables have at most ${this.levels} levels`);
    const table = new FirmwareTable(slot === 0 ? this.window32.start : SECOND_START, shape);
    if (table.entries >= 1 && BigInt(table.entries) <= MAX_ENTRIES) return table;
    throw this.badWindow(shape, 'it has no pages, or more than a table can have entries');
  }

  setWindow(slot: number, table: TceTable): void {
    if (!(table instanceof FirmwareTable)) throw tceErrors.FOREIGN_TABLE({ group: this.name });
    this.tables[slot] = table;
  }

  unsetWindow(slot: number): void {
    this.tables[slot] = undefined;
  }
}
