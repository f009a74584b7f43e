import type { RegisterFile } from './mmio.js';
import { FAULT, FAULT_BCS, FAULT_GGTT, FAULT_VALID } from './regs.js';

/** Faults that are kept one by one; further ones are only counted. */
const KEPT = 64;
const PAGES_IN_DATA0 = 2 ** 32;

/** Who touched graphics memory: the blitter, the CPU through BAR2, or the scan-out. */
export type Source = 'engine' | 'aperture' | 'display';

/** An access to a graphics address behind which no guest page stood: reads gave zeros, writes were dropped. */
export interface GraphicsFault {
  readonly source: Source;
  /** Graphics address, bytes. */
  readonly address: number;
  readonly write: boolean;
}

/** The faults of a vGPU since its last reset; the first one of the engine is also latched in the fault registers. */
export class FaultLog {
  readonly #registers: RegisterFile;
  #kept: GraphicsFault[] = [];
  #count = 0;

  constructor(registers: RegisterFile) {
    this.#registers = registers;
  }

  /** The first 64, oldest first. */
  get list(): readonly GraphicsFault[] {
    return this.#kept;
  }

  get count(): number {
    return this.#count;
  }

  record(fault: GraphicsFault): void {
    this.#count += 1;
    if (this.#kept.length < KEPT) this.#kept.push(Object.freeze(fault));
    if (fault.source === 'engine') this.#latch(Math.floor(fault.address / 4096));
  }

  clear(): void {
    this.#kept = [];
    this.#count = 0;
  }

  #latch(frame: number): void {
    if ((this.#registers.get(FAULT.REG) & FAULT_VALID) !== 0) return;
    this.#registers.set(FAULT.REG, FAULT_VALID | FAULT_BCS);
    this.#registers.set(FAULT.DATA0, frame % PAGES_IN_DATA0);
    this.#registers.set(FAULT.DATA1, FAULT_GGTT | Math.floor(frame / PAGES_IN_DATA0));
  }
}
