import {
  AP_IRQ,
  type ApDevice,
  type ApGuest,
  type Apqn,
  type ApStatus,
  conditionCode,
  type PqapResult,
} from '@pinion/ap';
import { frameAddress, type IovaFrame, PAGE_SIZE } from '@pinion/core';
import { vmErrors } from './errors.js';
import { EventQueue } from './event-queue.js';
import type { GuestMemory } from './guest-memory.js';

/** What NQAP leaves behind. */
export interface NqapResult {
  readonly cc: 0 | 3;
  readonly status: ApStatus;
}

/** What DQAP leaves behind; `length` bytes were stored, `remaining` bytes of the same reply are still there. */
export interface DequeueResult extends NqapResult {
  readonly psmid: bigint;
  readonly length: number;
  readonly remaining: number;
}

/**
 * The AP instructions of a guest's processors, its adapter interrupts, and what it is told of changes of its matrix. Messages lie in guest memory. A guest without
 * an AP matrix device has no queues: every instruction answers condition code 3, like on a machine without cards.
 * Source: z/Architecture adjunct processor instructions as KVM intercepts or interprets them; reference C.3, C.6, F.2.
 */
export class ApInstructions implements ApGuest {
  readonly #memory: GuestMemory;
  #interrupts = new EventQueue<number>();
  #changes = new EventQueue<void>();
  #device: ApDevice | undefined;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Gives the guest a matrix that is open. Called by the hypervisor. @returns the undo; its argument is what programs that wait are told. */
  connect(device: ApDevice): (reason: unknown) => void {
    this.#device = device;
    device.setIrqSink((index) => {
      if (index === AP_IRQ.CFG_CHG) this.#changes.push();
    });
    return (reason) => {
      device.setIrqSink(undefined);
      this.#device = undefined;
      for (const waits of [this.#interrupts, this.#changes]) waits.end(reason);
      this.#interrupts = new EventQueue();
      this.#changes = new EventQueue();
    };
  }

  /** PQAP with its general registers. `undefined`: no matrix, the instruction is not installed. @throws AP_OPERATION_EXCEPTION, AP_SPECIFICATION_EXCEPTION. */
  pqap(gr0: bigint, gr1: bigint, gr2: bigint): PqapResult | undefined {
    return this.#device?.pqap(gr0, gr1, gr2);
  }

  /** NQAP of `length` bytes at guest-physical `at`. @throws VM_NO_MEMORY_AT (EFAULT), VM_KILLED. */
  nqap(
    apqn: Apqn,
    message: { readonly psmid: bigint; readonly at: bigint; readonly length: number },
  ): NqapResult | undefined {
    const bytes = this.#memory.read(message.at, message.length);
    const status = this.#device?.nqap(apqn, message.psmid, bytes);
    return status === undefined ? undefined : { cc: conditionCode(status), status };
  }

  /**
   * DQAP of at most `length` bytes to guest-physical `at`. All of the buffer must be there, or no reply is taken.
   * @throws VM_NO_MEMORY_AT (EFAULT), VM_KILLED.
   */
  dqap(apqn: Apqn, buffer: { readonly at: bigint; readonly length: number }): DequeueResult | undefined {
    this.#checkBuffer(buffer);
    const reply = this.#device?.dqap(apqn, buffer.length);
    if (reply === undefined) return undefined;
    const { status, psmid, message, remaining } = reply;
    if (message.length > 0) this.#memory.write(buffer.at, message);
    return { cc: conditionCode(status), status, psmid, length: message.length, remaining };
  }

  /** The next adapter interrupt: its interruption subclass. Rejects when the matrix goes or the guest is killed, or with VM_NO_MATRIX (ENODEV). */
  adapterInterrupt(): Promise<number> {
    return this.#device === undefined ? Promise.reject(vmErrors.NO_MATRIX({})) : this.#interrupts.next();
  }

  /** The next change of the guest's matrix: adapters or domains came or went. Rejects as `adapterInterrupt`. */
  configurationChange(): Promise<void> {
    return this.#device === undefined ? Promise.reject(vmErrors.NO_MATRIX({})) : this.#changes.next();
  }

  /** ApGuest: the card signals. */
  interrupt(isc: number): void {
    this.#interrupts.push(isc);
  }

  /** ApGuest: whether the notification page is RAM of this guest. */
  hasPage(page: IovaFrame): boolean {
    return this.#memory.holds(frameAddress(page), BigInt(PAGE_SIZE));
  }

  #checkBuffer({ at, length }: { readonly at: bigint; readonly length: number }): void {
    const { alive, name } = this.#memory;
    if (!alive) throw vmErrors.KILLED({ guest: name, what: 'DQAP' });
    if (length > 0 && !this.#memory.holds(at, BigInt(length))) {
      throw vmErrors.NO_MEMORY_AT({ guest: name, address: at, length });
    }
  }
}
