import { hex, PAGE_SIZE } from '@pinion/core';
import {
  BCS,
  BCS_ERROR_INTERRUPT,
  BCS_USER_INTERRUPT,
  CONFIG,
  DISPLAY,
  GTT_OFFSET,
  INTERRUPT,
  MASTER_ENABLE,
  miFlushStore,
  miNoop,
  miUserInterrupt,
  PIPE_ENABLE,
  PLANE_ENABLE,
  PLANE_FORMAT,
  PVINFO,
  PVINFO_MAGIC_HIGH,
  PVINFO_MAGIC_LOW,
  REGION,
  RING_ENABLE,
} from '@pinion/gvt';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { PciFunction } from '../pci-function.js';
import type { GuestHeap } from './heap.js';
import { Turns } from './turns.js';

const RING_PAGES = 4;
const RING_BYTES = RING_PAGES * PAGE_SIZE;
/** Table entry: present and writable. */
const PRESENT = 3n;
/** PCI command: memory decoding, bus master. */
const COMMAND_MEMORY_MASTER = 6;
const MSI_ENABLE = 1;
/** Byte of the status page where finished jobs leave their number. */
const SEQNO = 0x100;
/** A job that is done, and an engine that gave up. */
const ENGINE_INTERRUPTS = BCS_USER_INTERRUPT | BCS_ERROR_INTERRUPT;
/** Linear planes count their stride in units of this many bytes. */
const STRIDE_UNIT = 64;

export { type BlitSurface, type Rect, xyColorBlt, xySrcCopyBlt } from '@pinion/gvt';

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

/**
 * A guest's graphics driver for a GVT-g vGPU: finds its share of graphics memory in PVINFO, fills in the translation table,
 * feeds the blitter's ring and waits for its interrupts. Everything it does is a register access or a write to its own memory.
 */
export class VgpuDriver {
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #slot: string;
  readonly #pci: PciFunction;
  #free: number;
  readonly #end: number;
  readonly #ring: GraphicsBuffer;
  readonly #status: GraphicsBuffer;
  /** One job is in the ring at a time. */
  readonly #jobs = new Turns();
  #tail = 0;
  #seqno = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, slot: string) {
    this.#machine = machine;
    this.#heap = heap;
    this.#slot = slot;
    this.#pci = machine.pci(slot);
    const { base, size } = this.#findShare();
    this.#free = base;
    this.#end = base + size;
    this.#enableInterrupts();
    this.#ring = this.allocate(RING_BYTES);
    this.#status = this.allocate(PAGE_SIZE);
    this.#startRing();
  }

  /** Takes the function in `slot` into use. @throws VM_NO_FUNCTION (ENODEV), VM_NOT_A_VGPU (ENODEV), VM_GUEST_MEMORY_FULL (ENOMEM). */
  static start(machine: GuestMachine, heap: GuestHeap, slot: string): VgpuDriver {
    return new VgpuDriver(machine, heap, slot);
  }

  /** Fresh, zeroed guest memory that the GPU sees. @throws VM_GUEST_MEMORY_FULL (ENOMEM) when guest or graphics memory is used up. */
  allocate(bytes: number): GraphicsBuffer {
    const at = this.#heap.allocate(pagesOf(bytes) * PAGE_SIZE);
    this.#machine.memory.write(at, new Uint8Array(bytes));
    return this.map(at, bytes);
  }

  /** Lets the GPU see guest memory from `at`, which begins a page. @throws VM_GUEST_MEMORY_FULL (ENOMEM) when graphics memory is used up. */
  map(at: bigint, bytes: number): GraphicsBuffer {
    const address = this.#free;
    const next = address + pagesOf(bytes) * PAGE_SIZE;
    if (next > this.#end) throw vmErrors.GUEST_MEMORY_FULL({ size: bytes, used: BigInt(address) });
    this.#free = next;
    this.#writeTable(address, pagesOf(bytes), at);
    return { at, bytes, address };
  }

  /** Takes a buffer's pages out of the translation table, and gives memory that `allocate` took back. */
  release(buffer: GraphicsBuffer): void {
    this.#writeTable(buffer.address, pagesOf(buffer.bytes), undefined);
    this.#heap.free(buffer.at);
  }

  /**
   * Runs commands on the blitter and waits until they are done.
   * @throws VM_GPU_HUNG (EIO) when the engine stopped, VM_UNPLUGGED, VM_KILLED while waiting.
   */
  async run(commands: readonly (readonly number[])[]): Promise<void> {
    // A job that fills more than a quarter of the ring is cut, so that one job never runs into itself.
    for (let from = 0; from < commands.length; ) {
      const job: number[] = [];
      while (from < commands.length && job.length * 4 < RING_BYTES / 4) job.push(...(commands[from++] ?? []));
      await this.#jobs.run(() => this.#runJob(job));
    }
  }

  /** Lets the screen show a plane. */
  show({ buffer, width, height }: Plane): void {
    this.#write(DISPLAY.PIPESRC, ((width - 1) << 16) | (height - 1));
    this.#write(DISPLAY.PLANE_STRIDE, (width * 4) / STRIDE_UNIT);
    this.#write(DISPLAY.PLANE_CTL, PLANE_ENABLE | PLANE_FORMAT.XRGB8888);
    this.#write(DISPLAY.TRANSCONF, PIPE_ENABLE);
    this.#write(DISPLAY.PLANE_SURF, buffer.address);
  }

  /** Stops the engine and gives ring and status page back: before an orderly unplug. Other buffers are their owner's. */
  stop(): void {
    this.#write(BCS.CTL, 0);
    this.release(this.#ring);
    this.release(this.#status);
  }

  #findShare(): { base: number; size: number } {
    const magic = [this.#read(PVINFO.MAGIC_LOW), this.#read(PVINFO.MAGIC_HIGH)];
    if (magic[0] !== PVINFO_MAGIC_LOW || magic[1] !== PVINFO_MAGIC_HIGH)
      throw vmErrors.NOT_A_VGPU({ slot: this.#slot });
    return { base: this.#read(PVINFO.LOW_BASE), size: this.#read(PVINFO.LOW_SIZE) };
  }

  #enableInterrupts(): void {
    this.#pci.write(REGION.CONFIG, CONFIG.COMMAND, Uint8Array.of(COMMAND_MEMORY_MASTER, 0));
    this.#pci.write(REGION.CONFIG, CONFIG.MSI_CONTROL, Uint8Array.of(MSI_ENABLE, 0));
    this.#write(INTERRUPT.IMR, ~ENGINE_INTERRUPTS);
    this.#write(INTERRUPT.IER, ENGINE_INTERRUPTS);
    this.#write(INTERRUPT.MASTER, MASTER_ENABLE);
  }

  #startRing(): void {
    this.#write(BCS.HWS_PGA, this.#status.address);
    this.#write(BCS.START, this.#ring.address);
    this.#write(BCS.HEAD, 0);
    this.#write(BCS.TAIL, 0);
    this.#write(BCS.CTL, ((RING_PAGES - 1) << 12) | RING_ENABLE);
  }

  async #runJob(commands: readonly number[]): Promise<void> {
    this.#seqno += 1;
    const done = this.#seqno;
    const words = [...commands, ...miFlushStore(this.#status.address + SEQNO, done), ...miUserInterrupt()];
    if (words.length % 2 === 1) words.push(...miNoop()); // the tail counts in 8 bytes
    this.#emit(words);
    while (this.#finished() < done) {
      await this.#pci.interrupt();
      this.#acknowledge();
      const error = this.#read(BCS.EIR);
      if (error !== 0) throw vmErrors.GPU_HUNG({ slot: this.#slot, error, header: hex(this.#read(BCS.IPEHR)) });
    }
  }

  #emit(words: readonly number[]): void {
    const bytes = new Uint8Array(Uint32Array.from(words).buffer);
    const first = Math.min(bytes.length, RING_BYTES - this.#tail);
    this.#machine.memory.write(this.#ring.at + BigInt(this.#tail), bytes.subarray(0, first));
    if (first < bytes.length) this.#machine.memory.write(this.#ring.at, bytes.subarray(first));
    this.#tail = (this.#tail + bytes.length) % RING_BYTES;
    this.#write(BCS.TAIL, this.#tail);
  }

  /** Number of the last job that is done, from the status page. */
  #finished(): number {
    const word = this.#machine.memory.read(this.#status.at + BigInt(SEQNO), 4);
    return new DataView(word.buffer).getUint32(0, true);
  }

  #acknowledge(): void {
    this.#write(INTERRUPT.MASTER, 0);
    this.#write(INTERRUPT.IIR, this.#read(INTERRUPT.IIR));
    this.#write(INTERRUPT.MASTER, MASTER_ENABLE);
  }

  /** Entries for `pages` pages from graphics address `address`: to the guest pages from `at`, or to nothing. */
  #writeTable(address: number, pages: number, at: bigint | undefined): void {
    const entries = new BigUint64Array(pages);
    if (at !== undefined) {
      for (let page = 0; page < pages; page++) entries[page] = (at + BigInt(page * PAGE_SIZE)) | PRESENT;
    }
    this.#pci.write(REGION.BAR0, GTT_OFFSET + (address / PAGE_SIZE) * 8, new Uint8Array(entries.buffer));
  }

  #read(register: number): number {
    return this.#pci.read32(REGION.BAR0, register);
  }

  #write(register: number, value: number): void {
    this.#pci.write32(REGION.BAR0, register, value);
  }
}

const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE_SIZE);
