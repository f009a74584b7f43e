import { hex, type Log, PinionError } from '@pinion/core';
import type { Failsafe } from './failsafe.js';
import { FewWarnings } from './few-warnings.js';
import type { RegisterFile } from './mmio.js';
import type { PpgttRoot } from './ppgtt/mm.js';
import type { Ppgtt } from './ppgtt/ppgtt.js';
import { G2V, PVINFO, PVINFO_CAPS, PVINFO_MAGIC_HIGH, PVINFO_MAGIC_LOW } from './regs.js';
import type { VgpuResources } from './types.js';

/** What a guest may write; writes elsewhere in the page are lost. */
const WRITABLE: readonly (readonly [first: number, bytes: number])[] = [
  [PVINFO.DISPLAY_READY, 4],
  [PVINFO.CURSOR_X_HOT, 8],
  [PVINFO.PDP, 32],
  [PVINFO.DESCRIPTOR, 8],
];
const RESERVED_BYTES = 16;
/** Notifications that mean nothing here: contexts are seen when they are submitted, and the screen needs no leave. */
const IGNORED: readonly number[] = [G2V.DISPLAY_READY, G2V.EXECLIST_CONTEXT_CREATE, G2V.EXECLIST_CONTEXT_DESTROY];

/** What PVINFO speaks for. */
export interface PvinfoParts {
  readonly registers: RegisterFile;
  readonly ppgtt: Ppgtt;
  readonly failsafe: Failsafe;
  readonly log: Log;
  readonly resources: VgpuResources;
}

/**
 * The page of registers by which a guest learns that it runs on a vGPU, what it owns, and tells of its per-process tables.
 * Source: i915_pvinfo.h; i915 gvt handlers.c, pvinfo_mmio_read/write.
 */
export class Pvinfo {
  readonly #parts: PvinfoParts;
  readonly #warnings: FewWarnings;
  #notified = false;

  constructor(parts: PvinfoParts) {
    this.#parts = parts;
    this.#warnings = new FewWarnings(parts.log);
    this.#define();
  }

  /** The guest has read the page: it knows. */
  get notified(): boolean {
    return this.#notified;
  }

  /** As new, and not read yet. */
  reset(): void {
    this.#notified = false;
    this.#warnings.reset();
    this.fill();
  }

  /** Fills the page in. */
  fill(): void {
    const { registers, resources } = this.#parts;
    const { id, low, high, type } = resources;
    registers.set(PVINFO.MAGIC_LOW, PVINFO_MAGIC_LOW);
    registers.set(PVINFO.MAGIC_HIGH, PVINFO_MAGIC_HIGH);
    registers.set(PVINFO.VERSION, 1);
    registers.set(PVINFO.ID, id);
    registers.set(PVINFO.CAPS, PVINFO_CAPS.FULL_PPGTT | PVINFO_CAPS.HWSP | PVINFO_CAPS.HUGE_GTT);
    registers.set(PVINFO.LOW_BASE, low.base);
    registers.set(PVINFO.LOW_SIZE, low.size);
    registers.set(PVINFO.HIGH_BASE, high.base);
    registers.set(PVINFO.HIGH_SIZE, high.size);
    registers.set(PVINFO.FENCES, type.fences);
    registers.set(PVINFO.CURSOR_X_HOT, 0xffffffff);
    registers.set(PVINFO.CURSOR_Y_HOT, 0xffffffff);
  }

  #define(): void {
    const { registers } = this.#parts;
    for (let offset: number = PVINFO.BASE; offset < PVINFO.BASE + PVINFO.SIZE; offset += 4) {
      registers.define(offset, { read: () => this.#read(offset), write: (value) => this.#write(offset, value) });
    }
  }

  #read(offset: number): number {
    this.#notified = true;
    return this.#parts.registers.get(offset);
  }

  #write(offset: number, value: number): void {
    const { registers, failsafe } = this.#parts;
    if (offset >= PVINFO.RESERVED && offset < PVINFO.RESERVED + RESERVED_BYTES) {
      failsafe.enter('the guest wrote to a reserved word of PVINFO');
    } else if (offset === PVINFO.G2V_NOTIFY) {
      registers.set(offset, value);
      this.#notify(value);
    } else if (WRITABLE.some(([first, bytes]) => offset >= first && offset < first + bytes)) {
      registers.set(offset, value);
    } else this.#warnings.warn(`write of ${hex(value)} to PVINFO + ${hex(offset - PVINFO.BASE)} is lost`);
  }

  /** What a notification asks for and cannot be had is logged; the guest hears of it when it uses the table. */
  #notify(message: number): void {
    const { ppgtt } = this.#parts;
    try {
      if (message === G2V.L3_CREATE) ppgtt.createByRoot(this.#root(3));
      else if (message === G2V.L4_CREATE) ppgtt.createByRoot(this.#root(4));
      else if (message === G2V.L3_DESTROY) ppgtt.destroyByRoot(this.#root(3));
      else if (message === G2V.L4_DESTROY) ppgtt.destroyByRoot(this.#root(4));
      else if (!IGNORED.includes(message)) this.#warnings.warn(`guest notification ${message} means nothing`);
    } catch (cause) {
      if (!(cause instanceof PinionError)) throw cause;
      this.#warnings.warn(`guest notification ${message} failed`, cause);
    }
  }

  #root(levels: 3 | 4): PpgttRoot {
    const { registers } = this.#parts;
    const pdp = (index: number): number =>
      registers.get(PVINFO.PDP + index * 8) + registers.get(PVINFO.PDP + index * 8 + 4) * 2 ** 32;
    return { levels, pdps: levels === 4 ? [pdp(0)] : [0, 1, 2, 3].map(pdp) };
  }
}
