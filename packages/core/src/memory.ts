import type { Pfn, VaddrFrame } from './units.js';

/**
 * What a host page is to VFIO. Source: is_invalid_reserved_pfn() and vfio_pin_page_external().
 * - `normal`: counted against RLIMIT_MEMLOCK, given back at unpin.
 * - `reserved`: has a struct page but is never counted and never given back (the shared zero page, firmware pages).
 * - `device`: no struct page (a BAR that was mmapped): mappable, never counted, cannot be pinned by a driver.
 */
export type PageClass = 'normal' | 'reserved' | 'device';

/** The pages of the host: what a page frame number leads to. Source: struct page, pin_user_pages(), unpin_user_page(). */
export interface HostMemory {
  pageClass(pfn: Pfn): PageClass;
  /**
   * The live bytes of `count` host-contiguous pages that begin at `pfn`, without a copy. Writing into them writes memory.
   * @throws RangeError if the pages do not lie behind each other in one piece of memory (see `contiguous`).
   */
  bytes(pfn: Pfn, count: number): Uint8Array;
  /** Whether the page after `pfn` is the frame `pfn + 1` in the same piece of memory, so that one view covers both. */
  contiguous(pfn: Pfn): boolean;
  /** Gives back one reference that `AddressSpace.pinPage` took; `dirty` marks the page as written. */
  unpinPage(pfn: Pfn, dirty: boolean): void;
}

/**
 * An address space with its locked-page counter. Source: struct mm_struct.
 *
 * Whoever keeps one **grabs** it (mm_count): the counter then outlives the process, the memory does not. `alive` says
 * whether the memory is still there (mm_users); after that nothing can be pinned or copied, and accounting is settled on
 * an object that no process sees any more (threads/2016-10).
 */
export interface AddressSpace {
  readonly name: string;
  /** False once the last task that used it exited or called exec. */
  readonly alive: boolean;
  /** VmLck in pages. */
  readonly lockedPages: number;
  grab(): void;
  drop(): void;
  /** Adds `delta` pages (negative: takes away) to the locked-page counter. The caller has checked the limit. */
  accountLocked(delta: number): void;
  /**
   * Faults one page in, takes a long-term reference to it and returns its frame. A page of class `device` is returned
   * without a reference. Source: vaddr_get_pfns().
   * @throws PinionError EFAULT for a hole, a forbidden access or a write to a read-only page; ENOMEM; EOPNOTSUPP (fsdax).
   */
  pinPage(page: VaddrFrame, write: boolean): Pfn;
  /**
   * Copies bytes out of (`write` false) or into (`write` true) the address space.
   * @returns false if any byte could not be reached; what was copied before stays copied. Source: copy_from_user().
   */
  copy(vaddr: bigint, bytes: Uint8Array, write: boolean): boolean;
}

/** Who is asking: the memory, limits and capabilities of the calling process. Source: struct task_struct (group leader). */
export interface Task {
  readonly name: string;
  /** Null once the task has exited: exit_mm() comes before the files are closed (threads/2016-10). */
  readonly mm: AddressSpace | null;
  /** RLIMIT_MEMLOCK in pages (rounded down), read anew at every use; Infinity when unlimited. */
  readonly lockLimit: number;
  /** CAP_IPC_LOCK: locked pages are counted but not limited. */
  readonly ipcLock: boolean;
  /** CAP_SYS_RAWIO: may use groups without an IOMMU. */
  readonly rawIo: boolean;
}
