import { type Clock, hex, PAGE_SIZE } from '@pinion/core';
import { INTERRUPT, MASTER_ENABLE } from '@pinion/gvt';
import { vmErrors } from '../errors.js';
import type { GuestMachine } from '../guest-machine.js';
import type { PciFunction } from '../pci-function.js';
import type { GpuContext } from './gpu-context.js';
import type { GpuShare, GraphicsBuffer } from './gpu-share.js';

/** An engine, by its register base; `resetBit` in GDRST; `interrupts`: its user, error and context switch bits in the first bank. */
export interface EngineFacts {
  readonly base: number;
  readonly resetBit: number;
  readonly interrupts: number;
  /** Pages of a context image. */
  readonly contextPages: number;
}

/** The blitter. Source: Intel PRM (Skylake). */
export const BLITTER: EngineFacts = Object.freeze({
  base: 0x22000,
  resetBit: 1 << 3,
  interrupts: (1 << 16) | (1 << 19) | (1 << 24),
  contextPages: 2,
});

/** Registers of an engine, as offsets from its base. */
const RING = { IPEHR: 0x68, HWS_PGA: 0x80, EIR: 0xb0, ELSP: 0x230, MODE: 0x29c, CSB_POINTER: 0x3a0 } as const;
const GDRST = 0x941c;
/** RING_MODE: execlists, with the mask bit that lets it change. */
const EXECLIST = 0x8000_8000;
/** Context status in the status page: six entries of 8 bytes, then the number of the newest. */
const CSB = { AT: 0x40, ENTRIES: 6, POINTER: 0x7c, COMPLETE: 1 << 4 } as const;
/** The pointer before the first entry. */
const NO_ENTRY = 5;
const READ_POINTER_MASK = 0x0700_0000;
/** Where finished jobs leave their numbers: for each context a dword, at a multiple of 8 as the command wants. */
const SEQNOS = 0x200;
const SEQNO_STEP = 8;
/** Contexts that can be at once: the status page has no room for more numbers. */
export const CONTEXTS_MAX = (PAGE_SIZE - SEQNOS) / SEQNO_STEP;

interface Request {
  readonly context: GpuContext;
  readonly seqno: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** What an engine driver works with. `timeout`: milliseconds after which an engine that finishes nothing counts as hung. */
export interface EngineParts {
  readonly machine: GuestMachine;
  readonly share: GpuShare;
  readonly slot: string;
  readonly facts: EngineFacts;
  readonly timeout: number;
}

/**
 * Submits contexts to one engine by execlists, two at a time, and follows the context status buffer in the status page: what i915 does.
 * A context that is alone on the engine is submitted again when it gets more work (lite restore).
 */
export class GpuEngine {
  readonly #parts: EngineParts;
  readonly #pci: PciFunction;
  readonly #clock: Clock;
  readonly #status: GraphicsBuffer;
  /** Contexts with work that the engine has not been told of. */
  readonly #queue: GpuContext[] = [];
  /** Contexts of the last submission that have not left the engine, in order. */
  #running: GpuContext[] = [];
  readonly #waiting = new Set<Request>();
  readonly #seqnos = new Map<number, number>();
  #entry = NO_ENTRY;
  #listening = false;
  #watchdog: (() => void) | undefined;

  /** @throws VM_GUEST_MEMORY_FULL (ENOMEM). */
  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#pci = parts.machine.pci(parts.slot);
    this.#clock = parts.machine.clock;
    this.#status = parts.share.allocate(PAGE_SIZE);
    this.start();
  }

  /** Switches execlists and interrupts on: at first, and after a reset of the device. */
  start(): void {
    const { share, facts } = this.#parts;
    this.#queue.length = 0;
    this.#running = [];
    share.enable();
    share.write(INTERRUPT.IMR, ~facts.interrupts);
    share.write(INTERRUPT.IER, facts.interrupts);
    share.write(INTERRUPT.MASTER, MASTER_ENABLE);
    share.write(facts.base + RING.HWS_PGA, this.#status.address);
    share.write(facts.base + RING.MODE, EXECLIST);
    this.#syncEntries();
  }

  /** Graphics address at which a context's finished jobs leave their number. */
  seqnoAddress(context: GpuContext): number {
    return this.#status.address + seqnoPlace(context);
  }

  /** The number that the next job of a context must leave. */
  nextSeqno(context: GpuContext): number {
    const seqno = (this.#seqnos.get(context.id) ?? 0) + 1;
    this.#seqnos.set(context.id, seqno);
    return seqno;
  }

  /**
   * Submits what was appended to the context's ring; settles when `seqno` has been left.
   * @throws VM_GPU_HUNG (EIO) when the engine stopped or finished nothing in time; VM_UNPLUGGED, VM_KILLED.
   */
  submit(context: GpuContext, seqno: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.add({ context, seqno, resolve, reject });
      if (!this.#queue.includes(context)) this.#queue.push(context);
      this.#readEntries();
      this.#kick();
      this.#armWatchdog();
      if (!this.#listening) void this.#listen();
    });
  }

  /** Everything that waits fails, and the engine begins anew. */
  reset(reason: unknown): void {
    const { share, facts } = this.#parts;
    share.write(GDRST, facts.resetBit);
    for (const context of new Set([...this.#running, ...this.#queue])) context.rewind();
    this.start();
    this.#fail(reason);
  }

  /** Gives the status page back. */
  stop(): void {
    this.#watchdog?.();
    this.#parts.share.write(INTERRUPT.MASTER, 0);
    this.#parts.share.release(this.#status);
  }

  #kick(): void {
    const [running] = this.#running;
    const [next] = this.#queue;
    if (next === undefined) return;
    if (running === undefined) this.#submit(this.#queue.splice(0, 2));
    else if (this.#running.length === 1 && running === next) this.#submit(this.#queue.splice(0, 1));
  }

  /** Four writes: second context first, upper half first. */
  #submit(contexts: readonly GpuContext[]): void {
    const port = this.#parts.facts.base + RING.ELSP;
    const [first, second] = contexts;
    this.#running = [...contexts];
    for (const context of [second, first]) {
      const { low, high } = context?.descriptor ?? { low: 0, high: 0 };
      this.#parts.share.write(port, high);
      this.#parts.share.write(port, low);
    }
  }

  /** Serves interrupts as long as somebody waits for a job. */
  async #listen(): Promise<void> {
    this.#listening = true;
    try {
      while (this.#waiting.size > 0) {
        await this.#pci.interrupt();
        this.#serve();
      }
    } catch (reason) {
      this.#fail(reason);
    } finally {
      this.#listening = false;
    }
  }

  #serve(): void {
    const { share, facts, slot } = this.#parts;
    share.write(INTERRUPT.MASTER, 0);
    share.write(INTERRUPT.IIR, share.read(INTERRUPT.IIR));
    this.#readEntries();
    this.#finish();
    const error = share.read(facts.base + RING.EIR);
    if (error !== 0) {
      this.reset(vmErrors.GPU_HUNG({ slot, error, header: hex(share.read(facts.base + RING.IPEHR)) }));
      return;
    }
    this.#kick();
    share.write(INTERRUPT.MASTER, MASTER_ENABLE);
  }

  /** Takes note of contexts that have left the engine. */
  #readEntries(): void {
    const newest = this.#statusDword(CSB.POINTER);
    if (newest === this.#entry) return;
    while (this.#entry !== newest) {
      this.#entry = (this.#entry + 1) % CSB.ENTRIES;
      const status = this.#statusDword(CSB.AT + this.#entry * 8);
      const id = this.#statusDword(CSB.AT + this.#entry * 8 + 4);
      if ((status & CSB.COMPLETE) !== 0) this.#running = this.#running.filter((context) => context.id !== id);
    }
    this.#parts.share.write(this.#parts.facts.base + RING.CSB_POINTER, READ_POINTER_MASK | (this.#entry << 8));
  }

  #finish(): void {
    for (const request of this.#waiting) {
      if (this.#statusDword(seqnoPlace(request.context)) < request.seqno) continue;
      this.#waiting.delete(request);
      this.#armWatchdog();
      request.resolve();
    }
  }

  #fail(reason: unknown): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#armWatchdog();
    for (const { reject } of waiting) reject(reason);
  }

  /** Anew with every job that comes or ends. */
  #armWatchdog(): void {
    const { slot, timeout } = this.#parts;
    this.#watchdog?.();
    this.#watchdog = undefined;
    if (this.#waiting.size === 0) return;
    this.#watchdog = this.#clock.after(timeout, () => {
      this.reset(vmErrors.GPU_HUNG({ slot, error: 0, header: `none (nothing was finished for ${timeout} ms)` }));
    });
  }

  /** Begins to read the status buffer where the engine writes next. */
  #syncEntries(): void {
    const { share, facts, machine } = this.#parts;
    const newest = share.read(facts.base + RING.CSB_POINTER) & 7;
    this.#entry = newest >= CSB.ENTRIES ? NO_ENTRY : newest;
    machine.memory.write(this.#status.at + BigInt(CSB.POINTER), new Uint8Array(Uint32Array.of(this.#entry).buffer));
  }

  #statusDword(offset: number): number {
    const bytes = this.#parts.machine.memory.read(this.#status.at + BigInt(offset), 4);
    return new DataView(bytes.buffer).getUint32(0, true);
  }
}

const seqnoPlace = ({ id }: GpuContext): number => SEQNOS + (id - 1) * SEQNO_STEP;
