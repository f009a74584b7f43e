import {
  ADDRESS_SPACE_SIZE,
  type AddressSpace,
  asPfn,
  frameAddress,
  hex,
  PAGE_SHIFT,
  PAGE_SIZE,
  type Pfn,
  PinionError,
  pageOffset,
  type VaddrFrame,
} from '@pinion/core';
import { vmErrors } from './errors.js';
import type { MachineMemory, MemoryWindow } from './host-memory.js';
import { WriteWatches } from './write-watches.js';

/** A piece of guest RAM, in bytes; `at` and `size` are whole pages. */
export interface MemoryRegion {
  readonly name: string;
  /** Guest-physical address of its first byte. */
  readonly at: bigint;
  readonly size: bigint;
}

/** A region that is plugged: `vaddr` is where the VMM's process has it. */
export interface PluggedRegion extends MemoryRegion {
  readonly vaddr: bigint;
}

interface Slot extends PluggedRegion {
  readonly windows: readonly MemoryWindow[];
}

/** Where the first region appears in the VMM's address space. */
const FIRST_VADDR = 0x7f00_0000_0000n;
/** Regions begin on these borders, so that there is a hole between any two and a run over the end is caught. */
const VADDR_STEP = 1n << 30n;
const LAST_VADDR = 1n << 47n;

/** Gives a region its pages, in order. */
export type RamSource = (region: MemoryRegion) => readonly MemoryWindow[];

/**
 * The memory of one VM, seen from both sides: as guest-physical memory (what its programs read and write), and as part of
 * the VMM process's address space (what containers map and devices pin). Source: KVM memslots over an mm_struct.
 */
export class GuestMemory implements AddressSpace {
  readonly name: string;
  /** Traps for writes of the guest's programs. Undefined where memory is an emulator's: its CPU writes past this object. */
  readonly writeWatches: WriteWatches | undefined;
  readonly #ram: RamSource;
  readonly #slots: Slot[] = [];
  #nextVaddr = FIRST_VADDR;
  #alive = true;
  #grabs = 0;
  #locked = 0;

  /** `ram`: where pages come from; default: `machine` makes them. */
  constructor(machine: MachineMemory, name: string, ram?: RamSource) {
    this.#ram = ram ?? ((region) => machine.allocate(pagesOf(region)));
    this.writeWatches = ram === undefined ? new WriteWatches() : undefined;
    this.name = name;
  }

  get alive(): boolean {
    return this.#alive;
  }

  get lockedPages(): number {
    return this.#locked;
  }

  /** How many hold the mm_struct beyond its memory's life. */
  get grabs(): number {
    return this.#grabs;
  }

  /** What is plugged, in order of guest-physical addresses. */
  get regions(): readonly PluggedRegion[] {
    return this.#slots.map(({ name, at, size, vaddr }) => ({ name, at, size, vaddr }));
  }

  /** @throws VM_BAD_REGION (EINVAL) for parts of pages or beyond 2^64, VM_REGION_EXISTS (EEXIST) for a name or place that is taken, VM_KILLED, and what the source of its pages throws. */
  plug(region: MemoryRegion): PluggedRegion {
    this.#checkAlive(`plugging of region ${region.name}`);
    const problem = regionProblem(region);
    if (problem !== undefined) throw vmErrors.BAD_REGION({ region: region.name, problem });
    const other = this.#slots.find((slot) => slot.name === region.name || overlap(slot, region));
    if (other !== undefined) throw vmErrors.REGION_EXISTS({ region: region.name, other: other.name });
    const slot = { ...region, vaddr: this.#takeVaddr(region.size), windows: this.#ram(region) };
    this.#slots.push(slot);
    this.#slots.sort((a, b) => (a.at < b.at ? -1 : 1));
    return { name: slot.name, at: slot.at, size: slot.size, vaddr: slot.vaddr };
  }

  /**
   * Takes a region out: its addresses lead nowhere at once; pages that a device still holds live until it gives them
   * back. Unmap the region from its containers first. @throws VM_NO_REGION (ENOENT).
   */
  unplug(name: string): void {
    const index = this.#slots.findIndex((slot) => slot.name === name);
    const slot = this.#slots[index];
    if (slot === undefined) throw vmErrors.NO_REGION({ region: name });
    this.#slots.splice(index, 1);
    for (const window of slot.windows) window.disown();
  }

  /** The process ends: nothing can be pinned or copied any more; pages live on only where they are pinned. Source: exit_mm(). */
  exit(): void {
    this.#alive = false;
    for (const { name } of this.regions) this.unplug(name);
  }

  grab(): void {
    this.#grabs += 1;
  }

  drop(): void {
    this.#grabs -= 1;
  }

  accountLocked(delta: number): void {
    this.#locked += delta;
  }

  pinPage(page: VaddrFrame, _write: boolean): Pfn {
    const address = frameAddress(page);
    const slot = this.#slotAt(address, 'vaddr');
    if (slot === undefined) throw vmErrors.NO_MEMORY_AT({ guest: this.name, address, length: PAGE_SIZE });
    let index = Number((address - slot.vaddr) >> BigInt(PAGE_SHIFT));
    for (const window of slot.windows) {
      if (index < window.pages) {
        window.reference(index);
        return asPfn(window.first + index);
      }
      index -= window.pages;
    }
    throw vmErrors.NO_MEMORY_AT({ guest: this.name, address, length: PAGE_SIZE });
  }

  copy(vaddr: bigint, bytes: Uint8Array, write: boolean): boolean {
    return this.#copy({ address: vaddr, space: 'vaddr' }, bytes, write) === bytes.length;
  }

  /** Copies `length` bytes of guest-physical memory out. @throws VM_NO_MEMORY_AT (EFAULT), VM_KILLED (ECANCELED). */
  read(at: bigint, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    this.#physical(at, bytes, false);
    return bytes;
  }

  /** Copies bytes into guest-physical memory. @throws VM_NO_MEMORY_AT (EFAULT; what came before the hole is written), VM_KILLED. */
  write(at: bigint, bytes: Uint8Array): void {
    if (this.writeWatches === undefined) this.#physical(at, bytes, true);
    else this.writeWatches.write(at, bytes, (address, piece) => this.#physical(address, piece, true));
  }

  /** Whether all of `[at, at + size)` is RAM of this guest. */
  holds(at: bigint, size: bigint): boolean {
    for (let next = at; next < at + size; ) {
      const slot = this.#slotAt(next, 'at');
      if (slot === undefined) return false;
      next = slot.at + slot.size;
    }
    return true;
  }

  #physical(at: bigint, bytes: Uint8Array, write: boolean): void {
    this.#checkAlive(`access to guest-physical ${hex(at)}`);
    if (this.#copy({ address: at, space: 'at' }, bytes, write) === bytes.length) return;
    throw vmErrors.NO_MEMORY_AT({ guest: this.name, address: at, length: bytes.length });
  }

  /** @returns how many bytes could be copied. */
  #copy(from: { address: bigint; space: 'at' | 'vaddr' }, bytes: Uint8Array, write: boolean): number {
    let done = 0;
    while (done < bytes.length) {
      const piece = this.#bytesAt(from.address + BigInt(done), from.space);
      if (piece === undefined) return done;
      const length = Math.min(piece.length, bytes.length - done);
      const [source, target] = write
        ? [bytes.subarray(done, done + length), piece]
        : [piece.subarray(0, length), bytes.subarray(done)];
      target.set(source);
      done += length;
    }
    return done;
  }

  /** The live bytes from an address to the end of its window. */
  #bytesAt(address: bigint, space: 'at' | 'vaddr'): Uint8Array | undefined {
    const slot = this.#slotAt(address, space);
    if (slot === undefined) return undefined;
    let offset = Number(address - slot[space]);
    for (const { bytes } of slot.windows) {
      if (offset < bytes.length) return bytes.subarray(offset);
      offset -= bytes.length;
    }
    return undefined;
  }

  #slotAt(address: bigint, space: 'at' | 'vaddr'): Slot | undefined {
    return this.#slots.find((slot) => slot[space] <= address && address < slot[space] + slot.size);
  }

  #takeVaddr(size: bigint): bigint {
    const vaddr = this.#nextVaddr;
    this.#nextVaddr += (size / VADDR_STEP + 2n) * VADDR_STEP;
    return vaddr;
  }

  #checkAlive(what: string): void {
    if (!this.#alive) throw vmErrors.KILLED({ guest: this.name, what });
  }
}

/** Whether `error` says that the guest was killed: what unwinds its programs. */
export const isKilled = (error: unknown): boolean => error instanceof PinionError && error.name === 'VM_KILLED';

const pagesOf = (region: MemoryRegion): number => Number(region.size >> BigInt(PAGE_SHIFT));

const overlap = (a: MemoryRegion, b: MemoryRegion): boolean => a.at < b.at + b.size && b.at < a.at + a.size;

/** What is wrong with a region's place or size, for people; undefined if nothing is. */
export function regionProblem({ at, size }: { readonly at: bigint; readonly size: bigint }): string | undefined {
  if (size <= 0n) return `its size is ${size}; it needs at least one page`;
  if (at < 0n) return `its address ${at} is negative`;
  if (pageOffset(at) !== 0 || pageOffset(size) !== 0) return `${hex(at)} and ${hex(size)} must be multiples of 4096`;
  if (at + size > ADDRESS_SPACE_SIZE) return `${hex(at)} + ${hex(size)} runs over the end of a 64-bit address space`;
  if (size > LAST_VADDR - FIRST_VADDR) return `its size ${hex(size)} is more than a process can map`;
  return undefined;
}
