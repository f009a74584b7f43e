import type { Interrupts } from '../interrupts.js';
import { READ_ONLY, type RegisterFile } from '../mmio.js';
import { type ContextDescriptor, isSameContext, isValid, NO_CONTEXT } from './context-descriptor.js';
import { type Engine, RING } from './engines.js';

/** Bits of the lower half of a context status entry. Source: Intel PRM, "Context status". */
export const CSB = {
  IDLE_TO_ACTIVE: 1 << 0,
  PREEMPTED: 1 << 1,
  ELEMENT_SWITCH: 1 << 2,
  ACTIVE_TO_IDLE: 1 << 3,
  COMPLETE: 1 << 4,
  LITE_RESTORE: 1 << 15,
} as const;
export const CSB_ENTRIES = 6;
/** The write pointer after a reset: the first entry is number 0. */
const NEVER_WRITTEN = 7;
const WRITE_POINTER = 7;
const READ_POINTER = 7 << 8;

/** Lower half of the execlist status. */
export const EXECLIST_STATUS = {
  CURRENT: 1 << 0,
  WRITE_POINTER: 1 << 1,
  QUEUE_FULL: 1 << 2,
  VALID_1: 1 << 3,
  VALID_0: 1 << 4,
  ACTIVE_1: 1 << 17,
  ACTIVE_0: 1 << 18,
} as const;

/** Byte offsets in the hardware status page: the mirrored buffer, and the pointer to its newest entry. */
export const HWSP_CSB = 0x40;
export const HWSP_CSB_POINTER = 0x7c;

/** Two contexts that were submitted together; `index` is the slot of the hardware that holds them. */
export interface ExeclistSlot {
  readonly index: 0 | 1;
  readonly contexts: readonly [ContextDescriptor, ContextDescriptor];
}

export interface ExeclistParts {
  readonly engine: Engine;
  readonly registers: RegisterFile;
  readonly interrupts: Interrupts;
  /** Writes dwords into the hardware status page, or nothing if the guest has none. */
  readonly writeStatusPage: (offset: number, dwords: readonly number[]) => void;
}

/**
 * What a guest sees of one engine's scheduling: two slots of two contexts, the status register, and the context status buffer with
 * its mirror in the hardware status page. The mirror is written before the interrupt. Source: i915 gvt execlist.c.
 */
export class ExeclistState {
  readonly #parts: ExeclistParts;
  #running: ExeclistSlot | undefined;
  /** Which of the running slot's contexts is on the engine. */
  #element: 0 | 1 = 0;
  #pending: ExeclistSlot | undefined;

  constructor(parts: ExeclistParts) {
    this.#parts = parts;
    const { base } = parts.engine;
    const { registers } = parts;
    for (let entry = 0; entry < CSB_ENTRIES * 2; entry++) registers.define(base + RING.CSB + entry * 4, READ_ONLY);
    for (const half of [0, 4]) registers.define(base + RING.EXECLIST_STATUS + half, READ_ONLY);
    registers.define(base + RING.CSB_POINTER, { write: (value) => this.#writePointer(value) });
  }

  /** Whether another submission would have no slot. */
  get full(): boolean {
    return this.#pending !== undefined;
  }

  /** No context anywhere; the buffer is empty. */
  reset(): void {
    const { registers, engine } = this.#parts;
    this.#running = undefined;
    this.#pending = undefined;
    this.#element = 0;
    for (let entry = 0; entry < CSB_ENTRIES * 2; entry++) registers.set(engine.base + RING.CSB + entry * 4, 0);
    registers.set(engine.base + RING.CSB_POINTER, (NEVER_WRITTEN << 8) | NEVER_WRITTEN);
    this.#showStatus();
  }

  /** Two contexts, of which the second may be none, are given to the engine. Must not be called while `full`. @returns what holds them. */
  scheduleIn(contexts: readonly [ContextDescriptor, ContextDescriptor]): ExeclistSlot {
    const running = this.#running;
    const slot: ExeclistSlot = { index: running?.index === 0 ? 1 : 0, contexts };
    if (running === undefined) this.#enter(slot, CSB.IDLE_TO_ACTIVE, 0);
    else if (this.#continues(running, contexts[0]))
      this.#enter(slot, CSB.LITE_RESTORE | CSB.PREEMPTED, contexts[0].high);
    else {
      this.#pending = slot;
      this.#showStatus();
    }
    return slot;
  }

  /** Whether these contexts have not come to the engine yet. */
  isPending(slot: ExeclistSlot | undefined): boolean {
    return slot !== undefined && slot === this.#pending;
  }

  /** The running context has left the engine. */
  scheduleOut(context: ContextDescriptor): void {
    const running = this.#running;
    if (running === undefined || !isSameContext(running.contexts[this.#element], context)) return;
    if (this.#element === 0 && isValid(running.contexts[1])) {
      this.#element = 1;
      this.#showStatus();
      this.#report(CSB.COMPLETE | CSB.ELEMENT_SWITCH, context.high);
    } else {
      this.#leave(context);
    }
    this.#parts.interrupts.raise(this.#parts.engine.events.contextSwitch);
  }

  #leave(context: ContextDescriptor): void {
    const next = this.#pending;
    this.#running = next;
    this.#pending = undefined;
    this.#element = 0;
    this.#showStatus();
    this.#report(CSB.COMPLETE | CSB.ACTIVE_TO_IDLE, context.high);
    if (next !== undefined) this.#report(CSB.IDLE_TO_ACTIVE, 0);
  }

  /** Whether the new context is the last one of the running slot, and is on the engine. */
  #continues({ contexts }: ExeclistSlot, context: ContextDescriptor): boolean {
    const last = isValid(contexts[1]) ? 1 : 0;
    return this.#element === last && isSameContext(contexts[last], context);
  }

  #enter(slot: ExeclistSlot, bits: number, id: number): void {
    this.#running = slot;
    this.#element = 0;
    this.#showStatus();
    this.#report(bits, id);
    this.#parts.interrupts.raise(this.#parts.engine.events.contextSwitch);
  }

  #showStatus(): void {
    const { registers, engine } = this.#parts;
    const at = engine.base + RING.EXECLIST_STATUS;
    registers.set(at, statusOf(this.#running, this.#pending));
    registers.set(at + 4, (this.#running?.contexts[this.#element] ?? NO_CONTEXT).high);
  }

  #report(low: number, high: number): void {
    const { registers, engine, writeStatusPage } = this.#parts;
    const pointer = registers.get(engine.base + RING.CSB_POINTER);
    const last = pointer & WRITE_POINTER;
    const entry = last === NEVER_WRITTEN ? 0 : (last + 1) % CSB_ENTRIES;
    registers.set(engine.base + RING.CSB + entry * 8, low);
    registers.set(engine.base + RING.CSB + entry * 8 + 4, high);
    registers.set(engine.base + RING.CSB_POINTER, (pointer & ~WRITE_POINTER) | entry);
    writeStatusPage(HWSP_CSB + entry * 8, [low, high]);
    writeStatusPage(HWSP_CSB_POINTER, [entry]);
  }

  /** Only the read pointer is the guest's, through its mask in the upper half. */
  #writePointer(value: number): void {
    const { registers, engine } = this.#parts;
    const at = engine.base + RING.CSB_POINTER;
    const mask = (value >>> 16) & READ_POINTER;
    registers.set(at, (registers.get(at) & ~mask) | (value & mask));
  }
}

function statusOf(running: ExeclistSlot | undefined, pending: ExeclistSlot | undefined): number {
  const full = pending === undefined ? 0 : EXECLIST_STATUS.QUEUE_FULL;
  if (running === undefined) return full;
  if (running.index === 0)
    return full | EXECLIST_STATUS.WRITE_POINTER | EXECLIST_STATUS.VALID_0 | EXECLIST_STATUS.ACTIVE_0;
  return full | EXECLIST_STATUS.CURRENT | EXECLIST_STATUS.VALID_1 | EXECLIST_STATUS.ACTIVE_1;
}
