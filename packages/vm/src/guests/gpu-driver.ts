import {
  CONFIG,
  G2V,
  miBatchBufferEnd,
  miBatchBufferStart,
  miFlushStore,
  miUserInterrupt,
  PVINFO,
  PVINFO_CAPS,
  REGION,
} from '@pinion/gvt';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import { GpuAddressSpace, type SpaceBuffer } from './gpu-address-space.js';
import { GpuContext } from './gpu-context.js';
import { BLITTER, CONTEXTS_MAX, GpuEngine } from './gpu-engine.js';
import { GpuShare, type GraphicsBuffer, type Plane } from './gpu-share.js';
import type { GuestHeap } from './heap.js';
import { Turns } from './turns.js';

/** Milliseconds without a finished job after which the engine counts as hung. */
const TIMEOUT = 10_000;
const BATCH_BYTES = 64 * 1024;
/** Batch start, bit 8: the address is one of the context's own address space. */
const PPGTT = 1 << 8;
/** Flush: the address is one of global graphics memory. */
const GGTT = 4;
const D0 = 0;
const D3_HOT = 3;

/** A queue of work with an address space of its own. */
export interface GpuQueue {
  readonly space: GpuAddressSpace;
  /**
   * Runs commands in order, as one batch or more, and waits until they are done. Other queues' work goes on meanwhile.
   * @throws VM_GPU_HUNG (EIO), VM_UNPLUGGED, VM_KILLED.
   */
  run(commands: readonly (readonly number[])[]): Promise<void>;
  /** Gives context, ring, tables and buffers back; no work may run. */
  release(): void;
}

/**
 * A guest's graphics driver for a vGPU with execlists, as i915 works with one: it finds its share in PVINFO, tells the host of its
 * address spaces (g2v), submits contexts to the blitter, and follows status page and interrupts.
 */
export class GpuDriver {
  readonly #machine: GuestMachine;
  readonly #heap: GuestHeap;
  readonly #slot: string;
  readonly #share: GpuShare;
  readonly #engine: GpuEngine;
  readonly #queues = new Set<Queue>();

  private constructor(machine: GuestMachine, heap: GuestHeap, options: { slot: string; timeout: number }) {
    const { slot, timeout } = options;
    this.#machine = machine;
    this.#heap = heap;
    this.#slot = slot;
    this.#share = new GpuShare(machine, heap, slot);
    const wanted = PVINFO_CAPS.FULL_PPGTT | PVINFO_CAPS.HWSP;
    if ((this.#share.read(PVINFO.CAPS) & wanted) !== wanted)
      throw vmErrors.NO_EXECLISTS({ slot, caps: this.#share.read(PVINFO.CAPS) });
    this.#engine = new GpuEngine({ machine, share: this.#share, slot, facts: BLITTER, timeout });
    this.#share.write(PVINFO.DISPLAY_READY, 1);
  }

  /**
   * Takes the function in `slot` into use. `timeout`: milliseconds, default 10 000.
   * @throws VM_NO_FUNCTION, VM_NOT_A_VGPU, VM_NO_EXECLISTS (ENODEV), VM_GUEST_MEMORY_FULL (ENOMEM).
   */
  static start(machine: GuestMachine, heap: GuestHeap, options: { slot: string; timeout?: number }): GpuDriver {
    return new GpuDriver(machine, heap, { timeout: TIMEOUT, ...options });
  }

  /** Fresh, zeroed memory in global graphics memory: what the screen can show. @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  allocate(bytes: number): GraphicsBuffer {
    return this.#share.allocate(bytes);
  }

  /** Gives back what `allocate` gave. */
  free(buffer: GraphicsBuffer): void {
    this.#share.release(buffer);
  }

  /** Lets the screen show a plane. */
  show(plane: Plane): void {
    this.#share.show(plane);
  }

  /** A queue with a fresh address space. @throws VM_GUEST_MEMORY_FULL (ENOMEM), VM_TOO_MANY_QUEUES (ENOSPC). */
  createQueue(): GpuQueue {
    const used = new Set([...this.#queues].map(({ context }) => context.id));
    const id = Array.from({ length: CONTEXTS_MAX }, (_, index) => index + 1).find((one) => !used.has(one));
    if (id === undefined) throw vmErrors.TOO_MANY_QUEUES({ slot: this.#slot, most: CONTEXTS_MAX });
    const queue = this.#makeQueue(id);
    this.#queues.add(queue);
    this.#tellHost(queue.space, G2V.L4_CREATE);
    return queue;
  }

  /** To sleep (D3hot): no work may run. What is in memory stays there. */
  suspend(): void {
    this.#setPower(D3_HOT);
  }

  /** Awake again, also after the device was reset meanwhile: registers and the global table are written anew. */
  resume(): void {
    this.#setPower(D0);
    this.#share.restore();
    this.#engine.start();
  }

  /** Gives everything back: before an orderly unplug. */
  stop(): void {
    for (const queue of [...this.#queues]) queue.release();
    this.#engine.stop();
  }

  /** A failure leaves nothing behind. */
  #makeQueue(id: number): Queue {
    const { base, contextPages: pages } = BLITTER;
    const [machine, share] = [this.#machine, this.#share];
    const space = new GpuAddressSpace(machine, this.#heap);
    let context: GpuContext | undefined;
    try {
      context = new GpuContext(machine, { share, space, id, base, pages });
      return new Queue({ space, context, machine, engine: this.#engine, released: (queue) => this.#released(queue) });
    } catch (cause) {
      context?.release(share);
      space.destroy();
      throw cause;
    }
  }

  #released(queue: Queue): void {
    this.#tellHost(queue.space, G2V.L4_DESTROY);
    this.#queues.delete(queue);
    queue.context.release(this.#share);
    queue.space.destroy();
  }

  #tellHost(space: GpuAddressSpace, message: number): void {
    this.#share.write(PVINFO.PDP, Number(space.root & 0xffff_ffffn));
    this.#share.write(PVINFO.PDP + 4, Number(space.root >> 32n));
    this.#share.write(PVINFO.G2V_NOTIFY, message);
  }

  #setPower(state: number): void {
    this.#machine.pci(this.#slot).write(REGION.CONFIG, CONFIG.PMCSR, Uint8Array.of(state, 0));
  }
}

interface QueueParts {
  readonly space: GpuAddressSpace;
  readonly context: GpuContext;
  readonly machine: GuestMachine;
  readonly engine: GpuEngine;
  readonly released: (queue: Queue) => void;
}

class Queue implements GpuQueue {
  readonly space: GpuAddressSpace;
  readonly context: GpuContext;
  readonly #parts: QueueParts;
  readonly #batch: SpaceBuffer;
  /** The batch is used by one job at a time. */
  readonly #jobs = new Turns();

  constructor(parts: QueueParts) {
    this.#parts = parts;
    this.space = parts.space;
    this.context = parts.context;
    this.#batch = parts.space.allocate(BATCH_BYTES);
  }

  async run(commands: readonly (readonly number[])[]): Promise<void> {
    const room = BATCH_BYTES / 4 - 2;
    for (let from = 0; from < commands.length; ) {
      const batch: number[] = [];
      for (let next = commands[from]; next !== undefined && batch.length + next.length <= room; next = commands[++from])
        batch.push(...next);
      await this.#jobs.run(() => this.#runBatch([...batch, ...miBatchBufferEnd(), 0]));
    }
  }

  release(): void {
    this.#parts.released(this);
  }

  #runBatch(words: readonly number[]): Promise<void> {
    const { machine, engine, context } = this.#parts;
    machine.memory.write(this.#batch.at, new Uint8Array(Uint32Array.from(words).buffer));
    const seqno = engine.nextSeqno(context);
    const [start = 0, ...address] = miBatchBufferStart(this.#batch.address);
    const [flush = 0, place = 0, ...rest] = miFlushStore(engine.seqnoAddress(context), seqno);
    context.append([start | PPGTT, ...address, flush, place | GGTT, ...rest, ...miUserInterrupt()]);
    return engine.submit(context, seqno);
  }
}
