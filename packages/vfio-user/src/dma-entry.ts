import type { Prot } from '@pinion/core';
import type { Piece } from './client-pages.js';

/** Who mapped: a connection. */
export type Owner = object;

/** One mapping of a VM. Several connections of the VM may have asked for it; it goes with the last of them. */
export interface DmaEntry {
  readonly address: bigint;
  readonly size: bigint;
  readonly prot: Prot;
  /** As they came: rights, and how the file is reached. */
  readonly flags: number;
  readonly offset: bigint;
  /** What tells its file from others; undefined without a file. */
  readonly file: string | undefined;
  readonly piece: Piece;
  readonly owners: Set<Owner>;
}
