import { type HostMemory, PAGE_SIZE, type PageClass, type Pfn, type Task } from '@pinion/core';

/** Frames in one piece of the fake host memory: frames follow each other over the border of two pieces, bytes do not. */
export const PIECE = 16;

/** A host whose every frame below `frames` exists, in pieces of 16 pages. */
export class FakeMemory implements HostMemory {
  readonly #pieces: Uint8Array[];

  constructor(frames = 1024) {
    this.#pieces = Array.from({ length: Math.ceil(frames / PIECE) }, () => new Uint8Array(PIECE * PAGE_SIZE));
  }

  pageClass(): PageClass {
    return 'normal';
  }

  bytes(pfn: Pfn, count: number): Uint8Array {
    const first = pfn % PIECE;
    const piece = this.#pieces[Math.floor(pfn / PIECE)];
    if (piece === undefined || first + count > PIECE) throw new RangeError(`${count} pages from ${pfn}`);
    return piece.subarray(first * PAGE_SIZE, (first + count) * PAGE_SIZE);
  }

  contiguous(pfn: Pfn): boolean {
    return pfn % PIECE < PIECE - 1;
  }

  unpinPage(): void {}
}

/** A caller that may do everything. */
export const root: Task = { name: 'root', mm: null, lockLimit: Number.POSITIVE_INFINITY, ipcLock: true, rawIo: true };
/** A caller without capabilities. */
export const user: Task = { name: 'user', mm: null, lockLimit: 16, ipcLock: false, rawIo: false };
