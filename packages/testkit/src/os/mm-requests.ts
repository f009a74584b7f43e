import type { Prot } from '@pinion/core';
import type { Fill, MemoryKind, MemoryObject } from './memory-object.js';

export interface MmOptions {
  /**
   * What a read-only pin of private memory that nobody touched takes: the shared page of zeros, which is `reserved` and
   * never counted (Linux 6.1), or a page of its own (`allocate`, from Linux 6.2; the default).
   */
  readonly readOnlyUntouched?: 'zero-page' | 'allocate';
}

export interface MmapRequest {
  /** Default `anon`. `none` is `anon` that nobody may touch. Ignored when `object` is given. */
  readonly kind?: MemoryKind | 'none';
  /** Bytes, at least 1; rounded up to whole pages. */
  readonly size: bigint;
  /** What the CPU may do, PROT_READ and PROT_WRITE; 0 is PROT_NONE. Default: both, but `none` has neither. */
  readonly prot?: Prot;
  /** First content; default zeros. */
  readonly fill?: Fill;
  /** Map this memory (a memfd, a BAR) instead of new one, from its page `offset` (bytes, whole pages; default 0). */
  readonly object?: MemoryObject;
  readonly offset?: bigint;
  /** Where, a page-aligned address; default: a free place, 2 MiB aligned. */
  readonly at?: bigint;
  /** All pages lie behind each other in the host, as in huge pages; otherwise in pieces of 2 MiB. */
  readonly contiguous?: boolean;
}

/** Whose limits an mlock is held against. */
export interface LockLimits {
  /** RLIMIT_MEMLOCK, bytes. */
  readonly lockBytes: number;
  readonly ipcLock: boolean;
}
