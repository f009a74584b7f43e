import { asPfn, type HostMemory, hex, PAGE_SIZE, type PageClass, type Pfn } from '@pinion/core';
import { vmErrors } from './errors.js';

/** Pages in one ArrayBuffer: 1 GiB, which every supported Node can allocate. */
const WINDOW_PAGES = 2 ** 18;
/** Frame numbers begin here, so that a forgotten translation (guest frame used as host frame) hits nothing. */
const FIRST_PFN = 0x10_0000;

/** Where the bytes of a window are. */
export interface MemoryPiece {
  /** All bytes, live: asked for anew at each use, because an emulator may move its memory. Length 0 once freed. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Nobody has these bytes any more: every view of them, whoever kept one, is to be empty from here on. */
  free(): void;
}

/** Bytes of a buffer of their own, which is detached when they go. */
const ownPiece = (buffer: ArrayBuffer): MemoryPiece => {
  const bytes = new Uint8Array(buffer);
  return {
    bytes,
    // The copy is dropped; what counts is that the old buffer is detached.
    free: () => void structuredClone(buffer, { transfer: [buffer] }),
  };
};

/** One piece of host memory: consecutive frames. */
export class MemoryWindow {
  readonly first: Pfn;
  readonly pages: number;
  readonly #piece: MemoryPiece;
  readonly #references: Uint32Array;
  #referenced = 0;
  #owned = true;
  #gone = false;

  /** `piece`: its bytes, `pages` pages. */
  constructor(first: Pfn, pages: number, piece: MemoryPiece) {
    this.first = first;
    this.pages = pages;
    this.#piece = piece;
    this.#references = new Uint32Array(pages);
  }

  /** All bytes, live. Length 0 once the window was freed. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#piece.bytes;
  }

  /** Pages somebody holds a long-term reference to. */
  get referencedPages(): number {
    return this.#referenced;
  }

  get freed(): boolean {
    return !this.#owned && this.#referenced === 0;
  }

  reference(page: number): void {
    const before = this.#references[page] ?? 0;
    this.#references[page] = before + 1;
    if (before === 0) this.#referenced += 1;
  }

  /** @returns false if nobody held a reference. */
  unreference(page: number): boolean {
    const before = this.#references[page] ?? 0;
    if (before === 0) return false;
    this.#references[page] = before - 1;
    if (before === 1) this.#referenced -= 1;
    this.#freeIfUnused();
    return true;
  }

  /** The address space that had these pages is gone: the bytes go with the last reference. */
  disown(): void {
    this.#owned = false;
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (!this.freed || this.#gone) return;
    this.#gone = true;
    this.#piece.free();
  }
}

/**
 * The memory of the machine that runs VMs: page frames in ordinary ArrayBuffers. Frame numbers are never used twice, so a
 * frame that somebody kept past its unpin leads to nothing instead of to somebody else's page.
 *
 * A page lives as long as its address space or a reference to it, whichever is longer; then its window's bytes are detached: even
 * a raw typed array over them reads as empty. Source: get_user_pages references outlive exit_mmap().
 */
export class MachineMemory implements HostMemory {
  readonly #windowPages: number;
  readonly #makeBuffer: (bytes: number) => ArrayBuffer;
  #windows: MemoryWindow[] = [];
  #nextPfn = FIRST_PFN;

  /**
   * `windowPages`: most pages in one buffer; frames of different windows are never contiguous.
   * `makeBuffer`: where zeroed bytes come from; a RangeError of its means that there are none.
   */
  constructor(windowPages = WINDOW_PAGES, makeBuffer = (bytes: number): ArrayBuffer => new ArrayBuffer(bytes)) {
    this.#windowPages = windowPages;
    this.#makeBuffer = makeBuffer;
  }

  /** Zeroed frames, in as few windows as possible. @throws VM_NO_HOST_MEMORY (ENOMEM); nothing is taken then. */
  allocate(pages: number): readonly MemoryWindow[] {
    const windows: MemoryWindow[] = [];
    let next = this.#nextPfn;
    for (let done = 0; done < pages; done += this.#windowPages) {
      const window = this.#makeWindow(asPfn(next), Math.min(pages - done, this.#windowPages));
      next += window.pages + 1;
      windows.push(window);
    }
    this.#take(windows, next);
    return windows;
  }

  /** Makes memory that somebody else made, such as an emulator's RAM, part of this machine: `pages` fresh frame numbers for `piece`. */
  adopt(pages: number, piece: MemoryPiece): MemoryWindow {
    const window = new MemoryWindow(asPfn(this.#nextPfn), pages, piece);
    this.#take([window], this.#nextPfn + pages + 1);
    return window;
  }

  /** Pages with at least one long-term reference: 0 once every device gave everything back. */
  get referencedPages(): number {
    return this.#windows.reduce((sum, window) => sum + window.referencedPages, 0);
  }

  /** Bytes that are really there. */
  get residentBytes(): number {
    return this.#windows.reduce((sum, window) => sum + window.bytes.byteLength, 0);
  }

  /** Every page of guest RAM is an ordinary page; a frame this machine never had is nobody's: `device`. */
  pageClass(pfn: Pfn): PageClass {
    return this.#find(pfn) === undefined ? 'device' : 'normal';
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    const window = this.#find(pfn);
    const page = window === undefined ? 0 : pfn - window.first;
    if (window === undefined || window.freed || count < 1 || page + count > window.pages) {
      throw new RangeError(`host frames ${hex(pfn)}..${hex(pfn + count - 1)} are not one piece of memory`);
    }
    return window.bytes.subarray(page * PAGE_SIZE, (page + count) * PAGE_SIZE);
  }

  contiguous(pfn: Pfn): boolean {
    const window = this.#find(pfn);
    return window !== undefined && pfn + 1 < window.first + window.pages;
  }

  /** @throws RangeError for a frame without references: whoever unpins it keeps wrong books. */
  unpinPage(pfn: Pfn, _dirty: boolean): void {
    const window = this.#find(pfn);
    if (window?.unreference(pfn - window.first) !== true) throw new RangeError(`host frame ${hex(pfn)} is not pinned`);
  }

  /** The window that holds `pfn`: binary search, frames were given out in ascending order. */
  #find(pfn: Pfn): MemoryWindow | undefined {
    let low = 0;
    let high = this.#windows.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const window = this.#windows[middle];
      if (window === undefined) return undefined;
      if (pfn < window.first) high = middle - 1;
      else if (pfn >= window.first + window.pages) low = middle + 1;
      else return window;
    }
    return undefined;
  }

  #makeWindow(first: Pfn, pages: number): MemoryWindow {
    try {
      return new MemoryWindow(first, pages, ownPiece(this.#makeBuffer(pages * PAGE_SIZE)));
    } catch (cause) {
      throw vmErrors.NO_HOST_MEMORY({ pages }, cause);
    }
  }

  #take(windows: readonly MemoryWindow[], next: number): void {
    this.#nextPfn = next;
    this.#windows = this.#windows.filter((window) => !window.freed);
    this.#windows.push(...windows);
  }
}
