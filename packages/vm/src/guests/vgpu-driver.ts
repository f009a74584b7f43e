import { hex, PAGE_SIZE } from '@pinion/core';
import {
  BCS,
  BCS_ERROR_INTERRUPT,
  BCS_USER_INTERRUPT,
  INTERRUPT,
  MASTER_ENABLE,
  miFlushStore,
  miNoop,
  miUserInterrupt,
  RING_ENABLE,
} from '@pinion/gvt';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { PciFunction } from '../pci-function.js';
import { GpuShare, type GraphicsBuffer, type Plane } from './gpu-share.js';
import type { GuestHeap } from './heap.js';
import { Turns } from './turns.js';

const RING_PAGES = 4;
const RING_BYTES = RING_PAGES * PAGE_SIZE;
/** Byte of the status page where finished jobs leave their number. */
const SEQNO = 0x100;
/** A job that is done, and an engine that gave up. */
const ENGINE_INTERRUPTS = BCS_USER_INTERRUPT | BCS_ERROR_INTERRUPT;

export { type BlitSurface, type Rect, xyColorBlt, xySrcCopyBlt } from '@pinion/gvt';
export type { GraphicsBuffer, Plane } from './gpu-share.js';

/**
 * A guest's graphics driver for a GVT-g vGPU: finds its share of graphics memory in PVINFO, fills in the translation table,
 * feeds the blitter's ring and waits for its interrupts. Everything it does is a register access or a write to its own memory.
 */
export class VgpuDriver {
  readonly #machine: GuestMachine;
  readonly #slot: string;
  readonly #pci: PciFunction;
  readonly #share: GpuShare;
  readonly #ring: GraphicsBuffer;
  readonly #status: GraphicsBuffer;
  /** One job is in the ring at a time. */
  readonly #jobs = new Turns();
  #tail = 0;
  #seqno = 0;

  private constructor(machine: GuestMachine, heap: GuestHeap, slot: string) {
    this.#machine = machine;
    this.#slot = slot;
    this.#share = new GpuShare(machine, heap, slot);
    this.#pci = machine.pci(slot);
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
    return this.#share.allocate(bytes);
  }

  /** Lets the GPU see guest memory from `at`, which begins a page. @throws VM_GUEST_MEMORY_FULL (ENOMEM) when graphics memory is used up. */
  map(at: bigint, bytes: number): GraphicsBuffer {
    return this.#share.map(at, bytes);
  }

  /** Takes a buffer's pages out of the translation table, and gives memory that `allocate` took back. */
  release(buffer: GraphicsBuffer): void {
    this.#share.release(buffer);
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
  show(plane: Plane): void {
    this.#share.show(plane);
  }

  /** Stops the engine and gives ring and status page back: before an orderly unplug. Other buffers are their owner's. */
  stop(): void {
    this.#write(BCS.CTL, 0);
    this.release(this.#ring);
    this.release(this.#status);
  }

  #enableInterrupts(): void {
    this.#share.enable();
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

  #read(register: number): number {
    return this.#share.read(register);
  }

  #write(register: number, value: number): void {
    this.#share.write(register, value);
  }
}
