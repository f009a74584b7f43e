import type { RegisterFile } from './mmio.js';
import { FAULT, FAULT_ENGINE_SHIFT, FAULT_GGTT, FAULT_TYPE_SHIFT, FAULT_VALID } from './regs.js';

/** Faults that are kept one by one; further ones are only counted. */
const KEPT = 64;
const PAGES_IN_DATA0 = 2 ** 32;

/** Engines by name, and their ids in the fault register. Source: Intel PRM (Skylake), "Fault register", engine id. */
export const FAULT_ENGINES = Object.freeze({ rcs: 0, vcs: 1, bcs: 2, vecs: 3, vcs2: 4 });
export type EngineName = keyof typeof FAULT_ENGINES;

/** Who touched graphics memory: an engine, the CPU through BAR2, or the scan-out. */
export type Source = EngineName | 'aperture' | 'display';

/** An access to a graphics address behind which no guest page stood: reads gave zeros, writes were dropped. */
export interface GraphicsFault {
  readonly source: Source;
  /** Graphics address, bytes. */
  readonly address: number;
  readonly write: boolean;
  /** The table that had no page there: the global one or a process's. */
  readonly table: 'ggtt' | 'ppgtt';
  /** Level of the entry that led nowhere, 1 (a page's) to 4; always 1 in the global table. */
  readonly level: number;
}

/** The faults of a vGPU since its last reset; the first one of an engine is also latched in the fault registers. */
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
    if (fault.source !== 'aperture' && fault.source !== 'display') this.#latch(fault, FAULT_ENGINES[fault.source]);
  }

  clear(): void {
    this.#kept = [];
    this.#count = 0;
  }

  #latch({ address, level, table }: GraphicsFault, engine: number): void {
    if ((this.#registers.get(FAULT.REG) & FAULT_VALID) !== 0) return;
    const frame = Math.floor(address / 4096);
    const where = table === 'ggtt' ? FAULT_GGTT : 0;
    this.#registers.set(FAULT.REG, (engine << FAULT_ENGINE_SHIFT) | ((level - 1) << FAULT_TYPE_SHIFT) | FAULT_VALID);
    this.#registers.set(FAULT.DATA0, frame % PAGES_IN_DATA0);
    this.#registers.set(FAULT.DATA1, where | Math.floor(frame / PAGES_IN_DATA0));
  }
}
