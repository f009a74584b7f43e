import { PAGE_SIZE } from '@pinion/core';
import type { GuestMachine } from '../guest-machine.js';
import type { GuestHeap } from './heap.js';

/** Table entry: present and writable. */
const PRESENT = 3n;
const ADDRESS = 0x0000_ffff_ffff_f000n;
const ENTRY = 8;
const ENTRIES = PAGE_SIZE / ENTRY;
/** Lowest bit of the index into the tables of each level, from the root down. */
const SHIFTS = [39, 30, 21, 12] as const;
/** Addresses begin here, so that no table index of an address is 0 by accident and a null pointer faults. */
const FIRST = 0x1_2345_6000;

/** A piece of guest memory in an address space of the GPU's. */
export interface SpaceBuffer {
  /** Guest-physical, bytes. */
  readonly at: bigint;
  readonly bytes: number;
  /** Address that the GPU's commands use, below 2^48. */
  readonly address: number;
}

/**
 * Translation tables that a guest builds for one context of the GPU: four levels of 512 entries, as a page table of a processor. New
 * tables are filled before they are linked in; entries of linked ones are written whole, 8 bytes each.
 * Source: Intel PRM, "Per-process graphics translation tables".
 */
export class GpuAddressSpace {
  /** Guest-physical address of the top-level table. */
  readonly root: bigint;
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #tables: bigint[] = [];
  readonly #buffers = new Set<SpaceBuffer>();
  #next = FIRST;

  /** @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  constructor(machine: GuestMachine, heap: GuestHeap) {
    this.#machine = machine;
    this.#heap = heap;
    this.root = this.#newTable();
  }

  /** Tables, the top-level one included. */
  get tables(): number {
    return this.#tables.length;
  }

  /** Fresh, zeroed guest memory with an address of its own. @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  allocate(bytes: number): SpaceBuffer {
    const at = this.#heap.allocate(Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE);
    this.#machine.memory.write(at, new Uint8Array(bytes));
    try {
      return this.map(at, bytes);
    } catch (cause) {
      this.#heap.free(at);
      throw cause;
    }
  }

  /** Gives guest memory from `at`, which begins a page, an address. @throws VM_GUEST_MEMORY_FULL (ENOMEM): a part of its entries may stand then. */
  map(at: bigint, bytes: number): SpaceBuffer {
    const pages = Math.ceil(bytes / PAGE_SIZE);
    const buffer = { at, bytes, address: this.#next };
    this.#next += (pages + 1) * PAGE_SIZE; // a hole behind each buffer, so that a run over its end faults
    for (let page = 0; page < pages; page++)
      this.#enter(buffer.address + page * PAGE_SIZE, (at + BigInt(page * PAGE_SIZE)) | PRESENT);
    this.#buffers.add(buffer);
    return buffer;
  }

  /** Lets the addresses of a buffer lead to other guest memory of the same size: one entry after the other. */
  remap(buffer: SpaceBuffer, at: bigint): void {
    for (let offset = 0; offset < buffer.bytes; offset += PAGE_SIZE)
      this.#enter(buffer.address + offset, (at + BigInt(offset)) | PRESENT);
  }

  /** Takes a buffer's entries out; gives memory that `allocate` took back. Its addresses are not used again. */
  release(buffer: SpaceBuffer): void {
    if (!this.#buffers.delete(buffer)) return;
    for (let offset = 0; offset < buffer.bytes; offset += PAGE_SIZE) this.#enter(buffer.address + offset, 0n);
    this.#heap.free(buffer.at);
  }

  /** Gives all tables back: when no context uses them any more. */
  destroy(): void {
    for (const buffer of [...this.#buffers]) {
      this.#buffers.delete(buffer);
      this.#heap.free(buffer.at);
    }
    for (const table of this.#tables.splice(0)) this.#heap.free(table);
  }

  #enter(address: number, entry: bigint): void {
    let table = this.root;
    for (const shift of SHIFTS.slice(0, -1)) table = this.#below(placeOf(table, address, shift));
    this.#machine.memory.write(placeOf(table, address, 12), wide(entry));
  }

  /** The table that an entry leads to; a new one if it leads to nothing. */
  #below(place: bigint): bigint {
    const found = this.#read(place);
    if (found !== 0n) return found & ADDRESS;
    const table = this.#newTable();
    this.#machine.memory.write(place, wide(table | PRESENT));
    return table;
  }

  #newTable(): bigint {
    const table = this.#heap.allocate(PAGE_SIZE);
    this.#machine.memory.write(table, new Uint8Array(PAGE_SIZE));
    this.#tables.push(table);
    return table;
  }

  #read(place: bigint): bigint {
    return new DataView(this.#machine.memory.read(place, ENTRY).buffer).getBigUint64(0, true);
  }
}

const placeOf = (table: bigint, address: number, shift: number): bigint =>
  table + BigInt((Math.floor(address / 2 ** shift) % ENTRIES) * ENTRY);

function wide(value: bigint): Uint8Array {
  const bytes = new Uint8Array(ENTRY);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}
