import { type Log, silentLog, type Undo } from '@pinion/core';
import { iommuErrors } from './errors.js';

/**
 * Why a DMA access was refused. `no-domain`: the function sits behind nothing. `unreachable`: the host frame has no bytes
 * that the processor could read (a page of another device).
 */
export type FaultReason = 'no-domain' | 'beyond-width' | 'unmapped' | 'read-only' | 'write-only' | 'unreachable';

/** A refused access: who, where, how, why. */
export interface DmaFault {
  /** Name of the function. */
  readonly device: string;
  readonly group: number;
  /** The first byte that could not be reached. */
  readonly iova: bigint;
  readonly access: 'read' | 'write';
  readonly reason: FaultReason;
}

/** Told of each fault after it was recorded. A fact, not a question: what it throws is logged and changes nothing. */
export type FaultListener = (fault: DmaFault) => void;

/** The newest faults of an IOMMU, as many as there is room for. Source: VT-d fault recording registers, AMD-Vi event log. */
export class FaultLog {
  readonly #size: number;
  readonly #log: Log;
  #faults: DmaFault[] = [];
  readonly #listeners = new Set<FaultListener>();
  #total = 0;

  constructor(size: number, log: Log = silentLog) {
    if (!Number.isSafeInteger(size) || size < 1) {
      throw iommuErrors.BAD_OPTION({ option: 'faultLogSize', problem: `${size} is no whole number from 1` });
    }
    this.#size = size;
    this.#log = log;
  }

  /** Kept faults, oldest first. */
  get entries(): readonly DmaFault[] {
    return this.#faults;
  }

  /** Faults ever recorded. */
  get total(): number {
    return this.#total;
  }

  /** Faults that had to make room for newer ones since the last `clear`, in the sense of total - kept. */
  get dropped(): number {
    return this.#total - this.#faults.length;
  }

  /** Forgets what was recorded; listeners stay. */
  clear(): void {
    this.#faults = [];
    this.#total = 0;
  }

  /** @returns the undo. */
  listen(listener: FaultListener): Undo {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  record(fault: DmaFault): void {
    this.#total += 1;
    this.#faults.push(Object.freeze(fault));
    if (this.#faults.length > this.#size) this.#faults.shift();
    for (const listener of [...this.#listeners]) {
      try {
        listener(fault);
      } catch (cause) {
        this.#log.warn(`a listener of DMA faults threw (fault of ${fault.device})`, cause);
      }
    }
  }
}
