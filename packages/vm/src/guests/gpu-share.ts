import { PAGE_SIZE } from '@pinion/core';
import {
  CONFIG,
  DISPLAY,
  GTT_OFFSET,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PVINFO,
  PVINFO_MAGIC_HIGH,
  PVINFO_MAGIC_LOW,
  REGION,
} from '@pinion/gvt';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { PciFunction } from '../pci-function.js';
import type { GuestHeap } from './heap.js';

/** Table entry: present and writable. */
const PRESENT = 3n;
/** PCI command: memory decoding, bus master. */
const COMMAND_MEMORY_MASTER = 6;
const MSI_ENABLE = 1;
/** Linear planes count their stride in units of this many bytes. */
const STRIDE_UNIT = 64;

/** A piece of guest memory that the GPU sees, too: `address` is its graphics address. */
export interface GraphicsBuffer {
  readonly at: bigint;
  readonly bytes: number;
  readonly address: number;
}

/** What the screen is to show: 32-bit pixels (blue, green, red, unused). */
export interface Plane {
  readonly buffer: GraphicsBuffer;
  readonly width: number;
  readonly height: number;
}

/** Pages that so many bytes need. */
export const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE_SIZE);

/**
 * A guest's share of a GPU's global graphics memory, as PVINFO tells it: graphics addresses are handed out, and the translation table is
 * filled in with the guest's own pages. Everything is a register access or a write to the guest's memory.
 */
export class GpuShare {
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #pci: PciFunction;
  /** What `restore` writes anew, by graphics address. */
  readonly #mapped = new Map<number, GraphicsBuffer>();
  /** Pieces of the share that were given back: address and pages. */
  readonly #holes: { readonly address: number; readonly pages: number }[] = [];
  #free: number;
  readonly #end: number;

  /** @throws VM_NO_FUNCTION (ENODEV), VM_NOT_A_VGPU (ENODEV). */
  constructor(machine: GuestMachine, heap: GuestHeap, slot: string) {
    this.#machine = machine;
    this.#heap = heap;
    this.#pci = machine.pci(slot);
    const magic = [this.read(PVINFO.MAGIC_LOW), this.read(PVINFO.MAGIC_HIGH)];
    if (magic[0] !== PVINFO_MAGIC_LOW || magic[1] !== PVINFO_MAGIC_HIGH) throw vmErrors.NOT_A_VGPU({ slot });
    this.#free = this.read(PVINFO.LOW_BASE);
    this.#end = this.#free + this.read(PVINFO.LOW_SIZE);
  }

  /** Fresh, zeroed guest memory that the GPU sees. @throws VM_GUEST_MEMORY_FULL (ENOMEM) when guest or graphics memory is used up. */
  allocate(bytes: number): GraphicsBuffer {
    const at = this.#heap.allocate(pagesOf(bytes) * PAGE_SIZE);
    this.#machine.memory.write(at, new Uint8Array(bytes));
    try {
      return this.map(at, bytes);
    } catch (cause) {
      this.#heap.free(at);
      throw cause;
    }
  }

  /** Lets the GPU see guest memory from `at`, which begins a page. @throws VM_GUEST_MEMORY_FULL (ENOMEM) when graphics memory is used up. */
  map(at: bigint, bytes: number): GraphicsBuffer {
    const buffer = { at, bytes, address: this.#takeAddress(pagesOf(bytes), bytes) };
    this.#mapped.set(buffer.address, buffer);
    this.#writeTable(buffer, at);
    return buffer;
  }

  /** Takes a buffer's pages out of the translation table, and gives memory that `allocate` took back. */
  release(buffer: GraphicsBuffer): void {
    if (!this.#mapped.delete(buffer.address)) return;
    this.#writeTable(buffer, undefined);
    this.#holes.push({ address: buffer.address, pages: pagesOf(buffer.bytes) });
    this.#heap.free(buffer.at);
  }

  /** Writes the whole table anew, after a reset has emptied it. */
  restore(): void {
    for (const buffer of this.#mapped.values()) this.#writeTable(buffer, buffer.at);
  }

  /** Memory decoding, bus mastering and the message-signalled interrupt are on. */
  enable(): void {
    this.#pci.write(REGION.CONFIG, CONFIG.COMMAND, Uint8Array.of(COMMAND_MEMORY_MASTER, 0));
    this.#pci.write(REGION.CONFIG, CONFIG.MSI_CONTROL, Uint8Array.of(MSI_ENABLE, 0));
  }

  /** Lets the screen show a plane. */
  show({ buffer, width, height }: Plane): void {
    this.write(DISPLAY.PIPESRC, ((width - 1) << 16) | (height - 1));
    this.write(DISPLAY.PLANE_STRIDE, (width * 4) / STRIDE_UNIT);
    this.write(DISPLAY.PLANE_CTL, PLANE_ENABLE | PLANE_FORMAT.XRGB8888);
    this.write(DISPLAY.TRANSCONF, PIPE_ENABLE);
    this.write(DISPLAY.PLANE_SURF, buffer.address);
  }

  /** A register of BAR0. */
  read(register: number): number {
    return this.#pci.read32(REGION.BAR0, register);
  }

  write(register: number, value: number): void {
    this.#pci.write32(REGION.BAR0, register, value);
  }

  /** A piece that was given back if one is large enough, else a new one. */
  #takeAddress(pages: number, bytes: number): number {
    const index = this.#holes.findIndex((hole) => hole.pages >= pages);
    const hole = this.#holes[index];
    if (hole !== undefined) {
      const rest = { address: hole.address + pages * PAGE_SIZE, pages: hole.pages - pages };
      this.#holes.splice(index, 1, ...(rest.pages > 0 ? [rest] : []));
      return hole.address;
    }
    const address = this.#free;
    const next = address + pages * PAGE_SIZE;
    if (next > this.#end) throw vmErrors.GUEST_MEMORY_FULL({ size: bytes, used: BigInt(address) });
    this.#free = next;
    return address;
  }

  /** Entries for a buffer's graphics pages: to the guest pages from `at`, or to nothing. */
  #writeTable({ address, bytes }: GraphicsBuffer, at: bigint | undefined): void {
    const entries = new BigUint64Array(pagesOf(bytes));
    if (at !== undefined) {
      for (let page = 0; page < entries.length; page++) entries[page] = (at + BigInt(page * PAGE_SIZE)) | PRESENT;
    }
    this.#pci.write(REGION.BAR0, GTT_OFFSET + (address / PAGE_SIZE) * 8, new Uint8Array(entries.buffer));
  }
}
