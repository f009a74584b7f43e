import { type Gfn, gpaFrame, PAGE_SIZE, pageOffset } from '@pinion/core';

/** Called with the guest-physical address (bytes) and the 1..8 bytes that are there now. */
export type OnGuestWrite = (gpa: bigint, bytes: Uint8Array) => void;

/** Bytes that a CPU stores at once. */
const STORE = 8;

/**
 * Guest pages whose writes somebody wants to hear of. Writes of the guest's programs are trapped, because they go through its memory's
 * functions; copies by devices are not, as with page tracking in KVM.
 */
export class WriteWatches {
  readonly #watches = new Map<Gfn, Set<OnGuestWrite>>();

  /** Pages that are watched. */
  get pages(): number {
    return this.#watches.size;
  }

  /**
   * Calls `onWrite` after every write of the guest into the page: one call per aligned piece of at most 8 bytes, ascending, each before
   * the next piece is written. A watch that throws breaks the guest's write there. @returns the undo; a second call does nothing.
   */
  watchWrites(gfn: Gfn, onWrite: OnGuestWrite): () => void {
    const watchers = this.#watches.get(gfn) ?? new Set();
    this.#watches.set(gfn, watchers);
    const watch: OnGuestWrite = (gpa, bytes) => onWrite(gpa, bytes);
    watchers.add(watch);
    return () => {
      watchers.delete(watch);
      if (watchers.size === 0 && this.#watches.get(gfn) === watchers) this.#watches.delete(gfn);
    };
  }

  /** Carries out a guest's write of `bytes` at `gpa` by calls of `store`, and tells who watches. */
  write(gpa: bigint, bytes: Uint8Array, store: OnGuestWrite): void {
    if (this.#watches.size === 0) store(gpa, bytes);
    else this.#writeByPages(gpa, bytes, store);
  }

  #writeByPages(gpa: bigint, bytes: Uint8Array, store: OnGuestWrite): void {
    for (let from = 0; from < bytes.length; ) {
      const end = this.#endOfPiece(gpa, bytes.length, from);
      const address = gpa + BigInt(from);
      const piece = bytes.subarray(from, end);
      store(address, piece);
      for (const watch of [...(this.#watches.get(gpaFrame(address)) ?? [])]) watch(address, piece.slice());
      from = end;
    }
  }

  /** Where the piece that begins at `from` ends: after one store in a watched page, else before the next watched page. */
  #endOfPiece(gpa: bigint, length: number, from: number): number {
    const address = gpa + BigInt(from);
    if (this.#watches.has(gpaFrame(address))) return Math.min(length, from + STORE - (pageOffset(address) % STORE));
    let end = from + PAGE_SIZE - pageOffset(address);
    while (end < length && !this.#watches.has(gpaFrame(gpa + BigInt(end)))) end += PAGE_SIZE;
    return Math.min(length, end);
  }
}
