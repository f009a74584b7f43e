import type { PinionError } from '@pinion/core';
import type { GvtEvent } from '../interrupt-tables.js';
import type { RegisterFile } from '../mmio.js';
import type { PagedAccess } from '../paged-access.js';
import type { CommandRegisters } from './command-registers.js';
import type { Engine } from './engines.js';

/** The commands of a ring between its head and its tail. */
export interface RingSource {
  /** Nothing is left. */
  readonly idle: boolean;
  /** Graphics address of the next command. */
  readonly position: number;
  /** Dwords up to the tail. @throws PinionError GVT_BAD_RING (EINVAL). */
  available(): number;
  /** The dword `index` behind the next command's first. */
  dword(index: number): number;
  /** The next command, of this many dwords, is done. */
  advance(dwords: number): void;
}

/** A batch of the global graphics address space as it was when it was audited. */
export interface ShadowBatch {
  readonly address: number;
  readonly words: Uint32Array;
}

/** What a streamer is to run. */
export interface StreamJob {
  /** One after the other. */
  readonly rings: readonly RingSource[];
  /** Global graphics memory. */
  readonly ggtt: PagedAccess;
  /** The context's own memory; undefined: it has none, and every address is a global one. */
  ppgtt: PagedAccess | undefined;
  /**
   * The audited copy of a global batch; `level` 1 was started by the ring, 2 by a batch. Undefined as a whole: nothing was audited, each command is
   * before it runs.
   */
  readonly shadow?: ((address: number, level: number) => ShadowBatch | undefined) | undefined;
  /** The memory behind new roots (PDP 0 to 3, bytes) that a ring command loads. */
  switchRoots?(pdps: readonly number[]): PagedAccess;
}

/** A command as its handler sees it. */
export interface CommandRun {
  readonly engine: Engine;
  readonly words: Uint32Array;
  readonly length: number;
  /** The command stands in a batch that the guest's own processes may write: what could harm others has no effect. */
  readonly restricted: boolean;
  readonly registers: CommandRegisters;
  readonly file: RegisterFile;
  /** 12 MHz ticks. */
  readonly ticks: number;
  /** The memory that a command's bit means; undefined where it may not. */
  memory(global: boolean): PagedAccess | undefined;
  /** Tells the guest, when the time has come. */
  signal(event: GvtEvent): void;
  loadRoots(pdps: readonly number[]): void;
  refuse(what: string): PinionError;
}

/** A handler answers `wait` to be called again later, `end` to end the batch it stands in. */
export type HandlerResult = 'wait' | 'end' | undefined;
