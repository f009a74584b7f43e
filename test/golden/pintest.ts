import {
  type Device,
  defineDriver,
  type FrameRange,
  frameAddress,
  frameCount,
  PAGE_SIZE,
  type PinningDeviceOps,
  pagesToBytes,
} from '@pinion/core';
import type { CallbackRecord } from './scenario.js';

/** How a driver behaves in `dmaUnmap`: see FORMAT.md, "The driver model". */
export type Mode = 'all' | 'start' | 'none' | 'one' | 'last';

const MODES: readonly string[] = ['all', 'start', 'none', 'one', 'last'];

export const isMode = (value: unknown): value is Mode => typeof value === 'string' && MODES.includes(value);

/** The driver of the recordings, rebuilt: a table of own pins, and several ways of failing the unpin duty. */
export class PintestDevice implements PinningDeviceOps {
  /** Pins by byte address, low bits kept, with their count. */
  readonly table = new Map<bigint, number>();
  readonly #name: string;
  readonly #record: (callback: CallbackRecord) => void;
  #device: Device | undefined;
  #mode: Mode = 'all';
  #rescue = 0;
  #closeKeep = false;
  #lastRange = '';
  #repeats = 0;

  constructor(name: string, record: (callback: CallbackRecord) => void) {
    this.#name = name;
    this.#record = record;
  }

  /** The device it drives, known once it is created. */
  bind(device: Device): void {
    this.#device = device;
  }

  setMode(mode: Mode, rescue: number, closeKeep: boolean): void {
    this.#mode = mode;
    this.#rescue = rescue;
    this.#closeKeep = closeKeep;
    this.#lastRange = '';
    this.#repeats = 0;
  }

  forget(): void {
    this.table.clear();
  }

  open(): void {
    this.setMode('all', 0, false);
    this.#record({ dev: this.#name, ev: 'open', rel: 0, left: 0 });
  }

  close(): void {
    const released = this.#closeKeep ? 0 : this.#releaseAll([...this.table.keys()]);
    this.#record({ dev: this.#name, ev: 'close', rel: released, left: this.#left() });
    this.table.clear();
  }

  dmaUnmap(range: FrameRange): void {
    const first = frameAddress(range.first);
    const length = pagesToBytes(frameCount(range));
    const own = [...this.table.keys()]
      .filter((iova) => iova <= first + length - 1n && iova + BigInt(PAGE_SIZE) - 1n >= first)
      .sort((a, b) => (a < b ? -1 : 1));
    const released = this.#release(this.#effectiveMode(`${first}+${length}`), own, first);
    const hex = (value: bigint): string => `0x${value.toString(16)}`;
    this.#record({ dev: this.#name, iova: hex(first), len: hex(length), rel: released, left: this.#left() });
  }

  /** Counts a successful pin of `npage` pages. */
  pinned(iova: bigint, npage: number): void {
    for (let page = 0; page < npage; page += 1) {
      const at = iova + pagesToBytes(page);
      this.table.set(at, (this.table.get(at) ?? 0) + 1);
    }
  }

  /** Takes an unpin of `npage` pages off the books, as far as they are the driver's own. */
  unpinned(iova: bigint, npage: number): void {
    for (let page = 0; page < npage; page += 1) this.#countDown(iova + pagesToBytes(page));
  }

  /** With `rescue` N, the N-th call in a row for one range releases everything. */
  #effectiveMode(range: string): Mode {
    this.#repeats = range === this.#lastRange ? this.#repeats + 1 : 1;
    this.#lastRange = range;
    return this.#rescue > 0 && this.#repeats === this.#rescue ? 'all' : this.#mode;
  }

  #release(mode: Mode, own: readonly bigint[], first: bigint): number {
    const lowest = own[0];
    const highest = own[own.length - 1];
    if (mode === 'all') return this.#releaseAll(own);
    if (mode === 'start') return this.#releaseAll(own.filter((iova) => iova === first));
    if (mode === 'one' && lowest !== undefined) return this.#releaseOne(lowest);
    if (mode === 'last' && highest !== undefined) return this.#releaseOne(highest);
    return 0;
  }

  #releaseAll(own: readonly bigint[]): number {
    let released = 0;
    for (const iova of own) for (let n = this.table.get(iova) ?? 0; n > 0; n -= 1) released += this.#releaseOne(iova);
    return released;
  }

  #releaseOne(iova: bigint): number {
    this.#device?.pins.unpinAt(iova, 1);
    this.#countDown(iova);
    return 1;
  }

  #countDown(iova: bigint): void {
    const count = this.table.get(iova) ?? 0;
    if (count > 1) this.table.set(iova, count - 1);
    else this.table.delete(iova);
  }

  #left(): number {
    let left = 0;
    for (const count of this.table.values()) left += count;
    return left;
  }
}

/** The two drivers of the recordings' world: one with the duty, one without. */
export function pintestDrivers(record: (callback: CallbackRecord) => void) {
  const types = [{ id: 'pin' }];
  const made = new Map<string, PintestDevice>();
  const make = (name: string): PintestDevice => {
    const device = new PintestDevice(name, record);
    made.set(name, device);
    return device;
  };
  const pinning = defineDriver({
    name: 'pintest',
    deviceApi: 'vfio-pci',
    types,
    pins: true,
    create: ({ name }) => make(name),
  });
  const plain = defineDriver({
    name: 'pintest-no-duty',
    deviceApi: 'vfio-pci',
    types,
    pins: false,
    create: ({ name }) => {
      const device = make(name);
      return { open: () => device.open(), close: () => device.close() };
    },
  });
  return { pinning, plain, made };
}
