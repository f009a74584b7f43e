import {
  type AddressSpace,
  frameAddress,
  frameCount,
  isErrno,
  PAGE_SIZE,
  type Pfn,
  PROT_READ,
  PROT_RW,
  PROT_WRITE,
  type Prot,
  pageOffset,
  type VaddrFrame,
  vaddrFrame,
} from '@pinion/core';
import { simErrors } from '../errors.js';
import type { SimulatedHost } from './host.js';
import { MemoryObject } from './memory-object.js';
import type { LockLimits, MmapRequest, MmOptions } from './mm-requests.js';
import { type Vma, VmaList } from './vma-list.js';

/** One past the last byte that a process can map. Source: TASK_SIZE_MAX of x86-64 with four levels. */
export const USER_SPACE_SIZE = (1n << 47n) - 4096n;
const END_FRAME = Number(USER_SPACE_SIZE >> 12n);
/** Mappings are 2 MiB aligned, with at least 2 MiB of nothing on both sides. */
const ALIGN_FRAMES = 512;
const FIRST_MMAP_FRAME = Number(0x7f00_0000_0000n >> 12n);

/** Pages of a system call's range: from the page of `vaddr`, rounded up at the end. */
interface Span {
  readonly first: number;
  readonly last: number;
}

/**
 * A simulated address space. Everything is synchronous. Memory calls behave like the Linux calls of the same name, also
 * in what they leave behind when they fail. Addresses and sizes are bytes.
 *
 * Every memory call throws SIM_MM_DEAD (ESRCH) once the last task has left it, but `grab`, `drop`, `accountLocked`.
 */
export class SimulatedMm implements AddressSpace {
  readonly name: string;
  readonly #host: SimulatedHost;
  readonly #options: MmOptions;
  readonly #vmas = new VmaList();
  #alive = true;
  #grabs = 0;
  #lockedPages = 0;
  #nextFrame = FIRST_MMAP_FRAME;

  constructor(host: SimulatedHost, name: string, options: MmOptions = {}) {
    this.#host = host;
    this.name = name;
    this.#options = options;
  }

  get alive(): boolean {
    return this.#alive;
  }

  get lockedPages(): number {
    return this.#lockedPages;
  }

  /** References that keep the counter (not the memory). Source: mm_count. */
  get grabs(): number {
    return this.#grabs;
  }

  grab(): void {
    this.#grabs++;
  }

  /** @throws PinionError SIM_MM_UNDERFLOW (EINVAL): a bug of the caller. */
  drop(): void {
    if (this.#grabs === 0) throw simErrors.MM_UNDERFLOW({ mm: this.name });
    this.#grabs--;
  }

  /** @throws PinionError SIM_LOCKED_UNDERFLOW (EINVAL): a bug of the caller, nothing has changed. */
  accountLocked(delta: number): void {
    if (this.#lockedPages + delta < 0) {
      throw simErrors.LOCKED_UNDERFLOW({ mm: this.name, locked: this.#lockedPages, delta });
    }
    this.#lockedPages += delta;
  }

  /**
   * Maps memory and returns its address.
   * @throws PinionError SIM_BAD_RANGE (EINVAL) for size 0, an unaligned `at` or `offset`, or more than `object` has;
   * SIM_OVERLAP (EEXIST) when `at` is taken; SIM_NO_SPACE (ENOMEM).
   */
  mmap(request: MmapRequest): bigint {
    const pages = this.#checkMmap(request);
    const first = request.at === undefined ? this.#freePlace(pages) : Number(vaddrFrame(request.at));
    const vaddr = frameAddress(first);
    if (first + pages > END_FRAME) throw simErrors.NO_SPACE({ mm: this.name, call: 'mmap', vaddr });
    if (this.#vmas.overlaps(first, first + pages - 1)) {
      throw simErrors.OVERLAP({ mm: this.name, call: 'mmap', vaddr });
    }
    const { kind = 'anon', fill, contiguous } = request;
    const object =
      request.object ??
      new MemoryObject(this.#host, { kind: kind === 'none' ? 'anon' : kind, pages, fill, contiguous });
    const prot = request.prot ?? (kind === 'none' ? 0 : PROT_RW);
    const offset = Number((request.offset ?? 0n) >> 12n);
    this.#vmas.insert({ first, last: first + pages - 1, prot, locked: false, object, offset });
    return vaddr;
  }

  /**
   * Takes memory away; holes are skipped, mappings are split, locked pages are uncounted. Pinned pages live on.
   * @throws PinionError SIM_BAD_RANGE (EINVAL) for size 0, an unaligned address or one outside user space.
   */
  munmap(vaddr: bigint, size: bigint): void {
    const span = this.#span('munmap', vaddr, size);
    for (const vma of this.#vmas.within(span.first, span.last)) this.#unmap(vma);
  }

  /**
   * Changes what the CPU may do; pins are not affected.
   * @throws PinionError SIM_BAD_RANGE (EINVAL); SIM_HOLE (ENOMEM): what lay before the hole has been changed.
   */
  mprotect(vaddr: bigint, size: bigint, prot: Prot): void {
    if (size === 0n && pageOffset(vaddr) === 0) return;
    const whole = this.#eachUntilHole(this.#span('mprotect', vaddr, size), (vma) => {
      vma.prot = prot;
    });
    if (!whole) throw simErrors.HOLE({ mm: this.name, call: 'mprotect', vaddr });
  }

  /**
   * MADV_DONTNEED: private pages are dropped, the next touch finds zeros; shared memory keeps its content. Holes are
   * skipped, but reported at the end.
   * @throws PinionError SIM_BAD_RANGE (EINVAL); SIM_NOT_DISCARDABLE (EINVAL) at locked or device memory, what lay before
   * is gone; SIM_HOLE (ENOMEM).
   */
  madviseDontneed(vaddr: bigint, size: bigint): void {
    if (size === 0n && pageOffset(vaddr) === 0) return;
    const span = this.#span('madvise', vaddr, size);
    let covered = 0;
    for (const vma of this.#vmas.within(span.first, span.last)) {
      if (vma.locked || vma.object.kind === 'device') {
        throw simErrors.NOT_DISCARDABLE({ mm: this.name, call: 'madvise', vaddr: frameAddress(vma.first) });
      }
      discardPages(vma);
      covered += frameCount(vma);
    }
    if (covered !== frameCount(span)) throw simErrors.HOLE({ mm: this.name, call: 'madvise', vaddr });
  }

  /**
   * Locks whole pages (the range is widened to page borders) and faults them in. Pages locked before are not counted
   * again, neither against the limit nor in `lockedPages`. Device memory is passed over.
   * @throws PinionError SIM_LOCK_FORBIDDEN (EPERM), SIM_LOCK_LIMIT (ENOMEM): nothing has changed; SIM_HOLE (ENOMEM) for a
   * hole or memory without any access: what lay before (for the latter: all of it) is locked; SIM_OUT_OF_MEMORY (ENOMEM).
   */
  mlock(vaddr: bigint, size: bigint, limits: LockLimits): void {
    const call = { mm: this.name, call: 'mlock', vaddr };
    if (limits.lockBytes === 0 && !limits.ipcLock) throw simErrors.LOCK_FORBIDDEN(call);
    if (size === 0n) return;
    const span = this.#lockSpan('mlock', vaddr, size);
    this.#checkLockLimit(span, limits, call);
    const whole = this.#eachUntilHole(span, (vma) => this.#setLocked(vma, true));
    if (!whole || !this.#populate(span)) throw simErrors.HOLE(call);
  }

  /** @throws PinionError SIM_HOLE (ENOMEM): what lay before the hole is unlocked. */
  munlock(vaddr: bigint, size: bigint): void {
    if (size === 0n) return;
    const whole = this.#eachUntilHole(this.#lockSpan('munlock', vaddr, size), (vma) => this.#setLocked(vma, false));
    if (!whole) throw simErrors.HOLE({ mm: this.name, call: 'munlock', vaddr });
  }

  /** Reads as the process itself would. @throws PinionError SIM_FAULT (EFAULT), where a process would get SIGSEGV. */
  peek(vaddr: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (!this.copy(vaddr, bytes, false)) throw simErrors.FAULT({ mm: this.name, vaddr, write: false });
    return bytes;
  }

  /** Writes as the process itself would. @throws PinionError SIM_FAULT (EFAULT); what lay before the fault is written. */
  poke(vaddr: bigint, bytes: Uint8Array): void {
    if (!this.copy(vaddr, bytes, true)) throw simErrors.FAULT({ mm: this.name, vaddr, write: true });
  }

  /**
   * `write` asks for a page that may be written: EFAULT in memory without PROT_WRITE, also private one. Frames of class
   * `reserved` and `device` carry no reference.
   * @throws PinionError SIM_FAULT (EFAULT), SIM_NOT_PINNABLE (EOPNOTSUPP), SIM_OUT_OF_MEMORY (ENOMEM).
   */
  pinPage(page: VaddrFrame, write: boolean): Pfn {
    this.#checkAlive('pinPage', page);
    const vma = this.#vmas.find(page);
    if (vma === undefined || (vma.prot & (write ? PROT_WRITE : PROT_READ)) === 0) {
      throw simErrors.FAULT({ mm: this.name, vaddr: frameAddress(page), write });
    }
    if (vma.object.kind === 'dax') throw simErrors.NOT_PINNABLE({ mm: this.name, vaddr: frameAddress(page), write });
    const index = page - vma.first + vma.offset;
    if (!write && this.#options.readOnlyUntouched === 'zero-page' && vma.object.zeroBacked(index)) {
      return this.#host.zeroPage;
    }
    const pfn = vma.object.touch(index);
    if (vma.object.kind !== 'device' && vma.object.kind !== 'reserved') this.#host.pinPage(pfn);
    return pfn;
  }

  copy(vaddr: bigint, bytes: Uint8Array, write: boolean): boolean {
    if (!this.#alive) return false;
    let done = 0;
    while (done < bytes.length) {
      const address = vaddr + BigInt(done);
      if (address >= USER_SPACE_SIZE) return false;
      const length = Math.min(bytes.length - done, PAGE_SIZE - pageOffset(address));
      if (!this.#tryCopyInPage(address, bytes.subarray(done, done + length), write)) return false;
      done += length;
    }
    return true;
  }

  /**
   * The address space of a child: private pages are copied (the parent keeps its own, so its pins stay right), all other
   * memory is the same. Nothing is locked in the child. Source: dup_mm().
   * @throws PinionError SIM_OUT_OF_MEMORY (ENOMEM); nothing has changed.
   */
  fork(name: string): SimulatedMm {
    this.#checkAlive('fork', 0);
    const child = new SimulatedMm(this.#host, name, this.#options);
    child.#nextFrame = this.#nextFrame;
    const copies = new Map<MemoryObject, MemoryObject>();
    try {
      for (const vma of this.#vmas.all) {
        const object = copyForChild(vma.object, copies);
        child.#vmas.insert({ ...vma, object, locked: false });
      }
    } catch (failure) {
      child.exit();
      throw failure;
    }
    return child;
  }

  /** The last task leaves: the memory goes (pinned pages live on), the counter stays. Source: mmput(), exit_mmap(). */
  exit(): void {
    this.#checkAlive('exit', 0);
    for (const vma of [...this.#vmas.all]) this.#vmas.remove(vma);
    this.#alive = false;
  }

  #checkAlive(call: string, page: number): void {
    if (!this.#alive) throw simErrors.MM_DEAD({ mm: this.name, call, vaddr: frameAddress(page) });
  }

  #checkMmap({ size, at = 0n, offset = 0n, object }: MmapRequest): number {
    const bad = (why: string) => simErrors.BAD_RANGE({ mm: this.name, call: 'mmap', vaddr: at, why });
    this.#checkAlive('mmap', 0);
    if (size <= 0n) throw bad(`size ${size}`);
    if (at < 0n || pageOffset(at) !== 0) throw bad('the address is not page-aligned');
    if (size > USER_SPACE_SIZE) throw simErrors.NO_SPACE({ mm: this.name, call: 'mmap', vaddr: at });
    const pages = Number((size + 4095n) >> 12n);
    if (offset < 0n || pageOffset(offset) !== 0) throw bad('the offset is not page-aligned');
    if (object !== undefined && Number(offset >> 12n) + pages > object.pages) throw bad('more than the object has');
    return pages;
  }

  #freePlace(pages: number): number {
    let first = this.#nextFrame;
    while (this.#vmas.overlaps(first - ALIGN_FRAMES, first + pages - 1 + ALIGN_FRAMES)) first += ALIGN_FRAMES;
    this.#nextFrame = (Math.floor((first + pages - 1) / ALIGN_FRAMES) + 2) * ALIGN_FRAMES;
    return first;
  }

  #span(call: string, vaddr: bigint, size: bigint): Span {
    const bad = (why: string) => simErrors.BAD_RANGE({ mm: this.name, call, vaddr, why });
    this.#checkAlive(call, 0);
    if (vaddr < 0n || pageOffset(vaddr) !== 0) throw bad('the address is not page-aligned');
    if (size <= 0n) throw bad(`size ${size}`);
    const end = vaddr + ((size + 4095n) & ~4095n);
    if (end > USER_SPACE_SIZE) throw bad('outside user space');
    return { first: Number(vaddr >> 12n), last: Number(end >> 12n) - 1 };
  }

  #lockSpan(call: string, vaddr: bigint, size: bigint): Span {
    const start = vaddr & ~4095n;
    return this.#span(call, start, size + (vaddr - start));
  }

  /** Runs `change` on the stretches of the range up to the first hole. @returns whether there was none. */
  #eachUntilHole(span: Span, change: (vma: Vma) => void): boolean {
    let next = span.first;
    for (const vma of this.#vmas.within(span.first, span.last)) {
      if (vma.first !== next) return false;
      change(vma);
      next = vma.last + 1;
    }
    return next === span.last + 1;
  }

  #unmap(vma: Vma): void {
    this.#setLocked(vma, false);
    discardPages(vma);
    this.#vmas.remove(vma);
  }

  #setLocked(vma: Vma, locked: boolean): void {
    if (vma.locked === locked || vma.object.kind === 'device') return;
    this.accountLocked(locked ? frameCount(vma) : -frameCount(vma));
    vma.locked = locked;
  }

  #checkLockLimit(span: Span, limits: LockLimits, call: { mm: string; call: string; vaddr: bigint }): void {
    const limit = Math.floor(limits.lockBytes / PAGE_SIZE);
    let pages = frameCount(span) + this.#lockedPages;
    if (limits.ipcLock || pages <= limit) return;
    for (const vma of this.#vmas.within(span.first, span.last)) if (vma.locked) pages -= frameCount(vma);
    if (pages > limit) throw simErrors.LOCK_LIMIT({ ...call, pages, limit });
  }

  /** @returns false at memory that cannot be touched at all. */
  #populate(span: Span): boolean {
    for (const vma of this.#vmas.within(span.first, span.last)) {
      if (vma.prot === 0) return false;
      const own = (vma.prot & PROT_WRITE) !== 0;
      for (let page = vma.first; page <= vma.last; page++) {
        const index = page - vma.first + vma.offset;
        if (own || !vma.object.zeroBacked(index)) vma.object.touch(index);
      }
    }
    return true;
  }

  /** Memory that runs out is a fault here, not an error: copy_from_user() knows only "not all of it". */
  #tryCopyInPage(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    try {
      return this.#copyInPage(address, bytes, write);
    } catch (failure) {
      if (isErrno(failure, 'ENOMEM')) return false;
      throw failure;
    }
  }

  #copyInPage(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    const page = vaddrFrame(address);
    const vma = this.#vmas.find(page);
    // A CPU that may write a page may also read it: page tables have no bit for "write only".
    if (vma === undefined || (vma.prot & (write ? PROT_WRITE : PROT_RW)) === 0) return false;
    const index = page - vma.first + vma.offset;
    const start = pageOffset(address);
    if (!write && vma.object.zeroBacked(index)) {
      bytes.fill(0);
      return true;
    }
    const memory = this.#host.bytes(vma.object.touch(index), 1).subarray(start, start + bytes.length);
    if (write) memory.set(bytes);
    else bytes.set(memory);
    return true;
  }
}

const discardPages = (vma: Vma): void => {
  for (let page = vma.first; page <= vma.last; page++) vma.object.discard(page - vma.first + vma.offset);
};

const copyForChild = (object: MemoryObject, copies: Map<MemoryObject, MemoryObject>): MemoryObject => {
  if (object.kind !== 'anon') return object;
  const copy = copies.get(object) ?? object.copy();
  copies.set(object, copy);
  return copy;
};
