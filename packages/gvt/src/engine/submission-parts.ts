import type { Clock, Log } from '@pinion/core';
import type { EngineName } from '../faults.js';
import type { FewWarnings } from '../few-warnings.js';
import type { Interrupts } from '../interrupts.js';
import type { RegisterFile } from '../mmio.js';
import type { PagedAccess } from '../paged-access.js';
import type { PpgttMm, PpgttRoot } from '../ppgtt/mm.js';
import type { HostGpu } from './host-gpu.js';

/** Where contexts' address spaces come from. */
export interface ContextSpaces {
  /** The address space of these roots, with one reference. @throws PinionError when it cannot be had. */
  acquire(root: PpgttRoot): PpgttMm;
  /** Drops a reference. */
  release(space: PpgttMm): void;
}

/** What the submission of one vGPU works with. */
export interface SubmissionParts {
  /** For messages. */
  readonly device: string;
  /** Share of the engines' time. */
  readonly weight: number;
  readonly gpu: HostGpu;
  readonly registers: RegisterFile;
  readonly interrupts: Interrupts;
  readonly clock: Clock;
  readonly log: Log;
  /** What a guest can provoke again and again goes here instead. */
  readonly warnings: FewWarnings;
  /** Global graphics memory as the engine reaches it. */
  readonly memory: PagedAccess;
  /** Whether a guest page stands behind a global graphics address. */
  readonly isBacked: (address: number) => boolean;
  readonly spaces: ContextSpaces;
  /** The guest does what a guest that knows of GVT-g does not: from now on it is left alone with plain memory. */
  readonly failsafe: (reason: string, cause?: unknown) => void;
  /** Whether the guest has looked at PVINFO. */
  readonly isAware: () => boolean;
  /** The guest wrote to a submit port. */
  readonly onSubmit?: (() => void) | undefined;
}

/** The same for all engines: each has its own way to memory. */
export type AllEnginesParts = Omit<SubmissionParts, 'memory' | 'warnings'> & {
  readonly memoryOf: (engine: EngineName) => PagedAccess;
};
